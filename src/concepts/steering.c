/* SAEs as hooks. */
#include "microw/concepts.h"

#include <string.h>

static mw_status codes_of(const mw_sae *sae, const mw_hook_event *event, const float *x, mw_codes *out) {
    if (event->x.shape[1] != sae->d)
        return mw_error(MW_ERR_ARG, "an SAE of width %lld met a site of width %lld", (long long)sae->d,
                        (long long)event->x.shape[1]);
    return mw_sae_encode(sae, x, event->x.shape[0], out);
}

static void edit_row(const mw_steering *s, const mw_codes *codes, int64_t row, float *x) {
    const mw_sae *sae = s->sae;
    for (int64_t e = 0; e < s->n_edits; e++) {
        const mw_latent_edit *edit = &s->edits[e];
        float z = mw_codes_find(codes, row, edit->latent);
        float change = (float)(edit->scale * z + edit->add) - z;
        const float *direction = sae->w_dec + edit->latent * sae->d;
        if (change != 0)
            for (int64_t i = 0; i < sae->d; i++) x[i] += change * direction[i];
    }
}

static mw_status steer_rows(const mw_steering *s, const mw_hook_event *event, float *x) {
    mw_codes codes = {0};
    int64_t rows = event->x.shape[0], d = s->sae->d;
    mw_status status = codes_of(s->sae, event, x, &codes);
    for (int64_t r = 0; status == MW_OK && r < rows; r++) {
        if (event->token && event->token[r] == s->untouched) continue;
        mw_codes one = codes;
        one.start += r;
        one.rows = 1;
        if (!s->keep_error) status = mw_sae_decode(s->sae, &one, x + r * d);
        edit_row(s, &codes, r, x + r * d);
    }
    mw_codes_free(&codes);
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

/* Appends: entries move behind those that are kept, starts are shifted by their number. */
static mw_status keep_codes(mw_code_log *log, const mw_codes *c) {
    int64_t kept = log->rows ? log->codes.start[log->rows] : 0, rows = log->rows + c->rows;
    if (rows + 1 > log->codes.rows_capacity) {
        int64_t capacity = 2 * (rows + 1);
        int64_t *start = mw_realloc(log->codes.start, (size_t)(log->rows + 1) * (log->rows ? sizeof *start : 0),
                                    (size_t)capacity * sizeof *start);
        if (!start) return MW_ERR_MEMORY;
        log->codes.start = start;
        log->codes.rows_capacity = capacity;
    }
    int64_t entries = c->start[c->rows];
    MW_TRY(mw_codes_reserve(&log->codes, kept, kept + entries));
    log->codes.start[0] = 0;
    for (int64_t r = 0; r < c->rows; r++) log->codes.start[log->rows + r + 1] = kept + c->start[r + 1];
    if (entries) {
        memcpy(log->codes.index + kept, c->index, (size_t)entries * sizeof *c->index);
        memcpy(log->codes.value + kept, c->value, (size_t)entries * sizeof *c->value);
    }
    log->rows = log->codes.rows = rows;
    return MW_OK;
}

mw_status mw_observe(void *self, const mw_hook_event *event) {
    mw_code_log *log = self;
    mw_codes c = {0};
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    mw_status status = codes_of(log->sae, event, x, &c);
    if (status == MW_OK) status = keep_codes(log, &c);
    mw_codes_free(&c);
    mw_status returned = mw_hook_return(event, x, false);
    return status != MW_OK ? status : returned;
}

void mw_code_log_free(mw_code_log *log) {
    mw_codes_free(&log->codes);
    *log = (mw_code_log){.sae = log->sae};
}
