/* src/base: random numbers, numbers in text, UTF-8, files, CSV, paths, progress lines, commands; half precision. */
#include "base/progress_line.h"
#include "microw/base.h"
#include "microw/tensor.h"
#include "base/csv.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

/* Salmon et al.'s known-answer vectors for Philox4x32-10 (Random123, kat_vectors). */
static void philox_known_answers(void) {
    uint32_t r[4];
    mw_philox(0, 0, 0, r);
    CHECK(r[0] == 0x6627e8d5 && r[1] == 0xe169c58d && r[2] == 0xbc57ac4c && r[3] == 0x9b00dbd8);
    mw_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, r);
    CHECK(r[0] == 0x408f276d && r[1] == 0x41c83b0e && r[2] == 0xa20bc7c6 && r[3] == 0x6d5451fd);
    mw_philox(UINT64_C(0x299f31d0a4093822), UINT64_C(0x0370734413198a2e), UINT64_C(0x85a308d3243f6a88), r);
    CHECK(r[0] == 0xd16cfe09 && r[1] == 0x94fdcceb && r[2] == 0x5001e420 && r[3] == 0x24126ea1);
}

static void random_numbers_look_right(void) {
    enum { N = 100000 };
    double mean = 0, square = 0, uniform = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = mw_rng_normal(7, 1, i), u = mw_rng_uniform(7, 2, i);
        mean += x / N;
        square += x * x / N;
        uniform += u / N;
        CHECK(u >= 0 && u < 1);
    }
    CHECK(fabs(mean) < 0.02 && fabs(square - 1) < 0.03 && fabs(uniform - 0.5) < 0.005); /* five sigma */
}

typedef struct numbers {
    double x[64];
    int64_t n;
} numbers;

static void mean_and_nothing(const void *self, int64_t draw, double *out) {
    const numbers *s = self;
    out[0] = 0;
    out[1] = NAN;
    for (int64_t i = 0; i < s->n; i++) out[0] += s->x[mw_resampled(draw, i, s->n)] / (double)s->n;
}

/* The interval of a mean is about 1.96 standard errors wide on each side. */
static void intervals_by_bootstrap(void) {
    mw_estimate e[2], again[2];
    numbers s = {.n = 64};
    double mean = 0, square = 0;
    for (int i = 0; i < 64; i++) s.x[i] = mw_rng_normal(11, 1, (uint64_t)i);
    for (int i = 0; i < 64; i++) mean += s.x[i] / 64, square += s.x[i] * s.x[i] / 64;
    double error = 1.96 * sqrt((square - mean * mean) / 64);
    mw_bootstrap(mean_and_nothing, &s, s.n, 2, e);
    CHECK(fabs(e[0].value - mean) < 1e-12 && isnan(e[1].value) && isnan(e[1].low) && isnan(e[1].high));
    CHECK(fabs(mean - e[0].low - error) < 0.1 * error && fabs(e[0].high - mean - error) < 0.1 * error);
    mw_bootstrap(mean_and_nothing, &s, s.n, 1, again);
    CHECK(memcmp(again, e, sizeof *e) == 0);
    s.n = 1;
    mw_bootstrap(mean_and_nothing, &s, s.n, 1, again);
    CHECK(again[0].value == s.x[0] && isnan(again[0].low) && isnan(again[0].high));
    bool seen[5] = {0};
    for (int64_t i = 0; i < 100; i++) {
        int64_t at = mw_resampled(i, i % 5, 5);
        NEED(at >= 0 && at < 5);
        seen[at] = true;
    }
    CHECK(seen[0] && seen[1] && seen[2] && seen[3] && seen[4] && mw_resampled(-1, 3, 5) == 3);
}

static void permutation_is_one(void) {
    static const uint64_t sizes[] = {1, 2, 3, 5, 64, 1000, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t n = sizes[s], fixed = 0;
        char *seen = mw_calloc(n, 1);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t to = mw_permute(3, 9, n, i);
            NEED(to < n);
            CHECK(!seen[to]);
            seen[to] = 1;
            fixed += to == i;
        }
        CHECK(n < 64 || fixed < 10); /* a random permutation has one fixed point on average */
        mw_free(seen);
    }
    static const uint64_t ranges[][3] = {
        /* n, first, count */
        {1, 0, 1},        {2, 0, 2},           {1000, 0, 1000}, {1000, 7, 1},
        {4097, 4000, 97}, {274369, 100, 3000}, {5, 5, 0},       {1ull << 40, 1ull << 39, 500}};
    for (size_t s = 0; s < sizeof ranges / sizeof *ranges; s++) {
        int64_t out[3000], count = (int64_t)ranges[s][2];
        mw_permute_range(11ull << 33, 7ull << 34 | 5, ranges[s][0], ranges[s][1], count, out);
        for (int64_t i = 0; i < count; i++)
            CHECK((uint64_t)out[i] ==
                  mw_permute(11ull << 33, 7ull << 34 | 5, ranges[s][0], ranges[s][1] + (uint64_t)i));
    }
    CHECK(mw_permute(3, 9, 1000, 5) != mw_permute(3, 10, 1000, 5) ||
          mw_permute(3, 9, 1000, 6) != mw_permute(3, 10, 1000, 6));
}

