/* Ids and decoded text equal those of the `tokenizers` library on 5 MB of mixed text (tools/make_golden_tokenizers.py),
 * and malformed or unsupported tokenizers are refused. */
#include "base/json.h"
#include "microw/tokenizer.h"
#include "test.h"

#include <unistd.h>

/* ---- the text, as tools/make_golden_tokenizers.py draws it ------------------------------------------- */

static const char *const words[] = {"the",      "and",        "of",      "to",       "in",
                                    "is",       "was",        "for",     "that",     "with",
                                    "Once",     "upon",       "a",       "time",     "there",
                                    "lived",    "little",     "girl",    "who",      "loved",
                                    "dragons.", "return",     "if",      "else",     "while",
                                    "(int",     "i",          "=",       "0;",       "i",
                                    "<",        "n;",         "i++)",    "{",        "}",
                                    "=>",       "!=",         "def",     "class",    "self.x",
                                    "import",   "numpy",      "as",      "np",       "std::vector<int>",
                                    "printf(",  "\\n",        "I'm",     "we've",    "THEY'LL",
                                    "don't",    "it's",       "O'Neil",  "HTTP/1.1", "https://example.org/a?b=c",
                                    "3.14",     "0xDEADBEEF", "foo_bar", "camelCase"};
static const char *const spaces[] = {" ",  " ",    " ",        "  ",           "    ", "\n",       "\n\n",
                                     "\t", "\r\n", "\xc2\xa0", "\xe3\x80\x80", " \n ", "\xc2\x85", "\xe1\xa0\x8e"};
static const struct {
    uint32_t start, count;
} ranges[] = {{0x61, 26},    {0xC0, 64},    {0x391, 24},    {0x410, 64},  {0x627, 30},  {0xE01, 46}, {0x300, 64},
              {0x4E00, 512}, {0xAC00, 512}, {0x1F300, 256}, {0x3041, 80}, {0x2190, 64}, {0x1100, 64}};
static const char *const punctuation[] = {"...",
                                          "!?",
                                          "--",
                                          "\xe2\x80\x94",
                                          "\xe2\x80\x9c",
                                          "\xe2\x80\x9d",
                                          "\xe2\x82\xac",
                                          "$",
                                          "#",
                                          "@",
                                          "/*",
                                          "*/",
                                          "\\",
                                          "_",
                                          "\xe2\x96\x81",
                                          "'"};
static const char *const odd[] = {"<|endoftext|>", "<|endoftext|> ", "'s", "'LL", "<s>", "</s>", "<0x41>"};
static const char *const broken[] = {"\xff",         "\xc3", "\xed\xa0\x80", "\xe2\x82",
                                     "\xf0\x9f\x92", "\x80", "\xc0\xaf",     "\xf5\x80"};
#define COUNT(a) (sizeof(a) / sizeof *(a))
enum { BLOCKS = 20, DOCUMENTS = 64, DOCUMENT_BYTES = 4096 };

static uint64_t below(uint64_t *state, uint64_t n) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % n;
}

static void add(mw_text *out, const char *s) {
    mw_text_add(out, s, strlen(s));
}

static void add_character(mw_text *out, uint32_t c) {
    char b[4];
    if (c < 0x80) {
        b[0] = (char)c;
        mw_text_add(out, b, 1);
    } else if (c < 0x800) {
        b[0] = (char)(0xc0 | c >> 6), b[1] = (char)(0x80 | (c & 63));
        mw_text_add(out, b, 2);
    } else if (c < 0x10000) {
        b[0] = (char)(0xe0 | c >> 12), b[1] = (char)(0x80 | (c >> 6 & 63)), b[2] = (char)(0x80 | (c & 63));
        mw_text_add(out, b, 3);
    } else {
        b[0] = (char)(0xf0 | c >> 18), b[1] = (char)(0x80 | (c >> 12 & 63)), b[2] = (char)(0x80 | (c >> 6 & 63));
        b[3] = (char)(0x80 | (c & 63));
        mw_text_add(out, b, 4);
    }
}

