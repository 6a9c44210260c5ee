/* Documents of all file formats, and the rules by which they become sequences. */
#include "microw/dataset.h"
#include "test.h"

#include <errno.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

static mw_tokenizer *t;
static mw_comm *self;
static char folder[] = "/tmp/microw-dataset-XXXXXX";

static void put(const char *name, const void *data, size_t length) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    NEED_OK(mw_file_write_atomic(path, data, length));
}

static void put_text(const char *name, const char *text) {
    put(name, text, strlen(text));
}

static mw_dataset_options options_for(const char *name, const char **path) {
    static char text[128];
    snprintf(text, sizeof text, "%s/%s", folder, name);
    *path = text;
    return (mw_dataset_options){.paths = path,
                                .n_paths = 1,
                                .text_field = "text",
                                .context = 8,
                                .pack = true,
                                .bos = MW_BOS_NONE,
                                .separator = "<|endoftext|>"};
}

static mw_dataset *load(const mw_dataset_options *o) {
    mw_dataset *d = NULL;
    NEED_OK(mw_dataset_load(o, t, self, &d));
    return d;
}

/* Checks the decoded text of all sequences, each followed by '|'. */
static void check_texts(const mw_dataset_options *o, int64_t documents, const char *expected) {
    mw_dataset *d = load(o);
    mw_text text = {0};
    for (int64_t s = 0; s < d->n_sequences; s++) {
        NEED_OK(mw_tokenizer_decode(t, d->ids + d->first[s], d->length[s], &text));
        mw_text_add(&text, "|", 1);
    }
    if (strcmp(text.data, expected) != 0) fprintf(stderr, "got '%s', expected '%s'\n", text.data, expected);
    CHECK(strcmp(text.data, expected) == 0 && d->n_documents == documents);
    mw_text_free(&text);
    mw_dataset_free(&d);
}

static void file_formats(void) {
    const char *path;
    put_text("a.txt", "the cat\n\nand\r\nof\n");
    mw_dataset_options o = options_for("a.txt", &path);
    o.context = 100;
    check_texts(&o, 1, "the cat\n\nand\r\nof\n|");
    o.pack = false;
    o.split = MW_SPLIT_LINE;
    check_texts(&o, 3, "the cat|and|of|");
    put_text("b.txt", "one<|endoftext|>\ntwo\nlines\n<|endoftext|>\n  \n");
    o = options_for("b.txt", &path);
    o.context = 100;
    o.pack = false;
    o.split = MW_SPLIT_SEPARATOR;
    check_texts(&o, 2, "one|two\nlines|");
    put_text("c.jsonl", "{\"text\":\"x\"}\n\n\"y\\n\"\n{\"id\":3,\"text\":\"z\"}");
    o = options_for("c.jsonl", &path);
    o.pack = false;
    check_texts(&o, 3, "x|y\n|z|");
    put_text("d.json", "[\"p\", {\"body\": \"q\"}]");
    o = options_for("d.json", &path);
    o.pack = false;
    o.text_field = "body";
    check_texts(&o, 2, "p|q|");
    o = options_for("[ad].*", &path); /* a glob, sorted */
    o.pack = false;
    o.context = 100;
    o.text_field = "body";
    check_texts(&o, 3, "the cat\n\nand\r\nof\n|p|q|");
}

static void put_npy(const char *name, const char *descr, const char *shape, const void *data, size_t bytes) {
    char whole[512] = "\x93NUMPY\x01", header[128];
    int n = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
    uint16_t length = (uint16_t)n;
    memcpy(whole + 8, &length, 2);
    memcpy(whole + 10, header, (size_t)n);
    memcpy(whole + 10 + n, data, bytes);
    put(name, whole, 10 + (size_t)n + bytes);
}

static void token_shards(void) {
    const char *path;
    uint16_t two[6] = {1, 2, 3, 4, 5, 60000};
    put_npy("rows.npy", "<u2", "(2, 3)", two, sizeof two);
    mw_dataset_options o = options_for("rows.npy", &path);
    o.pack = false;
    mw_dataset *d = load(&o);
    CHECK(d->n_sequences == 2 && d->length[1] == 3 && d->ids[5] == 60000);
    mw_dataset_free(&d);
    int64_t one[3] = {7, 8, 9};
    put_npy("flat.npy", "<i8", "(3,)", one, sizeof one);
    o = options_for("flat.npy", &path);
    d = load(&o);
    CHECK(d->n_sequences == 1 && d->length[0] == 3 && d->ids[2] == 9);
    mw_dataset_free(&d);
}

