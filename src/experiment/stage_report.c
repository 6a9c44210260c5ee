/* What an experiment's folders hold, in a few lines. */
#include "experiment/run.h"

#include <stdio.h>

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void report_harvest(const run *r) {
    json_t *meta = mw_json_if_there(r->activations, "meta.json");
    if (meta)
        printf("harvest   %lld rows, %s, in %s\n", (long long)number(meta, "rows"), mw_json_text(meta, "dtype"),
               r->activations);
    json_decref(meta);
}

static void report_train(const run *r) {
    json_t *history = mw_json_if_there(r->sae_folder, "training_history.json");
    if (history)
        printf("train     %.0f steps, loss %.4f, FVU %.4f, R2 %.4f, L0 %.1f, %.0f dead latents, in %s\n",
               mw_json_last(history, "step"), mw_json_last(history, "loss"), mw_json_last(history, "fvu"),
               mw_json_last(history, "r2"), mw_json_last(history, "l0"), mw_json_last(history, "dead"), r->sae_folder);
    json_decref(history);
}

static void report_concepts(const run *r) {
    json_t *concepts = mw_json_if_there(r->sae_folder, "concepts.json");
    if (concepts)
        printf("discover  %zu active of %lld latents\n", json_array_size(json_object_get(concepts, "latents")),
               (long long)number(concepts, "n_latents"));
    json_decref(concepts);
}

static void report_evaluation(const run *r) {
    json_t *e = mw_json_if_there(r->folder, "evaluate.json");
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
