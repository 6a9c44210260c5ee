/* SAEs as hooks. */
#include "microw/concepts.h"

#include <string.h>

typedef struct row_codes {
    int32_t *index;
    float *value;
} row_codes;

static mw_status codes_of(const mw_sae *sae, const mw_hook_event *event, const float *x, row_codes *out) {
    int64_t rows = event->x.shape[0];
    if (event->x.shape[1] != sae->d)
        return mw_error(MW_ERR_ARG, "an SAE of width %lld met a site of width %lld", (long long)sae->d,
                        (long long)event->x.shape[1]);
    row_codes c = {mw_alloc((size_t)(rows * sae->k) * sizeof *c.index),
                   mw_alloc((size_t)(rows * sae->k) * sizeof *c.value)};
    mw_status status = c.index && c.value ? mw_sae_encode(sae, x, rows, c.index, c.value) : MW_ERR_MEMORY;
    if (status != MW_OK) {
        mw_free(c.index);
        mw_free(c.value);
        return status;
    }
    *out = c;
    return MW_OK;
}

static float value_of(const row_codes *c, int64_t row, int64_t k, int64_t latent) {
    for (int64_t j = row * k; j < (row + 1) * k; j++)
        if (c->index[j] == latent) return c->value[j];
    return 0;
}

static void edit_row(const mw_steering *s, const row_codes *c, int64_t row, float *x) {
    const mw_sae *sae = s->sae;
    for (int64_t e = 0; e < s->n_edits; e++) {
        const mw_latent_edit *edit = &s->edits[e];
        float z = value_of(c, row, sae->k, edit->latent);
        float change = (float)(edit->scale * z + edit->add) - z;
        const float *direction = sae->w_dec + edit->latent * sae->d;
        if (change != 0)
            for (int64_t i = 0; i < sae->d; i++) x[i] += change * direction[i];
    }
}

static mw_status steer_rows(const mw_steering *s, const mw_hook_event *event, float *x) {
    row_codes c = {0};
    MW_TRY(codes_of(s->sae, event, x, &c));
    int64_t rows = event->x.shape[0], d = s->sae->d, k = s->sae->k;
    mw_status status = MW_OK;
    for (int64_t r = 0; status == MW_OK && r < rows; r++) {
        if (event->token && event->token[r] == s->untouched) continue;
        if (!s->keep_error) status = mw_sae_decode(s->sae, c.index + r * k, c.value + r * k, 1, x + r * d);
        edit_row(s, &c, r, x + r * d);
    }
    mw_free(c.index);
    mw_free(c.value);
    return status;
}

mw_status mw_steer(void *self, const mw_hook_event *event) {
    const mw_steering *s = self;
    for (int64_t e = 0; e < s->n_edits; e++)
        if (s->edits[e].latent < 0 || s->edits[e].latent >= s->sae->n)
            return mw_error(MW_ERR_ARG, "latent %lld is not in this SAE of %lld latents", (long long)s->edits[e].latent,
                            (long long)s->sae->n);
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = steer_rows(s, event, x), returned = mw_hook_return(event, x, status == MW_OK);
    return status != MW_OK ? status : returned;
}

static mw_status keep_codes(mw_code_log *log, const row_codes *c, int64_t rows) {
    int64_t k = log->sae->k;
    if (log->rows + rows > log->capacity) {
        int64_t capacity = 2 * (log->rows + rows);
        size_t old = (size_t)(log->rows * k) * 4, grown = (size_t)(capacity * k) * 4;
        int32_t *index = mw_realloc(log->index, old, grown);
        if (!index) return MW_ERR_MEMORY;
        log->index = index;
        float *value = mw_realloc(log->value, old, grown);
        if (!value) return MW_ERR_MEMORY;
        log->value = value;
        log->capacity = capacity;
    }
    memcpy(log->index + log->rows * k, c->index, (size_t)(rows * k) * sizeof *c->index);
    memcpy(log->value + log->rows * k, c->value, (size_t)(rows * k) * sizeof *c->value);
    log->rows += rows;
    return MW_OK;
}

mw_status mw_observe(void *self, const mw_hook_event *event) {
    mw_code_log *log = self;
    row_codes c = {0};
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = codes_of(log->sae, event, x, &c);
    if (status == MW_OK) status = keep_codes(log, &c, event->x.shape[0]);
    mw_free(c.index);
    mw_free(c.value);
    mw_status returned = mw_hook_return(event, x, false);
    return status != MW_OK ? status : returned;
}

void mw_code_log_free(mw_code_log *log) {
    mw_free(log->index);
    mw_free(log->value);
    *log = (mw_code_log){.sae = log->sae};
}
