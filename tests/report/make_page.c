/* Writes pages for the browser's test, from synthetic data:
 *     make_page hostile FILE.html       texts that try to be markup or script, or to change the direction of the page
 *     make_page large FILE.html N       N latents, in files beside the page
 */
#include "microw/base.h"
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVIL "<script>document.title='owned'</script>"

static const char *const evil_tokens[] = {
    EVIL,
    "</script><img src=x onerror=\"document.title='owned'\">",
    "\xe2\x80\xae\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d", /* override, Hebrew */
    " \xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7",    /* Arabic */
    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac", /* emoji of three code points */
    "\xff\xfe broken",
    "\n",
    "${alert(1)}`'\"&amp;<!--",
    "",
    "plain"};
enum { EVILS = sizeof evil_tokens / sizeof *evil_tokens, LONG = 1 << 20, SHOWN = 5 };

static void *need(void *block) {
    if (!block) exit(1);
    return block;
}

static void make_vocabulary(mw_discovery *d) {
    d->n_vocabulary = EVILS + 1; /* the last is a megabyte long */
    d->vocabulary_offset = need(mw_calloc(EVILS + 2, sizeof *d->vocabulary_offset));
    d->vocabulary_bytes = need(mw_alloc(LONG + 4096));
    uint64_t at = 0;
    for (int i = 0; i < EVILS; i++) {
        memcpy(d->vocabulary_bytes + at, evil_tokens[i], strlen(evil_tokens[i]));
        at += strlen(evil_tokens[i]);
        d->vocabulary_offset[i + 1] = at;
    }
    memset(d->vocabulary_bytes + at, '<', LONG);
    d->vocabulary_offset[EVILS + 1] = at + LONG;
}

static void make_texts(mw_discovery *d, int64_t tokens) {
    int64_t texts = d->n * d->per;
    d->text_row = need(mw_alloc((size_t)texts * sizeof *d->text_row));
    d->text_score = need(mw_alloc((size_t)texts * sizeof *d->text_score));
    d->text_center = need(mw_alloc((size_t)texts * sizeof *d->text_center));
    d->text_document = need(mw_calloc((size_t)texts, sizeof *d->text_document));
    d->text_position = need(mw_calloc((size_t)texts, sizeof *d->text_position));
    d->text_start = need(mw_alloc((size_t)(texts + 1) * sizeof *d->text_start));
    d->text_id = need(mw_alloc((size_t)(texts * tokens) * sizeof *d->text_id));
    d->text_value = need(mw_calloc((size_t)(texts * tokens), sizeof *d->text_value));
    for (int64_t t = 0; t < texts; t++) {
        d->text_row[t] = t;
        d->text_score[t] = (float)(2 + d->n - t / d->per);
        d->text_center[t] = (int32_t)(t % tokens);
        d->text_start[t] = t * tokens;
        for (int64_t i = 0; i < tokens; i++) d->text_id[t * tokens + i] = (int32_t)((t + i) % d->n_vocabulary);
        d->text_value[t * tokens + t % tokens] = d->text_score[t];
    }
    d->text_start[texts] = texts * tokens;
}

static void make_nearest(mw_nearest *nearest, int64_t n, int64_t m, int64_t limit) {
    *nearest = (mw_nearest){m, need(mw_alloc((size_t)(n * m) * sizeof(int32_t))),
                            need(mw_calloc((size_t)(n * m), sizeof(float)))};
    for (int64_t i = 0; i < n * m; i++) nearest->index[i] = (int32_t)(i % limit);
}

