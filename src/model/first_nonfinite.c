/* Finds the first site of a pass with a nonfinite value, and the first nonfinite weight. Runs only after a caller has
 * found nonfinite values. */
#include "model/model_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the first site ---------------------------------------------------------------------------------------- */

typedef struct first_site {
    bool found;
    mw_site site;
    int64_t column;
    int32_t token, position, sequence;
    float value;
} first_site;

static mw_status check_event(void *self, const mw_hook_event *event) {
    first_site *t = self;
    float *x = NULL;
    int64_t width = event->x.shape[1], count = event->x.shape[0] * width;
    if (t->found) return MW_STOP; /* a pass still continues to the end of a block */
    MW_TRY(mw_hook_borrow(event, &x));
    int64_t bad = mw_first_not_finite(x, count), row = bad / width;
    if (bad < count)
        *t = (first_site){.found = true,
                          .site = event->site,
                          .column = bad % width,
                          .token = event->token[row],
                          .position = event->position[row],
                          .sequence = event->sequence[row],
                          .value = x[bad]};
    MW_TRY(mw_hook_return(event, x, false));
    return t->found ? MW_STOP : MW_OK;
}

static mw_status attach(mw_model *m, first_site *t, mw_hook_id *ids, int64_t *count) {
    for (int64_t l = 0; l < m->arch.n_layers; l++)
        for (int s = 0; s < MW_SITE_KIND_COUNT; s++) {
            bool layerless = s == MW_EMBED || s == MW_LOGITS;
            mw_hook hook = {.site = {(int)l, (mw_site_kind)s},
                            .kind = MW_DETECTOR,
                            .call = check_event,
                            .self = t,
                            .name = "trace"};
            if (mw_model_site_width(m, hook.site) == 0 || (layerless && l > 0)) continue;
            MW_TRY(mw_hooks_attach(m->hooks, &hook, &ids[*count]));
            ++*count;
        }
    return MW_OK;
}

/* Repeats the pass with detectors attached after the existing hooks: they see what those leave. */
static mw_status find_site(mw_model *m, const mw_batch *batch, first_site *t) {
    int64_t count = 0;
    mw_hook_id *ids = mw_alloc((size_t)(m->arch.n_layers * MW_SITE_KIND_COUNT) * sizeof *ids);
    if (!ids) return MW_ERR_MEMORY;
    mw_status status = attach(m, t, ids, &count);
    if (status == MW_OK) status = mw_model_forward(m, batch, NULL);
    while (count > 0) mw_hooks_detach(m->hooks, ids[--count]);
    mw_free(ids);
    return status;
}

/* ---- the weights ------------------------------------------------------------------------------------------- */

typedef struct bad_weight {
    const char *name;
    mw_tensor tensor;
    int64_t index;
    float value; /* as stored: finite where only the type in memory cannot represent it */
} bad_weight;

/* Reads values as the model uses them: a matrix may have been converted to a type that cannot represent them. */
static mw_status read_run(const mw_model *m, const mw_tensor *t, int64_t at, int64_t n, float *out) {
    uint16_t narrow[MW_ROW_TILE];
    mw_dtype used = t->ndim == 2 ? m->info.dtype : MW_F32;
    MW_TRY(mw_convert_to_f32(t->dtype, (const char *)t->data + (size_t)at * mw_dtype_size(t->dtype), n, out));
    if (used == MW_F32) return MW_OK;
    MW_TRY(mw_convert_from_f32(used, out, n, narrow));
    return mw_convert_to_f32(used, narrow, n, out);
}

static mw_status search_tensor(const mw_model *m, bad_weight *w) {
    const mw_tensor *t = &w->tensor;
    float run[MW_ROW_TILE];
    int64_t count = mw_tensor_count(t);
    bool whole = t->dtype == MW_I64 || t->dtype == MW_I32 || t->dtype == MW_U32 || t->dtype == MW_U8;
    if (whole) return MW_OK;
    for (int64_t at = 0; at < count && w->index < 0; at += MW_ROW_TILE) {
        int64_t n = count - at < MW_ROW_TILE ? count - at : MW_ROW_TILE;
        MW_TRY(read_run(m, t, at, n, run));
        int64_t bad = mw_first_not_finite(run, n);
        if (bad == n) continue;
        w->index = at + bad;
        MW_TRY(mw_convert_to_f32(t->dtype, (const char *)t->data + (size_t)w->index * mw_dtype_size(t->dtype), 1,
                                 &w->value));
    }
    return MW_OK;
}

static bool is_of_layer(const char *name, const first_site *t) {
    char layer[24];
    if (t->site.kind == MW_EMBED || t->site.kind == MW_LOGITS) return false;
    snprintf(layer, sizeof layer, ".%d.", t->site.layer);
    return strstr(name, layer) != NULL;
}

/* Searches the weights of the first nonfinite layer, then all others. */
static mw_status find_weight(const mw_model *m, const first_site *t, bad_weight *out) {
    out->index = -1;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < mw_safetensors_count(m->file); i++) {
            out->name = mw_safetensors_name(m->file, i);
            if (is_of_layer(out->name, t) != (pass == 0) || !mw_safetensors_find(m->file, out->name, &out->tensor))
                continue;
            MW_TRY(search_tensor(m, out));
            if (out->index >= 0) return MW_OK;
        }
    return MW_OK;
}

/* ---- the message ------------------------------------------------------------------------------------------- */

static void write_site(const first_site *t, mw_text *out) {
    char site[MW_SITE_TEXT];
    mw_site_format(t->site, site);
    if (t->found)
        mw_text_addf(out,
                     "%s is the first site that is not finite: %f in column %lld at token %d, position %d of "
                     "sequence %d",
                     site, (double)t->value, (long long)t->column, t->token, t->position, t->sequence);
    else
        mw_text_addf(out, "all sites are finite");
}

static void write_weight(const mw_model *m, const bad_weight *w, mw_text *out) {
    const mw_tensor *t = &w->tensor;
    if (w->index < 0) {
        mw_text_addf(out, "; all weights are finite");
        return;
    }
    mw_text_addf(out, "; weight '%s' holds %g", w->name, (double)w->value);
    if (isfinite(w->value)) mw_text_addf(out, ", which exceeds the range of %s,", mw_dtype_name(m->info.dtype));
    mw_text_addf(out, " at [");
    for (int d = 0; d < t->ndim; d++) {
        int64_t stride = 1;
        for (int e = d + 1; e < t->ndim; e++) stride *= t->shape[e];
        mw_text_addf(out, "%s%lld", d ? ", " : "", (long long)(w->index / stride % t->shape[d]));
    }
    mw_text_addf(out, "]");
}

mw_status mw_model_report_nonfinite(mw_model *m, const mw_batch *batch, const char *what) {
    first_site t = {.site = {0, MW_LOGITS}};
    bad_weight w = {0};
    mw_text text = {0};
    if (batch) MW_TRY(find_site(m, batch, &t));
    MW_TRY(find_weight(m, &t, &w));
    if (batch) write_site(&t, &text);
    if (!batch) mw_text_addf(&text, "not finite");
    write_weight(m, &w, &text);
    mw_status status = text.failed ? MW_ERR_MEMORY : mw_error(MW_ERR_STATE, "%s: %s: %s", m->folder, what, text.data);
    mw_text_free(&text);
    return status;
}
