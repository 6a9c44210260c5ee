/* Selection of codes from pre-activations: the k largest of each row, or all above a threshold. */
#include "sae/shards.h"

/* ---- the k largest of a row ------------------------------------------------------------------------------ */

mw_status top_k_candidates(const mw_sae *sae, const float *x, candidates *out) {
    MW_TRY(candidates_make(sae->backend, out->rows, out->width, out));
    return sae_top_k(sae, x, out->rows, out);
}

mw_status top_k_codes(const mw_sae *sae, mw_status ready, const float *x, int64_t rows, int64_t k, mw_codes *out) {
    candidates found = candidates_of(sae->backend, rows, k);
    if (ready == MW_OK) ready = top_k_candidates(sae, x, &found);
    mw_status status = candidates_choose(sae, &found, k, ready, out);
    candidates_free(&found);
    return status;
}

/* ---- all above a threshold ----------------------------------------------------------------------------------- */

typedef struct open_visit {
    const mw_sae *sae;
    int count;
    const mw_threshold *how; /* [count] */
    mw_codes *const *out;
} open_visit;

static mw_status visit_open(void *self, const chunk *c) {
    open_visit *t = self;
    return append_chunk(t->sae, c, t->count, t->how, t->out);
}

static mw_status open_all(open_visit *t, const float *x, int64_t rows) {
    for (int i = 0; i < t->count; i++) MW_TRY(mw_codes_begin(t->out[i], rows));
    return sae_visit(t->sae, x, rows, visit_open, t);
}

mw_status codes_above(const mw_sae *sae, const float *x, int64_t rows, mw_threshold how, mw_codes *out) {
    return open_all(&(open_visit){sae, 1, &how, &out}, x, rows);
}

mw_status codes_above_both(const mw_sae *sae, const float *x, int64_t rows, const mw_threshold how[2],
                           mw_codes *const out[2]) {
    return open_all(&(open_visit){sae, 2, how, out}, x, rows);
}