/* A row that begins with bos keeps that one; other rows are given one. */
static void rows_with_bos(void) {
    const char *path;
    int32_t bos = mw_tokenizer_bos(t), rows[6] = {bos, 2, 3, 4, 5, 6}, given[7] = {bos, 2, 3, bos, 4, 5, 6};
    NEED(bos >= 0);
    put_npy("bos.npy", "<i4", "(2, 3)", rows, sizeof rows);
    mw_dataset_options o = options_for("bos.npy", &path);
    static const struct {
        mw_bos_rule rule;
        bool gives;
    } cases[] = {{MW_BOS_AUTO, true}, {MW_BOS_DOCUMENT, true}, {MW_BOS_NONE, false}};
    for (int i = 0; i < 3; i++) {
        o.bos = cases[i].rule;
        mw_dataset *d = load(&o);
        int64_t n = cases[i].gives ? 7 : 6;
        CHECK(d->n_ids == n && memcmp(d->ids, cases[i].gives ? given : rows, (size_t)n * sizeof *rows) == 0);
        mw_dataset_free(&d);
    }
    o.bos = MW_BOS_CONTEXT;
    o.context = 3;
    mw_dataset *d = load(&o);
    CHECK(d->n_ids == 8 && d->ids[2] == 3 && d->ids[3] == bos && d->ids[4] == 4); /* [bos 2 3] [bos 4 5] [bos 6] */
    mw_dataset_free(&d);
}

/* Returns the id of a token that must exist. */
static int32_t id(const char *word) {
    int32_t found = mw_tokenizer_find(t, word);
    NEED(found >= 0);
    return found;
}

/* The tokens between two document starts, without bos and eos, are those of the document. */
static void check_documents(const mw_dataset *d, const mw_ids *all, const int64_t ends[4], bool with_eos) {
    int32_t bos = mw_tokenizer_bos(t), eos = mw_tokenizer_eos(t);
    CHECK(d->n_documents == 4 && d->document_first[0] == 0 && d->document_first[4] == d->n_ids);
    for (int64_t n = 0; n < 4; n++) {
        int64_t own = n ? ends[n - 1] : 0, at = d->document_first[n], end = d->document_first[n + 1];
        for (; at < end; at++)
            if (d->ids[at] != bos && d->ids[at] != eos) CHECK(own < ends[n] && d->ids[at] == all->data[own++]);
        CHECK(own == ends[n]);
        CHECK(with_eos || end == d->document_first[n] ||
              d->ids[end - 1] != bos); /* a bos belongs to the document after it */
    }
}

static void packing_rules(void) {
    static const char *const texts[] = {"aaaaa", "", "bb", "ccc"}; /* letters may merge: ids are compared */
    mw_dataset *d = NULL;
    int32_t bos = mw_tokenizer_bos(t);
    mw_dataset_options o = {.context = 4, .pack = true, .bos = MW_BOS_NONE};
    mw_ids all = {0};
    int64_t ends[4];
    for (int i = 0; i < 4; i++) {
        NEED_OK(mw_tokenizer_encode(t, texts[i], strlen(texts[i]), &all));
        ends[i] = all.count;
    }
    NEED_OK(mw_dataset_from_texts(texts, 4, &o, t, &d));
    CHECK(d->n_ids == all.count && memcmp(d->ids, all.data, (size_t)all.count * 4) == 0);
    for (int64_t s = 0; s + 1 < d->n_sequences; s++) CHECK(d->length[s] == 4 && d->first[s] == 4 * s);
    check_documents(d, &all, ends, o.eos);
    mw_dataset_free(&d);
    o.bos = MW_BOS_DOCUMENT;
    NEED_OK(mw_dataset_from_texts(texts, 4, &o, t, &d));
    CHECK(d->n_ids == all.count + 3 && d->ids[0] == bos && d->ids[1 + ends[0]] == bos); /* none for the empty text */
    check_documents(d, &all, ends, o.eos);
    mw_dataset_free(&d);
    o.bos = MW_BOS_CONTEXT;
    NEED_OK(mw_dataset_from_texts(texts, 4, &o, t, &d));
    for (int64_t s = 0; s < d->n_sequences; s++) CHECK(d->ids[d->first[s]] == bos && d->length[s] <= 4);
    CHECK(d->n_ids == all.count + d->n_sequences);
    check_documents(d, &all, ends, o.eos);
    mw_dataset_free(&d);
    o.bos = MW_BOS_DOCUMENT;
    o.eos = true;
    o.pack = false;
    NEED_OK(mw_dataset_from_texts(texts, 4, &o, t, &d));
    int64_t last = d->first[d->n_sequences - 1] + d->length[d->n_sequences - 1] - 1;
    CHECK(d->ids[last] == mw_tokenizer_eos(t) && d->document[d->n_sequences - 1] == 3);
    check_documents(d, &all, ends, o.eos);
    for (int64_t s = 0; s < d->n_sequences; s++) CHECK(d->ids[d->first[s]] == bos && d->length[s] <= 4);
    mw_dataset_free(&d);
    o.truncate = true;
    NEED_OK(mw_dataset_from_texts(texts, 4, &o, t, &d));
    CHECK(d->n_sequences == 3 && d->document[1] == 2);
    mw_dataset_free(&d);
    mw_ids_free(&all);
    CHECK(id("!") >= 0);
}

