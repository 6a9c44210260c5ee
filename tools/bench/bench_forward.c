/* Measures a model's forward pass that copies the activations of one site to the host, as a harvest does; medians of
 * tokens/s.
 *     bench_forward --model DIR --site 8.resid_post [--device D] [--dtype auto|f32|bf16] [--batch N] [--context N]
 *                   [--rounds N] [--ids FILE] [--rows FILE] [--logits]
 * Prints one line of JSON. Ids are drawn, or read from --ids, a file of int32 [batch, context]; --rows writes the
 * site's rows as f32. The pass ends at the site unless --logits is given. tools/bench/forward.py does the same with
 * transformers, in turns. */
#include "bench.h"
#include "microw/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 101 };

/* Copies the rows to pinned host memory, as a harvest's detector does. */
static mw_status copy_rows(void *self, const mw_hook_event *event) {
    return event->backend->ops->download(event->backend, self, event->x.data,
                                         (size_t)(event->x.shape[0] * event->x.shape[1]) * sizeof(float));
}

static const char *option(int argc, char **argv, const char *name, const char *fallback) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    return fallback;
}

static void read_ids(const char *path, int32_t *ids, int64_t count) {
    FILE *file = fopen(path, "rb");
    if (!file || fread(ids, sizeof *ids, (size_t)count, file) != (size_t)count) exit(1);
    fclose(file);
}

static void write_rows(const char *path, const float *rows, int64_t count) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(rows, sizeof *rows, (size_t)count, file) != (size_t)count || fclose(file) != 0) exit(1);
}

int main(int argc, char **argv) {
    const char *folder = option(argc, argv, "--model", ""), *dtype = option(argc, argv, "--dtype", "f32");
    int64_t n_seq = atoll(option(argc, argv, "--batch", "8")), context = atoll(option(argc, argv, "--context", "128"));
    int rounds = atoi(option(argc, argv, "--rounds", "5"));
    bool logits = argc > 1 && strcmp(argv[argc - 1], "--logits") == 0;
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    mw_site site;
    if (rounds < 1 || rounds > ROUNDS_MAX || n_seq < 1 || context < 1) return 2;
    must(mw_site_parse(option(argc, argv, "--site", "0.resid_post"), &site));
    must(mw_backend_open(option(argc, argv, "--device", "auto"), &backend));
    must(mw_model_open(folder, dtype, backend, &model));
    int64_t tokens = n_seq * context, vocab = mw_model_about(model)->vocab;
    int32_t *ids = mw_alloc((size_t)tokens * sizeof *ids);
    int64_t *length = mw_alloc((size_t)n_seq * sizeof *length);
    float *last = mw_alloc((size_t)(n_seq * vocab) * sizeof *last), *rows;
    void *block = NULL;
    must(backend->ops->host_alloc(backend, (size_t)(tokens * mw_model_site_width(model, site)) * sizeof *rows, &block));
    rows = block;
    if (!ids || !length || !last) return 1;
    for (int64_t i = 0; i < tokens; i++) ids[i] = (int32_t)(i * 2654435761u % (uint64_t)vocab);
    const char *given = option(argc, argv, "--ids", ""), *wanted = option(argc, argv, "--rows", "");
    if (given[0]) read_ids(given, ids, tokens);
    for (int64_t s = 0; s < n_seq; s++) length[s] = context;
    mw_hook hook = {.site = site, .kind = MW_DETECTOR, .call = copy_rows, .self = rows, .name = "bench"};
    mw_hook_id id;
    must(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
    mw_batch batch = {.n_seq = n_seq, .ids = ids, .length = length};
    double seconds[ROUNDS_MAX];
    for (int r = -1; r < rounds; r++) {
        double start = mw_seconds();
        must(mw_model_forward(model, &batch, logits ? last : NULL));
        if (r >= 0) seconds[r] = mw_seconds() - start;
    }
    if (wanted[0]) write_rows(wanted, rows, tokens * mw_model_site_width(model, site));
    double middle = median(seconds, rounds);
    printf(
        "{\"device\":\"%s\",\"dtype\":\"%s\",\"batch\":%lld,\"context\":%lld,\"seconds\":%.6g,\"tokens_per_s\":%.6g}\n",
        backend->ops->name, dtype, (long long)n_seq, (long long)context, middle, (double)tokens / middle);
    void *all[] = {ids, length, last};
    for (int i = 0; i < 3; i++) mw_free(all[i]);
    backend->ops->host_free(backend, rows);
    mw_model_free(&model);
    mw_backend_close(&backend);
    return 0;
}
