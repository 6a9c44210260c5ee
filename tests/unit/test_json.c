/* The JSON reader: its rule, and equal values to jansson's reader where jansson accepts the text. */
#include "base/json.h"
#include "test.h"

#include <time.h>

static json_t *read(const char *text) {
    mw_json_report report;
    json_t *value = mw_json_read(text, strlen(text), &report);
    CHECK((value != NULL) == (report.status == MW_OK));
    return value;
}

/* For a text that jansson accepts. */
static void same_as_jansson(const char *text) {
    json_t *expected = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL), *got = read(text);
    NEED(expected != NULL);
    if (!json_equal(expected, got)) fprintf(stderr, "other than jansson's: %s\n", text);
    CHECK(json_equal(expected, got));
    json_decref(expected);
    json_decref(got);
}

static void plain_json(void) {
    static const char *const texts[] = {"{}",
                                        "[]",
                                        "[[],{}]",
                                        " \t\r\n[ 1 , 2 ] \n",
                                        "0",
                                        "-0",
                                        "-0.0",
                                        "10",
                                        "-1.5e-3",
                                        "1E+2",
                                        "true",
                                        "[false,null]",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "0.1",
                                        "123456789.123456789e-7",
                                        "5e-324",
                                        "{\"a\":{\"b\":[1,{\"c\":\"d\"}]},\"e\":\"\"}",
                                        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                        "\"\\u0041\\u00e9\\u20ac\"",
                                        "\"\\ud83d\\ude00x\"",
                                        "\"a\\u0000b\"",
                                        "\"na\xc3\xafve \xf0\x9f\x98\x80\"",
                                        "{\"k\xc3\xa9y\\n\":1}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) same_as_jansson(texts[i]);
}

static void check_odd(const char *text, const char *shown) {
    json_t *value = read(text);
    CHECK(!json_is_number(value) && mw_json_odd(value) && strcmp(mw_json_odd(value), shown) == 0);
    json_decref(value);
}

static void numbers_beyond(void) {
    json_t *value = read("1000000000000000019884624838656");
    CHECK(json_is_real(value) && json_real_value(value) == 1e30);
    json_decref(value);
    value = read("[9223372036854775808, -9223372036854775809]");
    CHECK(json_real_value(json_array_get(value, 0)) == 0x1p63 && json_is_real(json_array_get(value, 1)));
    json_decref(value);
    check_odd("NaN", "NaN");
    check_odd("Infinity", "Infinity");
    check_odd("-Infinity", "-Infinity");
    check_odd("1e400", "1e400");
    check_odd("-1e400", "-1e400");
    value = read("1e-400");
    CHECK(json_is_real(value) && json_real_value(value) == 0);
    json_decref(value);
}

static void keys_given_twice(void) {
    json_t *value = read("{\"a\": 1, \"a\": 1, \"b\": 1, \"b\": 2, \"b\": 1, \"c\": {}, \"c\": {\"d\": 1}}");
    CHECK(json_integer_value(json_object_get(value, "a")) == 1);
    CHECK(mw_json_odd(json_object_get(value, "b")) && mw_json_odd(json_object_get(value, "c")));
    CHECK(!mw_json_odd(json_object_get(value, "a")));
    int64_t number;
    const json_t *object;
    CHECK_SAYS(MW_ERR_FORMAT, "f.json: 'b': expected a whole number from 0 to 9, found two different values",
               mw_json_get_whole((mw_json_source){"f.json", value}, "b", 0, 0, 9, &number));
    CHECK_SAYS(MW_ERR_FORMAT, "'c': expected an object, found two different values",
               mw_json_get_object((mw_json_source){"f.json", value}, "c", &object));
    json_decref(value);
}

static void characters(void) {
    mw_json_report report;
    static const char marked[] = "\xef\xbb\xbf {\"a\": \"\\ud83d \\ude00\\ud83dx\\ud83d\\ud83d\\ude00\"}";
    json_t *value = mw_json_read(marked, sizeof marked - 1, &report);
    const char *text = json_string_value(json_object_get(value, "a"));
    CHECK(text && strcmp(text, "\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd\xf0\x9f\x98\x80") == 0);
    CHECK(report.surrogates == 4);
    json_decref(value);
    char bytes[8];
    value = read("{\"a\\u0000b\": 1}");
    const char *key = json_object_iter_key(json_object_iter(value));
    CHECK(mw_json_key_bytes(key, bytes) == 3 && memcmp(bytes, "a\0b", 4) == 0);
    json_decref(value);
    value = read("{\"n\": \"a\\u0000b\"}");
    CHECK(json_string_length(json_object_get(value, "n")) == 3 && !mw_json_text(value, "n"));
    CHECK_SAYS(MW_ERR_FORMAT, "'n': expected a text without \\u0000",
               mw_json_get_text((mw_json_source){"f", value}, "n", "", &text));
    json_decref(value);
}

static void broken_json(void) {
    static const struct {
        const char *text, *problem;
        int line;
    } bad[] = {{"", "expected a value, found the end", 1},
               {"{\"a\":1,\n\"b\" 2}", "expected ':', found '2'", 2},
               {"[1,\n2\n,]", "expected a value, found ']'", 3},
               {"[1 2]", "expected ',' or ']', found '2'", 1},
               {"{\"a\":1,}", "expected a key in quotes, found '}'", 1},
               {"{a:1}", "expected a key in quotes, found 'a'", 1},
               {"[1]\n[2]", "expected the end, found '['", 2},
               {"\"abc", "expected the quote that ends a text, found the end", 1},
               {"\"a\tb\"", "expected an escape for a control character, found byte 0x09", 1},
               {"\"\xff\"", "invalid UTF-8", 1},
               {"\"\\x\"", "expected an escape, found 'x'", 1},
               {"\"\\u12g4\"", "expected four hexadecimal digits, found 'g'", 1},
               {"01", "expected the end, found '1'", 1},
               {"-", "expected a digit, found the end", 1},
               {"1.", "expected a digit, found the end", 1},
               {"1e", "expected a digit, found the end", 1},
               {"+1", "expected a value, found '+'", 1},
               {"nul", "expected a value, found 'n'", 1},
               {"-NaN", "expected a digit, found 'N'", 1},
               {"// c\n1", "expected a value, found '/'", 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char message[256];
        json_t *value = NULL;
        snprintf(message, sizeof message, "f.json:%d: not valid JSON: %s", bad[i].line, bad[i].problem);
        CHECK_SAYS(MW_ERR_FORMAT, message, mw_json_parse("f.json", bad[i].text, strlen(bad[i].text), &value));
    }
    json_t *value = NULL;
    CHECK_SAYS(MW_ERR_FORMAT, "found byte 0x00", mw_json_parse("f", "[1\0]", 4, &value));
}

static mw_status nested(int depth) {
    mw_text text = {0};
    json_t *value = NULL;
    for (int i = 0; i < depth; i++) mw_text_add(&text, i % 2 ? "[" : "{\"a\":", i % 2 ? 1 : 5);
    mw_text_add(&text, "1", 1);
    for (int i = depth - 1; i >= 0; i--) mw_text_add(&text, i % 2 ? "]" : "}", 1);
    mw_status status = mw_json_parse("deep", text.data, text.length, &value);
    json_decref(value);
    mw_text_free(&text);
    return status;
}

static void depth(void) {
    CHECK_OK(nested(2048));
    CHECK_SAYS(MW_ERR_FORMAT, "nested deeper than 2048", nested(2049));
    CHECK_SAYS(MW_ERR_FORMAT, "nested deeper than 2048", nested(1000000));
}

static void members(void) {
    static const char text[] =
        "{\"whole\": 12, \"real\": 1.5, \"text\": \"t\", \"flag\": true, \"none\": null, \"list\": [1], "
        "\"nan\": NaN, \"object\": {\"a\": 1}, \"number text\": \"1e-5\"}";
    mw_json_source at = {"c.json", read(text)};
    int64_t whole;
    double real;
    bool flag;
    const char *word;
    const json_t *part;
    CHECK(mw_json_get_whole(at, "absent|whole", 3, 1, 99, &whole) == MW_OK && whole == 12);
    CHECK(mw_json_get_whole(at, "absent|none", 3, 1, 99, &whole) == MW_OK && whole == 3);
    CHECK(mw_json_get_real(at, "real", 0, &real) == MW_OK && real == 1.5);
    CHECK(mw_json_get_real(at, "whole", 0, &real) == MW_OK && real == 12);
    CHECK(mw_json_get_flag(at, "flag", false, &flag) == MW_OK && flag);
    CHECK(mw_json_get_text(at, "text", "x", &word) == MW_OK && strcmp(word, "t") == 0);
    CHECK(mw_json_get_text(at, "none", "x", &word) == MW_OK && strcmp(word, "x") == 0);
    CHECK(mw_json_get_list(at, "list", &part) == MW_OK && json_array_size(part) == 1);
    CHECK(mw_json_get_object(at, "absent", &part) == MW_OK && part == NULL);
    CHECK_SAYS(MW_ERR_FORMAT, "c.json: 'real': expected a whole number from 1 to 99, found 1.5",
               mw_json_get_whole(at, "real", 3, 1, 99, &whole));
    CHECK_SAYS(MW_ERR_FORMAT, "'whole': expected a whole number from 1 to 9, found 12",
               mw_json_get_whole(at, "whole", 3, 1, 9, &whole));
    CHECK_SAYS(MW_ERR_FORMAT, "'a|b': expected a whole number from 1 to 9, found nothing",
               mw_json_get_whole(at, "a|b", MW_JSON_NEEDED, 1, 9, &whole));
    CHECK_SAYS(MW_ERR_FORMAT, "'number text': expected a finite number, found the text '1e-5'",
               mw_json_get_real(at, "number text", 0, &real));
    CHECK_SAYS(MW_ERR_FORMAT, "'nan': expected a finite number, found NaN", mw_json_get_real(at, "nan", 0, &real));
    CHECK_SAYS(MW_ERR_FORMAT, "'whole': expected true or false, found 12", mw_json_get_flag(at, "whole", 0, &flag));
    CHECK_SAYS(MW_ERR_FORMAT, "'list': expected a text, found a list", mw_json_get_text(at, "list", "", &word));
    CHECK_SAYS(MW_ERR_FORMAT, "'object': expected a list, found an object", mw_json_get_list(at, "object", &part));
    CHECK_SAYS(MW_ERR_FORMAT, "'flag': expected an object, found true", mw_json_get_object(at, "flag", &part));
    json_decref((json_t *)(uintptr_t)at.object);
}

/* Linear time: 20 MB of a vocabulary, of one text, and of similar keys. */
static void large_files(void) {
    mw_text text = {0};
    mw_text_addf(&text, "{\"vocab\": {");
    for (int i = 0; i < 400000; i++) mw_text_addf(&text, "%s\"\\u0120token%d\": %d", i ? ", " : "", i, i);
    mw_text_addf(&text, "}, \"long\": \"");
    for (int i = 0; i < 1000000; i++) mw_text_add(&text, "abc\\n\xc3\xa9", 7);
    mw_text_addf(&text, "\"}");
    clock_t begin = clock();
    json_t *value = read(text.data);
    CHECK(json_object_size(json_object_get(value, "vocab")) == 400000);
    CHECK((double)(clock() - begin) / CLOCKS_PER_SEC < 10);
    json_decref(value);
    mw_text_free(&text);
}

int main(void) {
    RUN(plain_json);
    RUN(numbers_beyond);
    RUN(keys_given_twice);
    RUN(characters);
    RUN(broken_json);
    RUN(depth);
    RUN(members);
    RUN(large_files);
    return test_end();
}