static void draw_document(uint64_t *state, mw_text *out) {
    out->length = 0;
    while (out->length < DOCUMENT_BYTES) {
        uint64_t kind = below(state, 16);
        if (kind < 7) {
            add(out, words[below(state, COUNT(words))]);
            if (below(state, 4)) add(out, " ");
        } else if (kind < 10) {
            add(out, spaces[below(state, COUNT(spaces))]);
        } else if (kind == 10) {
            for (uint64_t n = 1 + below(state, 7); n > 0; n--) add_character(out, '0' + (uint32_t)below(state, 10));
        } else if (kind < 13) {
            uint64_t r = below(state, COUNT(ranges));
            for (uint64_t n = 1 + below(state, 6); n > 0; n--)
                add_character(out, ranges[r].start + (uint32_t)below(state, ranges[r].count));
        } else if (kind == 13) {
            add(out, punctuation[below(state, COUNT(punctuation))]);
        } else if (kind == 14) {
            add(out, odd[below(state, COUNT(odd))]);
        } else if (below(state, 4) == 0) {
            add(out, broken[below(state, COUNT(broken))]);
        }
    }
}

/* ---- comparison -------------------------------------------------------------------------------------- */

/* CRC-32 (IEEE 802.3), as zlib computes it. */
static uint32_t crc32_of(const void *data, size_t length) {
    static uint32_t table[256];
    for (uint32_t i = 0; table[255] == 0 && i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
    uint32_t crc = ~0u;
    for (size_t i = 0; i < length; i++) crc = crc >> 8 ^ table[(crc ^ ((const unsigned char *)data)[i]) & 255];
    return ~crc;
}

static bool golden_line(const char *golden, const char *name, int block, long *count, uint32_t *ids, uint32_t *text) {
    char key[64];
    snprintf(key, sizeof key, "%s %d ", name, block);
    const char *line = strncmp(golden, key, strlen(key)) == 0 ? golden : NULL;
    char after_newline[80];
    snprintf(after_newline, sizeof after_newline, "\n%s", key);
    if (!line && (line = strstr(golden, after_newline))) line++;
    return line && sscanf(line + strlen(key), "%ld %u %u", count, ids, text) == 3;
}

static void check_tokenizer(const char *golden, const char *name, const char *path) {
    mw_tokenizer *t = NULL;
    NEED_OK(mw_tokenizer_open(path, &t));
    uint64_t state = 12345;
    mw_text document = {0}, decoded = {0};
    mw_ids ids = {0};
    for (int b = 0; b < BLOCKS; b++) {
        ids.count = 0;
        decoded.length = 0;
        for (int d = 0; d < DOCUMENTS; d++) {
            draw_document(&state, &document);
            int64_t first = ids.count;
            CHECK_OK(mw_tokenizer_encode(t, document.data, document.length, &ids));
            CHECK_OK(mw_tokenizer_decode(t, ids.data + first, ids.count - first, &decoded));
        }
        long count = 0;
        uint32_t ids_crc = 0, text_crc = 0;
        NEED(golden_line(golden, name, b, &count, &ids_crc, &text_crc));
        if (ids.count != count)
            fprintf(stderr, "%s block %d: %ld ids, expected %ld\n", name, b, (long)ids.count, count);
        CHECK(ids.count == count);
        CHECK(crc32_of(ids.data, (size_t)ids.count * sizeof(int32_t)) == ids_crc);
        CHECK(crc32_of(decoded.data, decoded.length) == text_crc);
    }
    mw_text_free(&document);
    mw_text_free(&decoded);
    mw_ids_free(&ids);
    mw_tokenizer_free(&t);
}

static char *golden_text;

static void small_tokenizers(void) {
    static const char *const names[] = {"gpt2",      "prefix", "llama3",   "qwen2",  "digits", "llama2",
                                        "metaspace", "gemma",  "deepseek", "o200k",  "kimi",   "t5",
                                        "xglm",      "bert",   "words",    "affixed"};
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[256];
        snprintf(path, sizeof path, MICROW_GOLDEN "/tokenizers/%s.json", names[i]);
        check_tokenizer(golden_text, names[i], path);
    }
}

static void real_tokenizers(void) {
    static const char *const real[][2] = {{"stories260K", MICROW_DATA "/stories260K-hf"},
                                          {"real-gpt2", MICROW_DATA "/tokenizer-gpt2"},
                                          {"real-neox", MICROW_DATA "/tokenizer-gptneox/20B_tokenizer.json"}};
    for (size_t i = 0; i < COUNT(real); i++) {
        if (access(real[i][1], R_OK) != 0)
            printf("skipped: %s does not exist\n", real[i][1]);
        else
            check_tokenizer(golden_text, real[i][0], real[i][1]);
    }
}

