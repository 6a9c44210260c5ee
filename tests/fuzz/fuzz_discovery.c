/* Fuzzes discovery files: everything that loads is then used. */
#include "hdf5_edits.h"
#include "microw/concepts.h"

#include <hdf5.h>
#include <string.h>

static const char *const sets[] = {"latents/count",
                                   "latents/histogram",
                                   "latents/histogram_exponent",
                                   "latents/category",
                                   "latents/recall",
                                   "latents/f1",
                                   "texts/row",
                                   "texts/activation",
                                   "texts/center",
                                   "texts/document",
                                   "texts/start",
                                   "texts/tokens",
                                   "texts/activations",
                                   "vocabulary/offset",
                                   "vocabulary/bytes",
                                   "sources/rows",
                                   "sources/count",
                                   "categories/rows",
                                   "categories/count",
                                   "scores/counts",
                                   "scores/f1",
                                   "scores/means",
                                   "neighbours/cosine_index",
                                   "neighbours/cosine",
                                   "neighbours/together_index",
                                   "neighbours/together",
                                   "logits/promoted_token",
                                   "logits/promoted",
                                   "logits/suppressed_token",
                                   "logits/bogus",
                                   "texts",
                                   "latents"};
static const char *const keys[] = {"kind",    "sae",        "latents rows top_texts samples around together_rows",
                                   "sources", "categories", "scored"};
static const hdf5_schema schema = {sets, sizeof sets / sizeof *sets, keys, sizeof keys / sizeof *keys};

enum { N = 2, TOP = 1, SAMPLES = 1, PER = TOP + SAMPLES, VOCAB = 3, TOKENS = 6 };

/* Two latents; the second has one text of its two. */
static void write_good(void) {
    static int64_t count[N] = {3, 1}, bin[N * MW_BINS], row[N * PER] = {4, 2, 7, -1},
                   start[N * PER + 1] = {0, 2, 4, 6, 6}, source_rows[1] = {10}, by_source[N] = {3, 1},
                   by_category[2 * N] = {3, 0, 0, 1}, category_rows[2] = {8, 2}, scored_counts[2] = {2, 5};
    static int32_t exponent[N], center[N * PER] = {1, 0, 0, 0}, id[TOKENS] = {0, 1, 2, 0, 1, 2}, category[N] = {0, 1},
                                           near[N] = {1, 0}, token[N] = {2, 0};
    static float score[N * PER] = {2, 1, 3, 0}, value[TOKENS], precision[N] = {1, 1}, recall[N] = {1, 0.5f},
                           f1[N] = {1, 0.5f}, scores[3 * MW_SCORES] = {1, 0.5f}, scored_f1[2] = {1, 0},
                           cosine[N] = {0.5f, 0.5f};
    static uint64_t offset[VOCAB + 1] = {0, 1, 2, 3};
    static char bytes[] = "\xe2\x9c\x93", /* parts of a character */
        *sources[] = {"a.txt"}, *categories[] = {"one", "two"}, *scored[] = {"trained"};
    const mw_nearest alike = {1, near, cosine}, words = {1, token, cosine};
    const mw_discovery d = {.n = N,
                            .rows = 10,
                            .top_texts = TOP,
                            .samples = SAMPLES,
                            .per = PER,
                            .around = 1,
                            .count = count,
                            .bin_exponent = exponent,
                            .bin = bin,
                            .text_row = row,
                            .text_score = score,
                            .text_start = start,
                            .text_center = center,
                            .text_document = row,
                            .text_position = center,
                            .text_id = id,
                            .text_value = value,
                            .n_vocabulary = VOCAB,
                            .vocabulary_offset = offset,
                            .vocabulary_bytes = bytes,
                            .n_sources = 1,
                            .source = sources,
                            .source_rows = source_rows,
                            .by_source = by_source,
                            .n_categories = 2,
                            .category_name = categories,
                            .by_category = by_category,
                            .category = category,
                            .category_rows = category_rows,
                            .recall = recall,
                            .f1 = f1,
                            .n_scored = 1,
                            .scored = scored,
                            .scored_counts = scored_counts,
                            .scored_f1 = scored_f1,
                            .score = scores,
                            .precision = precision,
                            .cosine = alike,
                            .coactive = alike,
                            .coactive_rows = 5,
                            .promoted = words,
                            .suppressed = words};
    fuzz_need(mw_discovery_save(&d, fuzz_path("good.h5"), "abc", "def") == MW_OK, "not written");
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    write_good();
    return 0;
}

/* Everything that the stages do with it. */
static void use(const mw_discovery *d) {
    mw_names names = {0};
    mw_text text = {0};
    if (d->n > 4096 || mw_names_new(d->n, &names) != MW_OK) return;
    for (int64_t i = 0; i < d->n; i++) {
        if (d->count[i] && mw_name_by_tokens(d, i, &text) == MW_OK) {
            mw_name name = {.name = text.data};
            fuzz_need(mw_names_set(&names, i, &name) == MW_OK, "not named");
        }
        for (int64_t q = 0; q < 5; q++) {
            int64_t t = mw_discovery_quantile(d, i, q, 5);
            fuzz_need(t < d->n * d->per, "a text out of range");
        }
    }
    mw_text_free(&text);
    mw_status status = mw_concepts_save(fuzz_path("concepts.json"), d, &names);
    (void)status;
    mw_names_free(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_copy(fuzz_path("good.h5"), "discovery.h5");
    hdf5_edit(fuzz_path("discovery.h5"), &schema, data, size);
    fuzz_begin();
    mw_discovery d;
    char *mark = NULL;
    if (mw_discovery_load(fuzz_path("discovery.h5"), &d, &mark) == MW_OK) {
        use(&d);
        mw_discovery_free(&d);
        mw_free(mark);
    }
    fuzz_end();
    return 0;
}