static mw_status fails(const char *name, const char *text, mw_dataset_options *extra) {
    const char *path;
    mw_dataset *d = NULL;
    if (text) put_text(name, text);
    mw_dataset_options o = options_for(name, &path);
    if (extra) {
        o.context = extra->context ? extra->context : o.context;
        o.split = extra->split;
        if (extra->separator) o.separator = extra->separator;
        if (extra->text_field) o.text_field = extra->text_field;
    }
    mw_log_quiet(true);
    mw_status status = mw_dataset_load(&o, t, self, &d);
    mw_log_quiet(false);
    mw_dataset_free(&d);
    return status;
}

static void bad_input(void) {
    mw_dataset_options short_context = {.context = 1}, no_separator = {.split = MW_SPLIT_SEPARATOR, .separator = ""};
    CHECK(fails("none.txt", NULL, NULL) == MW_ERR_IO);
    CHECK(fails("blank.txt", " \n\n", NULL) == MW_ERR_FORMAT);
    CHECK(fails("bad.jsonl", "{\"text\": 3}\n", NULL) == MW_ERR_FORMAT);
    CHECK(fails("bad.jsonl", "{\"text\": \"a\"}\n{\"text\"\n", NULL) == MW_ERR_FORMAT);
    CHECK(fails("bad.json", "{\n\"text\": \"a\"}", NULL) == MW_ERR_FORMAT);
    CHECK(fails("bad.json", "{\"body\": \"a\"}", NULL) == MW_ERR_FORMAT);
    CHECK(fails("bad.json", "[1]", NULL) == MW_ERR_FORMAT);
    CHECK(fails("bad.npy", "not numpy at all", NULL) == MW_ERR_FORMAT);
    CHECK(fails("x.txt", "word", &short_context) == MW_ERR_CONFIG);
    CHECK(fails("x.txt", "word", &no_separator) == MW_ERR_CONFIG);
    int32_t negative[1] = {-4};
    float number[1] = {1};
    put_npy("bad.npy", "<i4", "(1,)", negative, sizeof negative);
    CHECK(fails("bad.npy", NULL, NULL) == MW_ERR_FORMAT);
    put_npy("bad.npy", "<f4", "(1,)", number, sizeof number);
    CHECK(fails("bad.npy", NULL, NULL) == MW_ERR_FORMAT);
    put_npy("bad.npy", "<i4", "(2,)", negative, sizeof negative);
    CHECK(fails("bad.npy", NULL, NULL) == MW_ERR_FORMAT); /* shorter than its header states */
    put_npy("bad.npy", "<i4", "(4611686018427387904, 4)", negative, sizeof negative);
    CHECK(fails("bad.npy", NULL, NULL) == MW_ERR_FORMAT);
}

/* ---- file formats and malformed files --------------------------------------------------------- */

/* Options for one document per sequence. */
static mw_dataset_options apart(const char *name, const char **path) {
    mw_dataset_options o = options_for(name, path);
    o.pack = false;
    o.context = 100;
    return o;
}

static void check_file(const char *name, const char *text, int64_t documents, const char *expected) {
    const char *path;
    if (text) put_text(name, text);
    mw_dataset_options o = apart(name, &path);
    check_texts(&o, documents, expected);
}