/* vocab.json + merges.txt give the same ids as tokenizer.json. */
static void pair_of_files(void) {
    if (access(MICROW_DATA "/tokenizer-gpt2/vocab.json", R_OK) != 0) {
        printf("skipped: the GPT-2 files do not exist\n");
        return;
    }
    char folder[] = "/tmp/microw-test-XXXXXX", command[512];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command, "cp %s/tokenizer-gpt2/vocab.json %s/tokenizer-gpt2/merges.txt %s", MICROW_DATA,
             MICROW_DATA, folder);
    NEED(system(command) == 0);
    check_tokenizer(golden_text, "real-gpt2", folder);
    mw_tokenizer *t = NULL;
    NEED_OK(mw_tokenizer_open(folder, &t));
    CHECK(mw_tokenizer_bos(t) == 50256 && mw_tokenizer_is_special(t, 50256) && mw_tokenizer_size(t) == 50257);
    mw_tokenizer_free(&t);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

static void known_facts(void) {
    mw_tokenizer *t = NULL;
    NEED_OK(mw_tokenizer_open(MICROW_GOLDEN "/tokenizers/llama2.json", &t));
    CHECK(mw_tokenizer_adds_bos(t) && mw_tokenizer_bos(t) == 1);
    size_t length;
    CHECK(strcmp(mw_tokenizer_token(t, 3 + 'A', &length), "A") == 0 && length == 1);
    CHECK(mw_tokenizer_find(t, "</s>") == 2 && mw_tokenizer_find(t, "no such token") == -1);
    CHECK(strcmp(mw_tokenizer_token(t, 1 << 20, &length), "") == 0 && length == 0);
    mw_tokenizer_free(&t);
}

static mw_status open_text(const char *text) {
    char path[] = "/tmp/microw-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    mw_tokenizer *t = NULL;
    mw_status status = mw_tokenizer_open(path, &t);
    mw_tokenizer_free(&t);
    unlink(path);
    return status;
}

static void bad_files_are_refused(void) {
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("[]"));
    CHECK_FAILS(MW_ERR_UNSUPPORTED, open_text("{\"model\":{\"type\":\"Other\",\"vocab\":[]}}"));
    CHECK_FAILS(MW_ERR_UNSUPPORTED, open_text("{\"pre_tokenizer\":{\"type\":\"Other\"},\"model\":{}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}"));
    CHECK_FAILS(MW_ERR_FORMAT, open_text("{\"normalizer\":{\"type\":\"Precompiled\"},\"model\":{}}"));
    CHECK_FAILS(MW_ERR_FORMAT,
                open_text("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":"
                          "\"Isolated\"},\"model\":{}}"));
    mw_tokenizer *t = NULL;
    CHECK_FAILS(MW_ERR_IO, mw_tokenizer_open("/tmp/microw-no-such-folder", &t));
}

/* ---- all code points, as tools/make_golden_unicode.py lists them ----------------------------------------- */

/* Returns code point `i` of the list, 0 behind its end. */
static uint32_t listed_code(uint32_t i) {
    enum { FIRST = 0xd7ff, SECOND = 0x32000 - 0xe000, THIRD = 0x200, STEP = 257 };
    enum { FOURTH = (0xe0000 - 0x32000 + STEP - 1) / STEP, FIFTH = (0x110000 - 0xe0200 + STEP - 1) / STEP };
    if (i < FIRST) return 1 + i;
    if ((i -= FIRST) < SECOND) return 0xe000 + i;
    if ((i -= SECOND) < THIRD) return 0xe0000 + i;
    if ((i -= THIRD) < FOURTH) return 0x32000 + STEP * i;
    return (i -= FOURTH) < FIFTH ? 0xe0200 + STEP * i : 0;
}

static void add_listed(mw_text *out, uint32_t code, bool mixed) {
    if (mixed) add(out, "a");
    add_character(out, code);
    if (!mixed) return;
    add(out, "\xcc\x81 ");
    add_character(out, code);
    add(out, "1");
    add_character(out, code);
    add(out, "\xcc\xb4"
             "e");
}

