/* Fuzzes files of documents: the first byte chooses the format and options, the rest is the file. A zstd stream may
 * request 2 GB at once: -malloc_limit_mb=4096. */
#include "fuzz.h"
#include "microw/dataset.h"

static mw_tokenizer *tokenizer;
static mw_comm *comm;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    fuzz_need(mw_tokenizer_open(MICROW_SOURCE "/configs/demo/model", &tokenizer) == MW_OK, "no tokenizer");
    fuzz_need(mw_comm_self(&comm) == MW_OK, "no communicator");
    return 0;
}

static void check(const mw_dataset *d) {
    for (int64_t s = 0; s < d->n_sequences; s++)
        fuzz_need(d->first[s] >= 0 && d->length[s] > 0 && d->first[s] + d->length[s] <= d->n_ids &&
                      d->document[s] >= 0 && d->document[s] < d->n_documents,
                  "a sequence out of range");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[2][4] = {{"d.jsonl", "d.json", "d.txt", "d.npy"},
                                            {"d.csv", "d.tsv.gz", "d.jsonl.zst", "d.txt.gz"}};
    if (size == 0) return 0;
    uint8_t how = data[0];
    bool other_formats = (how & 12) == 12; /* the redundant fourth value of the split chooses other formats */
    const char *name = names[other_formats][how % 4], *path = fuzz_path(name);
    fuzz_write(name, data + 1, size - 1);
    mw_dataset_options options = {.paths = &path,
                                  .n_paths = 1,
                                  .text_field = "text",
                                  .on_missing = how & 32 ? MW_MISSING_SKIP : MW_MISSING_ERROR,
                                  .split = (mw_text_split)(how / 4 % 3),
                                  .separator = "<|endoftext|>",
                                  .context = 16,
                                  .pack = how & 16,
                                  .truncate = how & 32,
                                  .eos = how & 64,
                                  .limit_tokens = how & 128 ? 40 : 0};
    mw_dataset *dataset = NULL;
    /* Memory is not checked: the tokenizer's cache of words grows. */
    if (mw_dataset_load(&options, how % 4 == 3 && !other_formats ? NULL : tokenizer, comm, &dataset) == MW_OK)
        check(dataset);
    mw_dataset_free(&dataset);
    return 0;
}