static void make_discovery(int64_t n, mw_discovery *d) {
    *d = (mw_discovery){.n = n, .rows = 1000000, .top_texts = 2, .samples = 3, .per = 5};
    d->count = need(mw_calloc((size_t)n, sizeof *d->count));
    d->bin = need(mw_calloc((size_t)n * MW_BINS, sizeof *d->bin));
    d->bin_exponent = need(mw_calloc((size_t)n, sizeof *d->bin_exponent));
    d->category = need(mw_calloc((size_t)n, sizeof *d->category));
    d->f1 = need(mw_calloc((size_t)n, sizeof *d->f1));
    d->precision = need(mw_calloc((size_t)n, sizeof *d->precision));
    d->recall = need(mw_calloc((size_t)n, sizeof *d->recall));
    d->by_category = need(mw_calloc((size_t)n, sizeof *d->by_category));
    d->by_source = need(mw_calloc((size_t)n * 2, sizeof *d->by_source));
    d->source_rows = need(mw_calloc(2, sizeof *d->source_rows));
    d->n_categories = 1;
    d->category_name = need(mw_calloc(1, sizeof *d->category_name));
    d->category_name[0] = need(mw_strdup(EVIL));
    d->n_sources = 2;
    d->source = need(mw_calloc(2, sizeof *d->source));
    d->source[0] = need(mw_strdup(EVIL));
    d->source[1] = need(mw_strdup("other.jsonl"));
    for (int64_t i = 0; i < n; i++) {
        d->count[i] = i == 1 ? 0 : 1 + i * 7919 % 1000;
        d->bin[i * MW_BINS + 33] = d->count[i];
        d->by_category[i] = d->count[i];
    }
    make_vocabulary(d);
    make_texts(d, SHOWN);
    make_nearest(&d->cosine, n, 3, n);
    make_nearest(&d->coactive, n, 3, n);
    make_nearest(&d->promoted, n, 3, d->n_vocabulary);
    make_nearest(&d->suppressed, n, 3, d->n_vocabulary);
}

static void make_names(int64_t n, bool hostile, mw_names *names) {
    char text[64];
    if (mw_names_new(n, names) != MW_OK) exit(1);
    for (int64_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "name %lld", (long long)i);
        mw_name name = {hostile ? (char *)(uintptr_t)evil_tokens[i % (EVILS - 2)] : text, NULL, NULL, 0.5};
        if (hostile && i == 0) name.note = (char *)(uintptr_t)EVIL;
        if (name.name[0] && mw_names_set(names, i, &name) != MW_OK) exit(1);
    }
}

static json_t *make_meta(const char *title, const mw_discovery *d) {
    json_t *steering = json_pack("{s:[s], s:[{s:s, s:[{s:i, s:f, s:f}], s:[[s]]}]}", "prompts", EVIL, "variants",
                                 "name", EVIL, "edits", "latent", 1, "scale", 1.0, "add", 2.0, "texts", EVIL);
    json_t *sweep = json_pack("[{s:s, s:f, s:f, s:i, s:b, s:f}, {s:s, s:f, s:f, s:i, s:b}]", "point", EVIL, "l0", 16.0,
                              "fvu", 0.02, "dead", 3, "best_fvu", 1, "ce_recovered_zero", 0.99, "point", "other", "l0",
                              32.0, "fvu", 0.01, "dead", 0, "best_fvu", 1);
    return json_pack("{s:s, s:{s:s}, s:s, s:I, s:[s], s:[s, s], s:[i, i], s:o, s:o}", "title", title, "facts", EVIL,
                     EVIL, "config", EVIL, "rows", (json_int_t)d->rows, "categories", EVIL, "sources", EVIL,
                     "other.jsonl", "source_rows", 10, 0, "steering", steering, "sweep", sweep);
}

int main(int argc, char **argv) {
    bool large = argc == 4 && strcmp(argv[1], "large") == 0;
    if (!large && argc != 3) return 2;
    mw_discovery d;
    mw_names names;
    double bytes;
    int64_t files;
    make_discovery(large ? atoll(argv[3]) : 40, &d);
    make_names(d.n, !large, &names);
    report r = {.path = argv[2],
                .meta = make_meta(large ? "large" : EVIL, &d),
                .discovery = &d,
                .names = &names,
                .embed_bytes = large ? 1e5 : 1e9};
    mw_status status = report_write(&r, &bytes, &files);
    printf("%.0f bytes, %lld files beside it\n", bytes, (long long)files);
    json_decref(r.meta);
    mw_discovery_free(&d);
    mw_names_free(&names);
    return status == MW_OK && mw_alloc_balance() == 0 ? 0 : 1;
}