static void encode_listed(mw_tokenizer *t, bool mixed, mw_ids *ids) {
    mw_text text = {0};
    for (uint32_t i = 0; listed_code(i); i++) {
        add_listed(&text, listed_code(i), mixed);
        if (i % 4096 != 4095 && listed_code(i + 1)) continue;
        CHECK_OK(mw_tokenizer_encode(t, text.data, text.length, ids));
        text.length = 0;
    }
    mw_text_free(&text);
}

static void check_case(json_t *item, json_t *borders) {
    char path[64];
    mw_tokenizer *t = NULL;
    mw_ids ids = {0};
    snprintf(path, sizeof path, "/tmp/microw-unicode-%ld.json", (long)getpid());
    json_t *file = json_pack("{s:O, s:O, s:O}", "normalizer", json_object_get(item, "normalizer"), "pre_tokenizer",
                             json_object_get(item, "pre_tokenizer"), "model", borders);
    NEED_OK(mw_json_save(path, file, 0));
    json_decref(file);
    NEED_OK(mw_tokenizer_open(path, &t));
    encode_listed(t, json_is_true(json_object_get(item, "mixed")), &ids);
    bool equal = ids.count == (int64_t)mw_json_number(item, "count", 0) &&
                 crc32_of(ids.data, (size_t)ids.count * sizeof(int32_t)) == (uint32_t)mw_json_number(item, "crc", 0);
    if (!equal) fprintf(stderr, "%s: %lld ids\n", mw_json_text(item, "name"), (long long)ids.count);
    CHECK(equal);
    mw_ids_free(&ids);
    mw_tokenizer_free(&t);
    unlink(path);
}

static void all_code_points(void) {
    json_t *cases, *borders, *item;
    size_t i;
    NEED_OK(mw_json_load(MICROW_GOLDEN "/tokenizers/unicode.json", &cases));
    NEED_OK(mw_json_load(MICROW_GOLDEN "/tokenizers/borders.json", &borders));
    CHECK(json_array_size(cases) > 50);
    json_array_foreach(cases, i, item) check_case(item, borders);
    json_decref(cases);
    json_decref(borders);
}

/* ---- folders, as AutoTokenizer reads them (tools/make_golden_folders.py) ---------------------------------- */

/* Writes a file: a JSON value, a text, or the bytes of a text in hex for NAME.model. */
static void write_case_file(const char *folder, const char *name, const json_t *content) {
    mw_text path = {0}, bytes = {0};
    mw_text_addf(&path, "%s/%s", folder, name);
    const char *text = json_string_value(content);
    if (!text) {
        NEED_OK(mw_json_save(path.data, content, 0));
    } else if (strstr(name, ".model")) {
        for (unsigned byte; sscanf(text, "%2x", &byte) == 1; text += 2)
            mw_text_add(&bytes, (const char[]){(char)byte}, 1);
        NEED_OK(mw_file_write_atomic(path.data, bytes.data, bytes.length));
    } else {
        NEED_OK(mw_file_write_atomic(path.data, text, strlen(text)));
    }
    mw_text_free(&path);
    mw_text_free(&bytes);
}

static void check_case_ids(mw_tokenizer *t, const char *text, const json_t *expected) {
    mw_ids ids = {0};
    CHECK_OK(mw_tokenizer_encode(t, text, strlen(text), &ids));
    CHECK(ids.count == (int64_t)json_array_size(expected));
    for (int64_t i = 0; i < ids.count; i++)
        CHECK(ids.data[i] == json_integer_value(json_array_get(expected, (size_t)i)));
    mw_ids_free(&ids);
}

/* Tokens that tokenizer.json marks as special are so here, whether or not a file names them. */
static void check_case_special(const mw_tokenizer *t, const json_t *expected) {
    size_t n = 0;
    for (int32_t id = 0; id < mw_tokenizer_size(t); id++) {
        bool listed = json_integer_value(json_array_get(expected, n)) == id && n < json_array_size(expected);
        CHECK(mw_tokenizer_is_special(t, id) == listed);
        n += listed;
    }
    CHECK(n == json_array_size(expected));
}

