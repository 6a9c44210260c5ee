/* What an experiment's folders hold, in a few lines. */
#include "experiment/run.h"

#include <stdio.h>

static json_t *load_quietly(const char *folder, const char *name) {
    char *path = mw_path_join(folder, name);
    json_t *root = NULL;
    if (path && mw_file_exists(path) && mw_json_load(path, &root) != MW_OK) root = NULL;
    mw_free(path);
    return root;
}

static double last_of(const json_t *columns, const char *key) {
    const json_t *column = json_object_get(columns, key);
    size_t n = json_array_size(column);
    return n ? json_number_value(json_array_get(column, n - 1)) : 0;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void report_harvest(const run *r) {
    json_t *meta = load_quietly(r->activations, "meta.json");
    if (meta)
        printf("harvest   %lld rows, %s, in %s\n", (long long)number(meta, "rows"), mw_json_text(meta, "dtype"),
               r->activations);
    json_decref(meta);
}

static void report_train(const run *r) {
    json_t *history = load_quietly(r->sae_folder, "training_history.json");
    if (history)
        printf("train     %.0f steps, loss %.4f, FVU %.4f, R2 %.4f, L0 %.1f, %.0f dead latents, in %s\n",
               last_of(history, "step"), last_of(history, "loss"), last_of(history, "fvu"), last_of(history, "r2"),
               last_of(history, "l0"), last_of(history, "dead"), r->sae_folder);
    json_decref(history);
}

static void report_concepts(const run *r) {
    json_t *concepts = load_quietly(r->sae_folder, "concepts.json");
    if (concepts)
        printf("discover  %zu active of %lld latents\n", json_array_size(json_object_get(concepts, "latents")),
               (long long)number(concepts, "n_latents"));
    json_decref(concepts);
}

static void report_evaluation(const run *r) {
    json_t *e = load_quietly(r->folder, "evaluate.json");
    if (e) printf("evaluate  FVU %.4f, L0 %.1f, cosine %.4f", number(e, "fvu"), number(e, "l0"), number(e, "cosine"));
    if (json_object_get(e, "ce_recovered_zero"))
        printf(", cross-entropy recovered %.1f %%", 100 * number(e, "ce_recovered_zero"));
    if (e) printf("\n");
    json_decref(e);
}

mw_status stage_report(run *r) {
    if (!run_is_root(r)) return MW_OK;
    printf("%s, model %s\n", r->e->top.name, r->e->model.path);
    report_harvest(r);
    report_train(r);
    report_concepts(r);
    report_evaluation(r);
    fflush(stdout);
    return MW_OK;
}
