/* How much of the activations, and of the model's predictions, an SAE keeps. */
#include "experiment/damage.h"

#include <stdio.h>

static json_t *positions(const mw_sae_metrics *m) {
    json_t *list = json_array();
    for (int b = 0; b < MW_POSITION_BUCKETS; b++) {
        if (m->position_rows[b] == 0) continue;
        int64_t first = (INT64_C(1) << b) - 1, last = (INT64_C(2) << b) - 2;
        json_array_append_new(list,
                              json_pack("{s:I, s:I, s:I, s:f}", "first", (json_int_t)first, "last", (json_int_t)last,
                                        "rows", (json_int_t)m->position_rows[b], "fvu", m->position_fvu[b]));
    }
    return list;
}

static json_t *whole_numbers(const int64_t *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *by_site(const mw_store_view *out, const mw_sae_metrics *m) {
    json_t *list = json_array();
    for (int64_t i = 0; i < out->n_sites; i++) {
        char name[MW_SITE_TEXT];
        mw_site_format(out->site[i].site, name);
        json_array_append_new(list, json_pack("{s:s, s:f}", "site", name, "fvu", m->part_fvu[i]));
    }
    return list;
}

static json_t *reconstruction(const mw_store_view *out, const mw_sae_metrics *m) {
    json_t *made = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I}", "rows", (json_int_t)m->rows,
                             "fvu", m->fvu, "r2", 1 - m->fvu, "explained_variance", m->explained_variance, "mse",
                             m->mse, "cosine", m->cosine, "l0", m->l0, "l0_deviation", m->l0_deviation, "l1", m->l1,
                             "dead", (json_int_t)m->dead, "dense", (json_int_t)m->dense);
    json_object_set_new(made, "l0_quantiles", whole_numbers(m->l0_quantile, 5));
    json_object_set_new(made, "frequency_bins", whole_numbers(m->frequency_bin, MW_FREQUENCY_BINS));
    json_object_set_new(made, "by_position", positions(m));
    json_object_set_new(made, "by_site", by_site(out, m));
    return made;
}

static void add_damage(json_t *made, const damage *d) {
    static const char *const names[DAMAGE_COUNT] = {"clean", "sae", "zero", "mean"};
    json_t *ce = json_object(), *kl = json_object();
    for (int kind = 0; kind < DAMAGE_COUNT; kind++) {
        json_object_set_new(ce, names[kind], json_real(d->ce[kind]));
        if (kind != DAMAGE_NONE) json_object_set_new(kl, names[kind], json_real(d->kl[kind]));
    }
    json_object_set_new(made, "cross_entropy", ce);
    json_object_set_new(made, "kl", kl);
    json_object_set_new(made, "ce_recovered_zero",
                        json_real(recovered(d->ce[DAMAGE_NONE], d->ce[DAMAGE_SAE], d->ce[DAMAGE_ZERO])));
    json_object_set_new(made, "ce_recovered_mean",
                        json_real(recovered(d->ce[DAMAGE_NONE], d->ce[DAMAGE_SAE], d->ce[DAMAGE_MEAN])));
    json_object_set_new(made, "kl_recovered_zero", json_real(recovered(0, d->kl[DAMAGE_SAE], d->kl[DAMAGE_ZERO])));
    json_object_set_new(made, "kl_recovered_mean", json_real(recovered(0, d->kl[DAMAGE_SAE], d->kl[DAMAGE_MEAN])));
    json_object_set_new(made, "predicted_on_tokens", json_integer(d->tokens));
}

static mw_status save(const run *r, const views *v, const mw_sae_metrics *m, const damage *d) {
    char *path = mw_path_join(r->folder, "evaluate.json");
    json_t *made = reconstruction(rebuilt(v), m);
    if (d) add_damage(made, d);
    mw_status status = path && made ? mw_json_save(path, made, 1) : MW_ERR_MEMORY;
    json_decref(made);
    mw_free(path);
    return status;
}

static void print_result(const mw_sae *sae, const mw_sae_metrics *m, const damage *d) {
    printf("evaluate: FVU %.4f, explained variance %.4f, cosine %.4f, L0 %.1f, dead %.2f %%, dense %lld on %lld rows\n",
           m->fvu, m->explained_variance, m->cosine, m->l0, 100.0 * (double)m->dead / (double)sae->n,
           (long long)m->dense, (long long)m->rows);
    if (d)
        printf("evaluate: cross-entropy %.4f clean, %.4f with the SAE, %.4f with the site at zero, %.4f at its mean: "
               "%.1f %% and %.1f %% recovered; KL %.4f\n",
               d->ce[DAMAGE_NONE], d->ce[DAMAGE_SAE], d->ce[DAMAGE_ZERO], d->ce[DAMAGE_MEAN],
               100 * recovered(d->ce[DAMAGE_NONE], d->ce[DAMAGE_SAE], d->ce[DAMAGE_ZERO]),
               100 * recovered(d->ce[DAMAGE_NONE], d->ce[DAMAGE_SAE], d->ce[DAMAGE_MEAN]), d->kl[DAMAGE_SAE]);
    fflush(stdout);
}

mw_status stage_evaluate(run *r) {
    views v;
    mw_sae_metrics metrics;
    damage harm;
    MW_TRY(run_sae(r));
    MW_TRY(run_views(r, &v));
    MW_TRY(mw_sae_measure(r->sae, &v.in, v.out, r->comm, &metrics));
    bool predict = r->e->evaluate.ce_recovered;
    if (predict) MW_TRY(measure_damage(r, &v, &harm));
    if (run_is_root(r)) print_result(r->sae, &metrics, predict ? &harm : NULL);
    return mw_comm_agree(r->comm, run_is_root(r) ? save(r, &v, &metrics, predict ? &harm : NULL) : MW_OK);
}