static void check_folder(json_t *item) {
    char folder[] = "/tmp/microw-folder-XXXXXX", command[128];
    const char *name;
    json_t *content, *text;
    size_t i;
    mw_tokenizer *t = NULL;
    NEED(mkdtemp(folder) != NULL);
    json_object_foreach(json_object_get(item, "files"), name, content) write_case_file(folder, name, content);
    NEED_OK(mw_tokenizer_open(folder, &t));
    json_array_foreach(json_object_get(item, "texts"), i, text)
        check_case_ids(t, json_string_value(text), json_array_get(json_object_get(item, "ids"), i));
    check_case_special(t, json_object_get(item, "special"));
    int32_t bos = (int32_t)mw_json_number(item, "bos", -1), eos = (int32_t)mw_json_number(item, "eos", -1);
    CHECK(mw_tokenizer_eos(t) == eos && mw_tokenizer_bos(t) == bos);
    CHECK(mw_tokenizer_adds_bos(t) == json_is_true(json_object_get(item, "adds_bos")));
    mw_tokenizer_free(&t);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

static void folders(void) {
    json_t *cases, *item;
    size_t i;
    NEED_OK(mw_json_load(MICROW_GOLDEN "/tokenizers/folders.json", &cases));
    CHECK(json_array_size(cases) > 15);
    json_array_foreach(cases, i, item) check_folder(item);
    json_decref(cases);
}

static void refused_folders(void) {
    char folder[] = "/tmp/microw-folder-XXXXXX", command[256];
    mw_tokenizer *t = NULL;
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command, "echo x > %s/tokenizer.model", folder);
    NEED(system(command) == 0);
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "tokenizer.model of tokenizer_class '(none)'", mw_tokenizer_open(folder, &t));
    snprintf(command, sizeof command, "echo '{\"tokenizer_class\": \"LlamaTokenizer\"}' > %s/tokenizer_config.json",
             folder);
    NEED(system(command) == 0);
    CHECK_SAYS(MW_ERR_FORMAT, "not a model of SentencePiece", mw_tokenizer_open(folder, &t));
    snprintf(command, sizeof command, "rm %s/tokenizer.model", folder);
    NEED(system(command) == 0);
    snprintf(command, sizeof command, "cd %s && echo '{\"a\": 0}' > vocab.json && echo > merges.txt", folder);
    NEED(system(command) == 0);
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "of the tokenizer_class 'LlamaTokenizer' is not supported",
               mw_tokenizer_open(folder, &t));
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

/* Opens a folder of type llama that holds tiktoken.model, and tokenizer_config.json. */
static mw_status open_tiktoken(const char *lines, const char *config, mw_tokenizer **out) {
    char folder[] = "/tmp/microw-tiktoken-XXXXXX", command[512];
    NEED(mkdtemp(folder) != NULL);
    snprintf(command, sizeof command,
             "cd %s && echo '{\"model_type\": \"llama\"}' > config.json && printf '%s' > tiktoken.model && "
             "echo '%s' > tokenizer_config.json",
             folder, lines, config);
    NEED(system(command) == 0);
    mw_status status = mw_tokenizer_open(folder, out);
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
    return status;
}

static void refused_tiktoken_files(void) {
    const char *two = "YQ== 0\\nYg== 1\\n";
    mw_tokenizer *t = NULL;
    NEED_OK(open_tiktoken(two, "{}", &t));
    mw_tokenizer_free(&t);
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "tiktoken.model of tokenizer_class 'LlamaTokenizer'",
               open_tiktoken(two, "{\"tokenizer_class\": \"LlamaTokenizer\"}", &t));
    CHECK_SAYS(MW_ERR_FORMAT, "line 1: expected a token in base64, a space and the rank 0",
               open_tiktoken("x\\n", "{}", &t));
    CHECK_SAYS(MW_ERR_UNSUPPORTED, "the token of rank 1 occurs twice", open_tiktoken("YQ== 0\\nYQ== 1\\n", "{}", &t));
    CHECK_SAYS(MW_ERR_FORMAT, "holds no tokens", open_tiktoken("", "{}", &t));
    CHECK_SAYS(MW_ERR_FORMAT, "expected an id from 0 to 16777215, found '16777216'",
               open_tiktoken(two, "{\"added_tokens_decoder\": {\"16777216\": {\"content\": \"x\"}}}", &t));
}

/* ---- limits, and JSON of other writers ------------------------------------------------------------------- */

/* Opens a tokenizer of the letters a and b with more members of tokenizer.json. */
static mw_status open_letters(const char *members, mw_tokenizer **out, char path[64]) {
    char text[4096];
    int n = snprintf(text, sizeof text,
                     "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"b\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}%s}",
                     members);
    NEED(n < (int)sizeof text);
    snprintf(path, 64, "/tmp/microw-letters-%ld.json", (long)getpid());
    NEED_OK(mw_file_write_atomic(path, text, (size_t)n));
    return mw_tokenizer_open(path, out);
}