static mw_status load_as(const char *name, const char *text, mw_dataset_format format) {
    const char *path;
    mw_dataset *d = NULL;
    if (text) put_text(name, text);
    mw_dataset_options o = apart(name, &path);
    o.format = format;
    mw_status status = mw_dataset_load(&o, t, self, &d);
    mw_dataset_free(&d);
    return status;
}

static mw_status load_text(const char *name, const char *text) {
    return load_as(name, text, MW_FORMAT_AUTO);
}

static void endings(void) {
    static const char line[] = "{\"text\": \"x\"}\n";
    check_file("e.JSONL", line, 1, "x|");
    check_file("e.ndjson", line, 1, "x|");
    check_file("e.json", "\n{\"text\": \"p\"}\n\n{\"text\": \"q\"}", 2, "p|q|");
    check_file("e2.json", "\xef\xbb\xbf \n[\"p\",\n\"q\"]\n", 2, "p|q|");
    check_file("e.TXT", "x", 1, "x|");
    CHECK_SAYS(MW_ERR_CONFIG, "expected .txt, .text, .jsonl, .ndjson, .json, .csv, .tsv, .npy",
               load_text("e.log", "x"));
    CHECK_SAYS(MW_ERR_CONFIG, "dataset.format", load_text("e", "x"));
    CHECK_SAYS(MW_ERR_CONFIG, "dataset.format", load_text("e.bin.gz", "x"));
    CHECK_SAYS(MW_ERR_CONFIG, "tools/import_hf_dataset.py", load_text("e.Parquet", "x"));
    CHECK_SAYS(MW_ERR_CONFIG, "tools/import_hf_dataset.py", load_text("e.arrow", "x"));
    CHECK_OK(load_as("e.log", "x", MW_FORMAT_TEXT));
    CHECK_OK(load_as("e", line, MW_FORMAT_JSONL));
    CHECK_SAYS(MW_ERR_FORMAT, "e.txt:1: not valid JSON", load_as("e.txt", "x", MW_FORMAT_JSONL));
    CHECK_SAYS(MW_ERR_FORMAT, "expected one JSON array, or one JSON value a line",
               load_text("p.json", "{\n\"text\": 1}"));
    CHECK_SAYS(MW_ERR_FORMAT, "p.json:3: not valid JSON", load_text("p.json", "[1,\n2\n"));
    CHECK_SAYS(MW_ERR_IO, "a folder", load_text("", NULL));
}

