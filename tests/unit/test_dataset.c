/* Documents of every kind of file, and the rules by which they become sequences. */
#include "microw/dataset.h"
#include "test.h"

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

/* All documents' texts, as the sequences decode; one line each. */
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

static void kinds_of_files(void) {
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
    o = options_for("[ad].*", &path); /* a glob, in order */
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

/* Token ids of words without a space before them. */
static int32_t id(const char *word) {
    int32_t found = mw_tokenizer_find(t, word);
    NEED(found >= 0);
    return found;
}

/* What lies between two starts of documents, without bos and eos, are the document's own tokens. */
static void check_documents(const mw_dataset *d, const mw_ids *all, const int64_t ends[4], bool with_eos) {
    int32_t bos = mw_tokenizer_bos(t), eos = mw_tokenizer_eos(t);
    CHECK(d->n_documents == 4 && d->document_first[0] == 0 && d->document_first[4] == d->n_ids);
    for (int64_t n = 0; n < 4; n++) {
        int64_t own = n ? ends[n - 1] : 0, at = d->document_first[n], end = d->document_first[n + 1];
        for (; at < end; at++)
            if (d->ids[at] != bos && d->ids[at] != eos) CHECK(own < ends[n] && d->ids[at] == all->data[own++]);
        CHECK(own == ends[n]);
        CHECK(with_eos || end == d->document_first[n] ||
              d->ids[end - 1] != bos); /* a bos is of the document behind it */
    }
}

static void packing_rules(void) {
    static const char *const texts[] = {"aaaaa", "", "bb", "ccc"}; /* one token a letter is not given: ids are used */
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
    CHECK(fails("bad.json", "{\"text\": \"a\"}", NULL) == MW_ERR_FORMAT);
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
    CHECK(fails("bad.npy", NULL, NULL) == MW_ERR_FORMAT); /* shorter than its header says */
    put_npy("bad.npy", "<i4", "(4611686018427387904, 4)", negative, sizeof negative);
    CHECK(fails("bad.npy", NULL, NULL) == MW_ERR_FORMAT);
}

int main(void) {
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
    RUN(kinds_of_files);
    RUN(token_shards);
    RUN(packing_rules);
    RUN(bad_input);
    mw_tokenizer_free(&t);
    mw_comm_free(&self);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