static mw_status encode_letters(const char *members, const char *text, size_t length, int64_t *count) {
    char path[64];
    mw_tokenizer *tokenizer = NULL;
    mw_ids ids = {0};
    NEED_OK(open_letters(members, &tokenizer, path));
    mw_tokenizer_set_source(tokenizer, "corpus.jsonl", "the document at byte", 77);
    mw_status status = mw_tokenizer_encode(tokenizer, text, length, &ids);
    if (count) *count = ids.count;
    mw_ids_free(&ids);
    mw_tokenizer_free(&tokenizer);
    unlink(path);
    return status;
}

/* Replacements that double a text repeatedly are refused. */
static void growing_texts(void) {
    mw_text members = {0};
    mw_text_addf(&members, ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 40; i++)
        mw_text_addf(&members, "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}",
                     i ? "," : "");
    mw_text_addf(&members, "]}");
    int64_t count;
    CHECK_SAYS(MW_ERR_FORMAT,
               "the normalizer expands 1 bytes of text to more than 1056, in the text from byte 0 "
               "(corpus.jsonl, the document at byte 77: 'aaaa",
               encode_letters(members.data, "a", 1, NULL));
    CHECK(encode_letters(members.data, "bbb", 3, &count) == MW_OK && count == 3);
    mw_text_free(&members);
    static const char prepend[] = ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"aaa\"}";
    CHECK(encode_letters(prepend, "b", 1, &count) == MW_OK && count == 4);
    /* the largest expansion by NFKD: 3 bytes become 33 */
    mw_text wide = {0};
    for (int i = 0; i < 1000; i++) mw_text_add(&wide, "\xef\xb7\xba", 3);
    CHECK_OK(encode_letters(",\"normalizer\":{\"type\":\"NFKD\"}", wide.data, wide.length, NULL));
    mw_text_free(&wide);
}

static void patterns_beyond_limits(void) {
    static const char members[] =
        ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
        "\"(a|aa)+[!?]\"}}";
    mw_text text = {0};
    for (int i = 0; i < 60; i++) mw_text_add(&text, "a", 1);
    mw_text_add(&text, "b", 1);
    CHECK_SAYS(MW_ERR_FORMAT,
               ".json: a pattern failed (retry-limit-in-match over), in the text from byte "
               "0 (corpus.jsonl, the document at byte 77: 'aaaa",
               encode_letters(members, text.data, text.length, NULL));
    mw_text_free(&text);
    /* a valid match that needs more than the JIT stack */
    static const char deep[] =
        ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
        "\"(?:a|b)+c\"}}";
    int64_t count;
    for (int i = 0; i < 100000; i++) mw_text_add(&text, "ab", 2);
    mw_text_add(&text, "c", 1);
    CHECK(encode_letters(deep, text.data, text.length, &count) == MW_OK && count == 200001);
    mw_text_free(&text);
}