static void csv_files(void) {
    check_file("r.csv", "id,text\r\n1,\"one, \"\"two\"\"\nthree\"\r\n\r\n2,plain\r\n3,\"\n\"", 3,
               "one, \"two\"\nthree|plain|\n|");
    check_file("bom.csv", "\xef\xbb\xbftext\na\rb\nc", 3, "a|b|c|");
    check_file("r.tsv", "text\tid\na, \"b\" c\t1\n\"d\te\"\t2\n", 2, "a, \"b\" c|d\te|");
    CHECK_SAYS(MW_ERR_CONFIG, "n.csv:1: no column 'text' (dataset.text_field); columns: id, body",
               load_text("n.csv", "id,body\n1,x\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "u.csv:3: the quote that opens here is never closed",
               load_text("u.csv", "text\nx\n\"open\ny\nz\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "b.csv:4: text behind the quote that closes a field",
               load_text("b.csv", "text\n\"x\ny\"\n\"a\" b\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "w.csv:2: 2 fields, but the header has 1", load_text("w.csv", "text\na, b\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "d.csv:1: column 'text' occurs twice", load_text("d.csv", "text,text\na,b\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "m.csv:3: expected a text in field 'text', found fewer fields",
               load_text("m.csv", "id,text\n1,a\n2\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "m.csv:3: expected a text in field 'text', found an empty text",
               load_text("m.csv", "id,text\n1,a\n2,\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "not a text file", (put("z.csv", "text\n\0", 6), load_text("z.csv", NULL)));
}

/* Writes `times` concatenated gzip streams of a text, without the last `cut` bytes. */
static void put_gzip(const char *name, const char *text, int times, int64_t cut) {
    uint8_t whole[4096];
    size_t length = 0;
    for (int i = 0; i < times; i++) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)strlen(text)};
        NEED(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        z.next_out = whole + length;
        z.avail_out = (uInt)(sizeof whole - length);
        NEED(deflate(&z, Z_FINISH) == Z_STREAM_END);
        length += z.total_out;
        deflateEnd(&z);
    }
    put(name, whole, length - (size_t)cut);
}

static void put_zstd(const char *name, const char *text, int times, int64_t cut) {
    char whole[4096];
    size_t length = 0;
    for (int i = 0; i < times; i++)
        length += ZSTD_compress(whole + length, sizeof whole - length, text, strlen(text), 3);
    put(name, whole, length - (size_t)cut);
}

static void compressed_files(void) {
    static const char lines[] = "{\"text\": \"x\"}\n{\"text\": \"y\"}\n";
    put_gzip("g.jsonl.gz", lines, 1, 0);
    check_file("g.jsonl.gz", NULL, 2, "x|y|");
    put_gzip("g2.JSONL.GZ", lines, 2, 0);
    check_file("g2.JSONL.GZ", NULL, 4, "x|y|x|y|");
    put_zstd("z.csv.zst", "text\na\nb\n", 1, 0);
    check_file("z.csv.zst", NULL, 2, "a|b|");
    put_zstd("z2.txt.zst", "abc", 3, 0);
    check_file("z2.txt.zst", NULL, 1, "abcabcabc|");
    put_gzip("t.jsonl.gz", lines, 2, 6);
    CHECK_SAYS(MW_ERR_FORMAT, "t.jsonl.gz: truncated gzip stream", load_text("t.jsonl.gz", NULL));
    put_zstd("t.jsonl.zst", lines, 2, 3);
    CHECK_SAYS(MW_ERR_FORMAT, "t.jsonl.zst: truncated zstd stream", load_text("t.jsonl.zst", NULL));
    CHECK_SAYS(MW_ERR_FORMAT, "truncated gzip stream", load_text("empty.txt.gz", ""));
    CHECK_SAYS(MW_ERR_FORMAT, "truncated zstd stream", load_text("empty.txt.zst", ""));
    CHECK_SAYS(MW_ERR_FORMAT, "damaged gzip stream at byte", load_text("d.txt.gz", "no stream at all"));
    CHECK_SAYS(MW_ERR_FORMAT, "damaged zstd stream at byte", load_text("d.txt.zst", "no stream at all"));
    char *whole, damaged[256];
    size_t length;
    put_gzip("w.txt.gz", "aaaa bbbb cccc", 1, 0);
    snprintf(damaged, sizeof damaged, "%s/w.txt.gz", folder);
    NEED_OK(mw_file_read(damaged, &whole, &length));
    whole[length - 6] ^= 1; /* in the checksum */
    put("w.txt.gz", whole, length);
    mw_free(whole);
    CHECK_SAYS(MW_ERR_FORMAT, "damaged gzip stream at byte", load_text("w.txt.gz", NULL));
}

/* A gigabyte of zeros compressed to a megabyte, with less memory available: one error, and all memory is freed. */
__attribute__((unused)) static void bomb(void) {
    enum { ZEROS = 16 << 20, TIMES = 64 };
    uLongf length = compressBound(ZEROS);
    char command[512];
    uint8_t *member = mw_alloc(length), *zeros = mw_calloc(ZEROS, 1);
    z_stream z = {.next_in = zeros, .avail_in = ZEROS, .next_out = member, .avail_out = (uInt)length};
    NEED(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    NEED(deflate(&z, Z_FINISH) == Z_STREAM_END);
    mw_text all = {0};
    for (int i = 0; i < TIMES; i++) mw_text_add(&all, (const char *)member, z.total_out);
    deflateEnd(&z);
    put("bomb.txt.gz", all.data, all.length);
    mw_text_free(&all);
    mw_free(member);
    mw_free(zeros);
    snprintf(command, sizeof command,
             "(ulimit -v 700000; %s bomb %s/bomb.txt.gz) > %s/output 2>&1; test $? -eq 3 && "
             "grep -c 'error' %s/output | grep -qx 1",
             program_invocation_name, folder, folder, folder);
    CHECK(system(command) == 0);
}

static int unpack_bomb(const char *path) {
    uint8_t *out;
    size_t length;
    char *data;
    NEED_OK(mw_file_read(path, &data, &length));
    mw_status status = mw_decompress(path, MW_COMPRESSION_GZIP, data, length, &out, &length);
    mw_free(data);
    return status == MW_ERR_MEMORY && mw_alloc_balance() == 0 ? 3 : 1;
}

/* ---- records without text, and JSON of other writers ------------------------------------------------ */

static void records_without_text(void) {
    static const char records[] = "{\"text\": \"x\"}\n{\"id\": 1}\n{\"text\": null}\n{\"text\": 3}\n{\"text\": \"\"}\n"
                                  "{\"text\": NaN}\nNaN\n{}\n{\"text\": \"p\", \"text\": \"q\"}\n{\"text\": \"y\"}\n";
    const char *path;
    put_text("r.jsonl", records);
    mw_dataset_options o = apart("r.jsonl", &path);
    o.on_missing = MW_MISSING_SKIP;
    check_texts(&o, 10, "x|y|");
    CHECK_SAYS(MW_ERR_FORMAT,
               "r1.jsonl:2: expected a text in field 'text', found nothing; fields: id, body; "
               "dataset.on_missing: skip",
               load_text("r1.jsonl", "\n{\"id\": 1, \"body\": \"x\"}\n"));
    CHECK_SAYS(MW_ERR_FORMAT, "found null; fields: text", load_text("r1.jsonl", "{\"text\": null}"));
    CHECK_SAYS(MW_ERR_FORMAT, "found NaN", load_text("r1.jsonl", "{\"text\": NaN}"));
    CHECK_SAYS(MW_ERR_FORMAT, "found an empty text", load_text("r1.jsonl", "{\"text\": \"\"}"));
    CHECK_SAYS(MW_ERR_FORMAT, "found two different values",
               load_text("r1.jsonl", "{\"text\": \"a\", \"text\": \"b\"}"));
    CHECK_SAYS(MW_ERR_FORMAT, "r1.json: element 1: expected a text", load_text("r1.json", "[\"a\", {}]"));
    CHECK_SAYS(MW_ERR_FORMAT, "no tokens",
               (put_text("r2.jsonl", "{}\n"), o = apart("r2.jsonl", &path), o.on_missing = MW_MISSING_SKIP,
                mw_dataset_load(&o, t, self, &(mw_dataset *){0})));
}

static void json_of_other_writers(void) {
    check_file(
        "w.jsonl",
        "\xef\xbb\xbf{\"id\": 123456789012345678901234567890, \"text\": \"a\"}\r\n{\"score\": NaN, \"text\": \"b\"}\n"
        "{\"x\": -1e400, \"x\": 1, \"text\": \"c\"}\n \t\n\xef\xbb\xbf{\"text\": \"d\"}",
        4, "a|b|c|d|");
    check_file("s.jsonl", "{\"text\": \"e\\ud83df\"}\n", 1,
               "e\xef\xbf\xbd"
               "f|");
    const char *path;
    put_text("n.jsonl", "{\"text\": \"g\\u0000h\"}\n");
    mw_dataset_options o = apart("n.jsonl", &path);
    mw_dataset *d = load(&o);
    mw_text text = {0};
    NEED_OK(mw_tokenizer_decode(t, d->ids, d->n_ids, &text));
    CHECK(text.length == 3 && memcmp(text.data, "g\0h", 3) == 0);
    mw_text_free(&text);
    mw_dataset_free(&d);
}

static void names_before_patterns(void) {
    put_text("v[1].txt", "literal");
    put_text("v1.txt", "pattern");
    check_file("v[1].txt", NULL, 1, "literal|");
    check_file("v[0-9].txt", NULL, 1, "pattern|");
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "bomb") == 0) return unpack_bomb(argv[2]);
    NEED(mkdtemp(folder) != NULL);
    NEED_OK(mw_comm_self(&self));
    char command[512], tokenizer[64];
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer", folder);
    snprintf(command, sizeof command,
             "mkdir %s && cp %s/tokenizers/gpt2.json %s/tokenizer.json && echo "
             "'{\"bos_token\": \"<|endoftext|>\", \"eos_token\": \"<|endoftext|>\"}' > %s/tokenizer_config.json",
             tokenizer, MICROW_GOLDEN, tokenizer, tokenizer);
    NEED(system(command) == 0);
    NEED_OK(mw_tokenizer_open(tokenizer, &t));
    RUN(file_formats);
    RUN(token_shards);
    RUN(rows_with_bos);
    RUN(packing_rules);
    RUN(bad_input);
    RUN(endings);
    RUN(csv_files);
    RUN(compressed_files);
#ifndef MICROW_SANITIZE /* sanitizers need more address space than the limit */
    RUN(bomb);
#endif
    RUN(records_without_text);
    RUN(json_of_other_writers);
    RUN(names_before_patterns);
    mw_tokenizer_free(&t);
    mw_comm_free(&self);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
