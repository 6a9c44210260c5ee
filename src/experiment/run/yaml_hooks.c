/* The hooks that an experiment file lists. */
#include "experiment/run/yaml_hooks.h"
#include "base/json.h"

#include <math.h>
#include <string.h>

static mw_status stop_pass(void *self, const mw_hook_event *event) {
    (void)self;
    (void)event;
    return MW_STOP;
}

static mw_status make_rule(yaml_hook *h, int64_t width) {
    const hook_settings *s = h->settings;
    h->rule = (mw_affine_rule){.factor = s->kind == HOOK_ABLATE  ? 0
                                         : s->kind == HOOK_SCALE ? (float)s->factor
                                                                 : 1,
                               .columns = s->columns.items,
                               .n_columns = s->columns.count};
    for (int64_t i = 0; i < s->columns.count; i++)
        if (s->columns.items[i] < 0 || s->columns.items[i] >= width)
            return mw_error(MW_ERR_CONFIG, "hooks: column %lld of site %s: expected from 0 to %lld",
                            (long long)s->columns.items[i], s->site, (long long)width - 1);
    if (s->kind != HOOK_ADD) return MW_OK;
    if (!(h->rule.vector = mw_alloc((size_t)width * sizeof(float)))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < width; i++) h->rule.vector[i] = (float)s->value;
    return MW_OK;
}

static mw_status attach_one(mw_model *model, yaml_hook *h) {
    mw_hook hook = {.kind = MW_CONTROLLER, .call = mw_apply_affine, .self = &h->rule, .name = "experiment file"};
    MW_TRY(mw_site_parse(h->settings->site, &hook.site));
    MW_TRY(make_rule(h, mw_model_site_width(model, hook.site)));
    if (h->settings->kind == HOOK_STATISTICS) {
        hook.kind = MW_DETECTOR;
        hook.call = mw_measure;
        hook.self = &h->statistics;
    } else if (h->settings->kind == HOOK_STOP) {
        hook.kind = MW_DETECTOR;
        hook.call = stop_pass;
    }
    MW_TRY(mw_hooks_attach(mw_model_hooks(model), &hook, &h->id));
    h->attached = true;
    return MW_OK;
}

/* ---- sites that a stop leaves unreached ------------------------------------------------------------------ */

/* Finds the first hook, in firing order, that ends a pass; -1: there is none. */
static mw_status first_stop(const hooks_settings *settings, int64_t *out, mw_site *site) {
    *out = -1;
    for (int64_t i = 0; i < settings->list.count; i++) {
        const hook_settings *s = (const hook_settings *)settings->list.items + i;
        mw_site at;
        if (s->kind != HOOK_STOP) continue;
        MW_TRY(mw_site_parse(s->site, &at));
        if (*out >= 0 && mw_site_order(at) >= mw_site_order(*site)) continue;
        *out = i;
        *site = at;
    }
    return MW_OK;
}

mw_status yaml_hooks_check(const mw_experiment *e) {
    const hook_settings *list = e->hooks.list.items;
    const mw_strings *harvest = &e->harvest.sites;
    int64_t stop;
    mw_site at, other;
    MW_TRY(first_stop(&e->hooks, &stop, &at));
    if (stop < 0) return MW_OK;
    for (int64_t i = 0; i < harvest->count; i++) {
        MW_TRY(mw_site_parse(harvest->items[i], &other));
        if (mw_site_order(other) >= mw_site_order(at)) /* attached before the harvest's own hooks */
            return mw_error(
                MW_ERR_CONFIG,
                "%s: hooks.list: kind stop on %s ends each pass before harvest site %s is reached: stop later, "
                "or take the site out of harvest.sites",
                e->document.file, list[stop].site, harvest->items[i]);
    }
    for (int64_t i = 0; i < e->hooks.list.count; i++) {
        if (list[i].kind != HOOK_STATISTICS) continue;
        MW_TRY(mw_site_parse(list[i].site, &other));
        if (mw_site_order(other) > mw_site_order(at) || (mw_site_order(other) == mw_site_order(at) && i > stop))
            return mw_error(MW_ERR_CONFIG,
                            "%s: hooks.list: kind stop on %s ends each pass before kind statistics on %s is reached",
                            e->document.file, list[stop].site, list[i].site);
    }
    return MW_OK;
}

/* ---- attaching ------------------------------------------------------------------------------------------- */

bool yaml_hooks_want_all(const mw_experiment *e) {
    const hook_settings *list = e->hooks.list.items;
    for (int64_t i = 0; i < e->hooks.list.count; i++)
        if (list[i].kind == HOOK_STATISTICS) return true;
    return false;
}