static void members_of_wrong_types(void) {
    static const struct {
        const char *members, *message;
    } bad[] = {
        {",\"normalizer\":3", "'normalizer': expected an object, found 3"},
        {",\"normalizer\":{\"type\":[]}", "'type': expected a text, found a list"},
        {",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":{}}", "'normalizers': expected a list"},
        {",\"normalizer\":{\"type\":\"Prepend\"}", "'prepend': expected a text, found nothing"},
        {",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"__\"}", "expected one character, found '__'"},
        {",\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"a\\u0000\"}",
         "expected a text without \\u0000"},
        {",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":\"false\"}", "'use_regex': expected true or false"},
        {",\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":\"1\"}", "'start': expected a whole number"},
        {",\"added_tokens\":7", "'added_tokens': expected a list, found 7"},
        {",\"added_tokens\":[{\"id\":1.5,\"content\":\"x\"}]", "token 'x': expected a whole number"},
        {",\"added_tokens\":[{\"id\":2,\"content\":\"x\",\"special\":1}]",
         "'special': expected true or false, found 1"},
        {",\"normalizer\":null,\"normalizer\":{}", "'normalizer': expected an object, found two different values"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[64];
        mw_tokenizer *tokenizer = NULL;
        CHECK_SAYS(MW_ERR_FORMAT, bad[i].message, open_letters(bad[i].members, &tokenizer, path));
        unlink(path);
    }
}

/* NUL in a token, a merge and an added token; unknown members with unusual numbers. */
static void tokens_with_nul(void) {
    static const char text[] =
        "{\"version\": 1e999, \"extra\": NaN, \"extra\": 99999999999999999999999, \"model\": {\"type\": \"BPE\", "
        "\"vocab\": {\"a\": 0, \"\\u0000\": 1, \"a\\u0000\": 2}, \"merges\": [[\"a\", \"\\u0000\"]]}, "
        "\"added_tokens\": [{\"id\": 3, \"content\": \"\\u0000\\u0000\", \"normalized\": false}]}";
    static const int32_t expected[] = {2, 0, 3};
    char path[64];
    mw_tokenizer *tokenizer = NULL;
    mw_ids ids = {0};
    snprintf(path, sizeof path, "/tmp/microw-nul-%ld.json", (long)getpid());
    NEED_OK(mw_file_write_atomic(path, text, sizeof text - 1));
    NEED_OK(mw_tokenizer_open(path, &tokenizer));
    CHECK_OK(mw_tokenizer_encode(tokenizer, "a\0a\0\0", 5, &ids));
    CHECK(ids.count == 3 && memcmp(ids.data, expected, sizeof expected) == 0);
    mw_text back = {0};
    CHECK_OK(mw_tokenizer_decode(tokenizer, ids.data, ids.count, &back));
    CHECK(back.length == 7 && memcmp(back.data, "a\0 a \0\0", 7) == 0); /* without a decoder: spaces between */
    mw_text_free(&back);
    mw_ids_free(&ids);
    mw_tokenizer_free(&tokenizer);
    unlink(path);
}

/* tokenizer_config.json as transformers writes it without a maximum length. */
static void config_of_transformers(void) {
    char folder[] = "/tmp/microw-tokenizer-XXXXXX", command[512];
    mw_tokenizer *tokenizer = NULL;
    NEED(mkdtemp(folder) != NULL);
    snprintf(
        command, sizeof command,
        "cp %s/tokenizers/gpt2.json %s/tokenizer.json && echo '{\"model_max_length\": 1000000000000000019884624838656, "
        "\"eos_token\": {\"content\": \"<|endoftext|>\"}}' > %s/tokenizer_config.json",
        MICROW_GOLDEN, folder, folder);
    NEED(system(command) == 0);
    CHECK_OK(mw_tokenizer_open(folder, &tokenizer));
    CHECK(tokenizer && mw_tokenizer_eos(tokenizer) >= 0);
    mw_tokenizer_free(&tokenizer);
    snprintf(command, sizeof command, "echo '{\"eos_token\": 3}' > %s/tokenizer_config.json", folder);
    NEED(system(command) == 0);
    CHECK_SAYS(MW_ERR_FORMAT, "tokenizer_config.json: 'eos_token': expected a text, found 3",
               mw_tokenizer_open(folder, &tokenizer));
    snprintf(command, sizeof command, "rm %s/tokenizer_config.json && mkfifo %s/tokenizer_config.json", folder, folder);
    NEED(system(command) == 0);
    CHECK_SAYS(MW_ERR_IO, "not a regular file", mw_tokenizer_open(folder, &tokenizer));
    snprintf(command, sizeof command, "rm -r %s", folder);
    NEED(system(command) == 0);
}

/* Argument "data": only the tests that need real tokenizers. */
int main(int argc, char **argv) {
    bool data = argc > 1 && strcmp(argv[1], "data") == 0;
    if (data && access(MICROW_DATA "/tokenizer-gpt2/vocab.json", R_OK) != 0) return TEST_SKIPPED;
    NEED_OK(mw_file_read(MICROW_GOLDEN "/tokenizers/golden.txt", &golden_text, NULL));
    if (data) {
        RUN(real_tokenizers);
        RUN(pair_of_files);
    } else {
        RUN(small_tokenizers);
        RUN(all_code_points);
        RUN(folders);
        RUN(refused_folders);
        RUN(refused_tiktoken_files);
        RUN(known_facts);
        RUN(bad_files_are_refused);
        RUN(growing_texts);
        RUN(patterns_beyond_limits);
        RUN(members_of_wrong_types);
        RUN(tokens_with_nul);
        RUN(config_of_transformers);
    }
    mw_free(golden_text);
    return test_end();
}