static void numbers_in_text(void) {
    int64_t i;
    double d;
    CHECK(mw_parse_int("10_000_000", &i) && i == 10000000);
    CHECK(mw_parse_int("1e6", &i) && i == 1000000);
    CHECK(mw_parse_int("-3", &i) && i == -3);
    CHECK(!mw_parse_int("1.5", &i) && !mw_parse_int("", &i) && !mw_parse_int("_1", &i) && !mw_parse_int("1__0", &i));
    CHECK(!mw_parse_int("99999999999999999999", &i) && !mw_parse_int(" 1", &i) && !mw_parse_int("0x", &i));
    CHECK(mw_parse_double("1e-4", &d) && d == 1e-4);
    CHECK(!mw_parse_double("nan", &d) && !mw_parse_double("inf", &d) && !mw_parse_double("1,5", &d));
    CHECK(mw_edit_distance("kitten", "sitting") == 3 && mw_edit_distance("", "abc") == 3 &&
          mw_edit_distance("k", "k") == 0);
}

static void utf8(void) {
    CHECK(mw_utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xa9", 10));
    CHECK(!mw_utf8_valid("\xc0\xaf", 2) && !mw_utf8_valid("\xed\xa0\x80", 3) && !mw_utf8_valid("\xf5\x80\x80\x80", 4));
    mw_text t = {0};
    mw_utf8_repair(&t, "a\xe2\x82z\xff", 5); /* one U+FFFD for the truncated sequence, one for the byte */
    CHECK(strcmp(t.data, "a\xef\xbf\xbdz\xef\xbf\xbd") == 0);
    t.length = 0;
    mw_utf8_show(&t, "a\xe2\x82z\xff\xc3\xa9", 7);
    CHECK(strcmp(t.data, "a<0xE2><0x82>z<0xFF>\xc3\xa9") == 0);
    t.length = 0;
    mw_text_add_visible(&t, "\n\xe2z", 3);
    CHECK(strcmp(t.data, "\\n<0xE2>z") == 0);
    mw_text_free(&t);
}

static void files_are_whole_or_absent(void) {
    char folder[] = "/tmp/microw-base-XXXXXX", path[64], *text;
    NEED(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/a/b", folder);
    CHECK_OK(mw_make_directories(path));
    CHECK_OK(mw_make_directories(path));
    snprintf(path, sizeof path, "%s/a/b/file", folder);
    CHECK_OK(mw_file_write_atomic(path, "hello", 5));
    size_t length;
    CHECK_OK(mw_file_read(path, &text, &length));
    CHECK(length == 5 && strcmp(text, "hello") == 0);
    mw_free(text);
    mw_atomic_file file;
    CHECK_OK(mw_atomic_begin(path, &file));
    CHECK_OK(mw_atomic_write(&file, "half", 4));
    mw_atomic_abort(&file);
    CHECK_OK(mw_file_read(path, &text, NULL));
    CHECK(strcmp(text, "hello") == 0);
    mw_free(text);
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_IO, mw_make_directories(path));
    CHECK_FAILS(MW_ERR_IO, mw_file_write_atomic("/tmp/microw-no-such/x", "a", 1));
    mw_log_quiet(false);
    char hash[MW_SHA256_TEXT];
    CHECK_OK(mw_sha256("abc", 3, hash)); /* FIPS 180-2, appendix B.1 */
    CHECK(strcmp(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

/* Pipes and devices are refused without waiting for them. */
static void only_regular_files(void) {
    char folder[] = "/tmp/microw-base-XXXXXX", path[64], *text = NULL;
    mw_map map;
    NEED(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/pipe", folder);
    NEED(mkfifo(path, 0600) == 0);
    alarm(20); /* a blocking open ends the test */
    CHECK_SAYS(MW_ERR_IO, "pipe: cannot read: not a regular file", mw_file_read(path, &text, NULL));
    CHECK_SAYS(MW_ERR_IO, "pipe: cannot read: not a regular file", mw_map_open(path, &map));
    CHECK_SAYS(MW_ERR_IO, "/dev/zero: cannot read: not a regular file", mw_file_read("/dev/zero", &text, NULL));
    CHECK_SAYS(MW_ERR_IO, "cannot read: it is a folder", mw_file_read(folder, &text, NULL));
    CHECK_SAYS(MW_ERR_IO, "cannot read: No such file", mw_map_open("/tmp/microw-no-such", &map));
    alarm(0);
    CHECK(mw_path_exists(path) && !mw_file_exists(path) && !mw_path_exists("/tmp/microw-no-such"));
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

static void csv_records(void) {
    static const char text[] = "a,b\n\n\"x\ny\",\r\n,\"\"\"\"\r\"p\r\nq\"\n\"last\",\"";
    mw_csv csv;
    bool found;
    size_t length;
    mw_csv_begin("f.csv", text, sizeof text - 1, ',', &csv);
    CHECK(mw_csv_next(&csv, &found) == MW_OK && found && csv.line == 1 && csv.n_fields == 2);
    CHECK(strcmp(mw_csv_field(&csv, 1, &length), "b") == 0 && length == 1);
    CHECK(strcmp(mw_csv_field(&csv, 2, &length), "") == 0 && length == 0 && csv.begin == 0 && csv.end == 3);
    CHECK(mw_csv_next(&csv, &found) == MW_OK && csv.line == 3 && csv.n_fields == 2);
    CHECK(strcmp(mw_csv_field(&csv, 0, NULL), "x\ny") == 0 && strcmp(mw_csv_field(&csv, 1, NULL), "") == 0);
    CHECK(mw_csv_next(&csv, &found) == MW_OK && csv.line == 5 && strcmp(mw_csv_field(&csv, 1, NULL), "\"") == 0);
    CHECK(mw_csv_next(&csv, &found) == MW_OK && csv.line == 6 && strcmp(mw_csv_field(&csv, 0, NULL), "p\r\nq") == 0);
    CHECK_SAYS(MW_ERR_FORMAT, "f.csv:8: the quote that opens here is never closed", mw_csv_next(&csv, &found));
    mw_csv_free(&csv);
    mw_csv_begin("f.csv", "\n\r\n", 3, ',', &csv);
    CHECK(mw_csv_next(&csv, &found) == MW_OK && !found);
    mw_csv_free(&csv);
}

static void half_precision(void) {
    for (uint32_t h = 0; h < 65536; h++) { /* every value survives the round trip */
        float f = mw_f16_to_f32((uint16_t)h), g = mw_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) CHECK(mw_f32_to_f16(f) == h);
        if (!isnan(g)) CHECK(mw_f32_to_bf16(g) == h);
    }
    CHECK(mw_f32_to_f16(65504.0f) == 0x7bff && mw_f32_to_f16(65520.0f) == 0x7c00 && mw_f32_to_f16(65519.0f) == 0x7bff);
    CHECK(mw_f32_to_f16(1.00048828125f) == 0x3c00); /* a tie goes to even */
    CHECK(mw_f32_to_bf16(1.00390625f) == 0x3f80 && mw_f32_to_bf16(1.01171875f) == 0x3f82);
    CHECK(isnan(mw_f16_to_f32(mw_f32_to_f16(NAN))) && isnan(mw_bf16_to_f32(mw_f32_to_bf16(NAN))));
}

static void paths(void) {
    char here[4096], *whole = mw_path_absolute("a/b"), *same = mw_path_absolute("/a/b");
    NEED(whole && same && getcwd(here, sizeof here) != NULL);
    CHECK(strncmp(whole, here, strlen(here)) == 0 && mw_ends_with(whole, "/a/b") && strcmp(same, "/a/b") == 0);
    mw_free(whole);
    mw_free(same);
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_IO, mw_make_directories(""));
    mw_log_quiet(false);
}

static void columns_of_texts(void) {
    static const struct {
        const char *text;
        int columns;
    } cases[] = {{"", 0},
                 {"loss", 4},
                 {"\xc3\xa9t\xc3\xa9", 3},        /* two bytes per character */
                 {"\xe6\xbc\xa2\xe5\xad\x97", 4}, /* Han */
                 {"\xed\x95\x9c\xea\xb8\x80", 4}, /* Hangul */
                 {"e\xcc\x81", 1},                /* with a combining accent */
                 {"\xf0\x9f\x98\x80", 2},         /* emoji */
                 {"\xef\xbc\xa1", 2},             /* fullwidth A */
                 {"a\xff", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(mw_text_columns(cases[i].text, strlen(cases[i].text)) == cases[i].columns);
}

static bool line_is(const mw_progress *p, int64_t done, double seconds, const char *words, bool over, int width,
                    const char *wanted) {
    mw_text line = {0};
    progress_line(p, done, seconds, words, over, width, &line);
    bool same = line.data && strcmp(line.data, wanted) == 0;
    if (!same) fprintf(stderr, "found '%s'\n", line.data ? line.data : "");
    mw_text_free(&line);
    return same;
}

static void progress_in_words(void) {
    mw_progress train = {.what = "train", .unit = "tokens", .total = 98304};
    const char *words = "loss 0.045, FVU 0.0150, L0 16.0, 48 dead";
    CHECK(line_is(
        &train, 41250, 34, words, false, 200,
        "train 42 %, 47 s left, 1.21k tokens/s, loss 0.045, FVU 0.0150, L0 16.0, 48 dead, 41.2k of 98.3k tokens"));
    CHECK(line_is(&train, 41250, 34, words, false, 79,
                  "train 42 %, 47 s left, 1.21k tokens/s, loss 0.045, FVU 0.0150, L0 16.0, 48 dead"));
    CHECK(line_is(&train, 41250, 34, words, false, 78,
                  "train 42 %, 47 s left, 1.21k tokens/s, loss 0.045, FVU 0.0150, L0 16.0"));
    CHECK(line_is(&train, 41250, 34, words, false, 25, "train 42 %, 47 s left"));
    CHECK(line_is(&train, 41250, 34, words, false, 5, ""));
    CHECK(line_is(&train, 0, 0, NULL, false, 79, "train 0 %, 0 of 98.3k tokens"));
    CHECK(line_is(&train, 98304, 3725, words, true, 60, "train 98.3k tokens in 1 h 02 min, 26.4 tokens/s, loss 0.045"));
    CHECK(line_is(&train, 98304, 125.4, NULL, true, 79, "train 98.3k tokens in 2 min 05 s, 784 tokens/s"));
    train.total = 999600;
    CHECK(line_is(&train, 999600, 2.04, NULL, true, 79, "train 1M tokens in 2.0 s, 490k tokens/s"));
    train.total = 1000000000;
    CHECK(line_is(&train, 1000000, 7.2, NULL, false, 30, "train 0 %, 1 h 59 min left"));
    CHECK(line_is(&train, 1000, 1, NULL, false, 40, "train 0 %, 11 d 13 h left, 1k tokens/s"));
    mw_progress wide = {.what = "\xe6\xbc\xa2\xe5\xad\x97", .unit = "x", .total = 10};
    CHECK(line_is(&wide, 5, 5, NULL, false, 10, "\xe6\xbc\xa2\xe5\xad\x97 50 %"));
    CHECK(line_is(&wide, 5, 5, NULL, false, 8, "")); /* nine columns, ten bytes */
}

static void commands(void) {
    mw_text out = {0};
    double start = mw_seconds();
    CHECK_OK(mw_command_run("cat; echo b", "a\n", 2, 20, 100, &out));
    CHECK(strcmp(out.data, "a\nb\n") == 0);
    CHECK_OK(mw_command_run("exec >&-; sleep 0.3", "", 0, 20, 100, &out)); /* closes its output before its end */
    CHECK_OK(mw_command_run("(sleep 0.1; echo late) & echo soon", "", 0, 20, 100, &out));
    CHECK(strcmp(out.data, "soon\nlate\n") == 0);
    CHECK_OK(mw_command_run("sleep 30 & echo done", "", 0, 20, 100, &out));
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_IO, mw_command_run("exec >&-; sleep 30", "", 0, 0.3, 100, &out));
    CHECK_FAILS(MW_ERR_IO, mw_command_run("exit 3", "", 0, 20, 100, &out));
    CHECK_FAILS(MW_ERR_IO, mw_command_run("yes", "", 0, 20, 100, &out));
    CHECK_FAILS(MW_ERR_IO, mw_command_run("kill -PIPE $$; sleep 1", "", 0, 20, 100, &out));
    mw_log_quiet(false);
    CHECK(mw_seconds() - start < 15);
    mw_text_free(&out);
}

int main(void) {
    RUN(philox_known_answers);
    RUN(random_numbers_look_right);
    RUN(intervals_by_bootstrap);
    RUN(permutation_is_one);
    RUN(numbers_in_text);
    RUN(utf8);
    RUN(files_are_whole_or_absent);
    RUN(only_regular_files);
    RUN(csv_records);
    RUN(half_precision);
    RUN(paths);
    RUN(columns_of_texts);
    RUN(progress_in_words);
    RUN(commands);
    return test_end();
}