mw_status yaml_hooks_attach(const hooks_settings *settings, mw_model *model, yaml_hooks *out) {
    yaml_hooks hooks = {.model = model, .count = settings->list.count};
    if (!(hooks.items = mw_calloc((size_t)hooks.count, sizeof *hooks.items))) return MW_ERR_MEMORY;
    mw_status status = MW_OK;
    for (int64_t i = 0; i < hooks.count && status == MW_OK; i++) {
        hooks.items[i].settings = (const hook_settings *)settings->list.items + i;
        status = attach_one(model, &hooks.items[i]);
    }
    if (status != MW_OK)
        yaml_hooks_detach(&hooks);
    else
        *out = hooks;
    return status;
}

void yaml_hooks_detach(yaml_hooks *hooks) {
    for (int64_t i = 0; i < hooks->count; i++) {
        if (hooks->items[i].attached) mw_hooks_detach(mw_model_hooks(hooks->model), hooks->items[i].id);
        mw_free(hooks->items[i].rule.vector);
        mw_statistics_free(&hooks->items[i].statistics);
    }
    mw_free(hooks->items);
    *hooks = (yaml_hooks){0};
}

/* ---- statistics over ranks ------------------------------------------------------------------------------ */

/* Merges statistics of two ranks (Chan et al. 1979): rows, sum of norms, then mean and m2 by column. */
static void merge(double *into, const double *other, int64_t width) {
    double a = into[0], b = other[0], n = a + b;
    if (b == 0) return;
    for (int64_t i = 0; i < width; i++) {
        double delta = other[2 + i] - into[2 + i];
        into[2 + width + i] += other[2 + width + i] + delta * delta * a * b / n;
        into[2 + i] += delta * b / n;
    }
    into[0] = n;
    into[1] += other[1];
}

/* Means over no rows are 0/0: undefined. */
static json_t *as_json(const hook_settings *s, const double *v, int64_t width) {
    json_t *mean = json_array(), *variance = json_array();
    for (int64_t i = 0; i < width; i++) {
        json_array_append_new(mean, mw_json_real(v[0] > 0 ? v[2 + i] : NAN));
        json_array_append_new(variance, mw_json_real(v[2 + width + i] / v[0]));
    }
    return json_pack("{s:s, s:I, s:o, s:o, s:o}", "site", s->site, "rows", (json_int_t)v[0], "norm_mean",
                     mw_json_real(v[1] / v[0]), "mean", mean, "variance", variance);
}

static mw_status merge_ranks(const yaml_hook *h, const mw_comm *comm, int64_t width, json_t *into) {
    int size = mw_comm_size(comm);
    size_t length = (size_t)(2 + 2 * width);
    double *own = mw_calloc(length, sizeof *own), *all = mw_alloc(length * (size_t)size * sizeof *all);
    mw_status status = mw_comm_agree(comm, own && all ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK && h->statistics.width) {
        own[0] = (double)h->statistics.rows;
        own[1] = h->statistics.norm_sum;
        memcpy(own + 2, h->statistics.mean, (size_t)width * sizeof *own);
        memcpy(own + 2 + width, h->statistics.m2, (size_t)width * sizeof *own);
    }
    if (status == MW_OK) status = mw_comm_allgather(comm, own, length * sizeof *own, all);
    for (int r = 1; status == MW_OK && r < size; r++) merge(all, all + (size_t)r * length, width);
    if (status == MW_OK) json_array_append_new(into, as_json(h->settings, all, width));
    mw_free(own);
    mw_free(all);
    return status;
}

mw_status yaml_hooks_report(yaml_hooks *hooks, const mw_comm *comm, const char *folder) {
    json_t *sites = json_array();
    mw_status status = MW_OK;
    for (int64_t i = 0; i < hooks->count && status == MW_OK; i++) {
        mw_site site;
        if (hooks->items[i].settings->kind != HOOK_STATISTICS) continue;
        status = mw_site_parse(hooks->items[i].settings->site, &site);
        if (status == MW_OK)
            status = merge_ranks(&hooks->items[i], comm, mw_model_site_width(hooks->model, site), sites);
    }
    if (status == MW_OK && json_array_size(sites) > 0 && mw_comm_rank(comm) == 0) {
        char *path = mw_path_join(folder, "statistics.json");
        status = path ? mw_json_save(path, sites, 1) : MW_ERR_MEMORY;
        mw_free(path);
    }
    json_decref(sites);
    return mw_comm_agree(comm, status);
}
