/* How much of the activations, and of the model's predictions, an SAE keeps. */
#include "experiment/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- reconstruction over the store ---------------------------------------------------------------------- */

/* Sums of one block: e^2, distance of x from the store's mean squared, active latents, cosine, rows. */
enum { SUMS = 5 };

typedef struct probe {
    const run *r;
    const mw_store_site *site;
    double *mean; /* [width] */
    float *x, *x_hat, *value;
    int32_t *index;
    int64_t rows;
} probe;

static void add_row(const probe *p, int64_t r, double out[SUMS]) {
    int64_t d = p->site->width, k = p->r->sae->k;
    const float *x = p->x + r * d, *y = p->x_hat + r * d;
    double dot = 0, xx = 0, yy = 0;
    for (int64_t i = 0; i < d; i++) {
        out[0] += pow((double)y[i] - x[i], 2);
        out[1] += pow(x[i] - p->mean[i], 2);
        dot += (double)x[i] * y[i];
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
    }
    for (int64_t j = 0; j < k; j++) out[2] += p->value[r * k + j] > 0;
    out[3] += xx > 0 && yy > 0 ? dot / sqrt(xx * yy) : 0;
    out[4] += 1;
}

static mw_status probe_block(const probe *p, int64_t begin, int64_t end, double out[SUMS]) {
    for (int64_t at = begin; at < end; at += p->rows) {
        int64_t n = end - at < p->rows ? end - at : p->rows;
        MW_TRY(mw_store_read_range(p->r->store, p->site, at, n, p->x));
        MW_TRY(mw_sae_encode(p->r->sae, p->x, n, p->index, p->value));
        MW_TRY(mw_sae_decode(p->r->sae, p->index, p->value, n, p->x_hat));
        for (int64_t r = 0; r < n; r++) add_row(p, r, out);
    }
    return MW_OK;
}

/* Adds per-block sums in block order, whatever rank computed them. */
static mw_status gather_blocks(const mw_comm *comm, double *sums, int64_t n_blocks, int64_t width) {
    int size = mw_comm_size(comm);
    size_t *bytes = mw_alloc((size_t)size * sizeof *bytes);
    MW_TRY(mw_comm_agree(comm, bytes ? MW_OK : MW_ERR_MEMORY));
    for (int r = 0; r < size; r++) {
        int64_t begin, end;
        mw_comm_share(r, size, n_blocks, 1, &begin, &end);
        bytes[r] = (size_t)((end - begin) * width) * sizeof *sums;
    }
    mw_status status = mw_comm_gather_all_v(comm, NULL, bytes, sums);
    mw_free(bytes);
    for (int64_t b = 1; status == MW_OK && b < n_blocks; b++)
        for (int64_t i = 0; i < width; i++) sums[i] += sums[b * width + i];
    return status;
}

static mw_status probe_share(const probe *p, double *sums, int64_t n_blocks, const uint64_t *row) {
    int64_t begin, end;
    mw_comm_share(mw_comm_rank(p->r->comm), mw_comm_size(p->r->comm), n_blocks, 1, &begin, &end);
    for (int64_t b = begin; b < end; b++) MW_TRY(probe_block(p, (int64_t)row[b], (int64_t)row[b + 1], sums + b * SUMS));
    return MW_OK;
}

static mw_status reconstruction(run *r, const mw_store_site *site, double out[SUMS]) {
    enum { ROWS = 1024 };
    probe p = {.r = r, .site = site, .rows = ROWS};
    int64_t n_blocks = 0, d = site->width, k = r->sae->k;
    uint64_t *row = NULL;
    p.mean = mw_alloc((size_t)d * sizeof *p.mean);
    p.x = mw_alloc((size_t)(ROWS * d) * sizeof *p.x);
    p.x_hat = mw_alloc((size_t)(ROWS * d) * sizeof *p.x_hat);
    p.value = mw_alloc((size_t)(ROWS * k) * sizeof *p.value);
    p.index = mw_alloc((size_t)(ROWS * k) * sizeof *p.index);
    mw_status status = p.mean && p.x && p.x_hat && p.value && p.index ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_store_read_mean(r->store, site, p.mean);
    if (status == MW_OK) status = mw_store_blocks(r->store, &n_blocks, &row);
    double *sums = mw_calloc((size_t)(n_blocks * SUMS) + SUMS, sizeof *sums);
    if (status == MW_OK && !sums) status = MW_ERR_MEMORY;
    if (status == MW_OK) status = probe_share(&p, sums, n_blocks, row);
    status = mw_comm_agree(r->comm, status);
    if (status == MW_OK) status = gather_blocks(r->comm, sums, n_blocks, SUMS);
    if (status == MW_OK) memcpy(out, sums, SUMS * sizeof *out);
    void *all[] = {p.mean, p.x, p.x_hat, p.value, p.index, row, sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    return status;
}

/* ---- cross-entropy -------------------------------------------------------------------------------------- */

/* Detector on logits: adds -log p(next token). Rows come in order, in pieces. */
typedef struct entropy {
    const int32_t *next;     /* of the rows to come */
    const int32_t *sequence; /* their sequences, one more than there are rows */
    double sum, count;
} entropy;

static double log_sum_exp(const float *x, int64_t n) {
    double best = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - best);
    return best + log(sum);
}

static mw_status add_entropy(void *self, const mw_hook_event *event) {
    entropy *h = self;
    int64_t rows = event->x.shape[0], vocab = event->x.shape[1];
    float *all = NULL;
    MW_TRY(mw_hook_borrow(event, &all));
    for (int64_t r = 0; r < rows; r++, h->next++, h->sequence++) {
        if (h->sequence[0] != h->sequence[1]) continue; /* the last token of a sequence has no next one */
        const float *logits = all + r * vocab;
        h->sum += log_sum_exp(logits, vocab) - logits[*h->next];
        h->count++;
    }
    return mw_hook_return(event, all, false);
}

typedef struct ablation {
    int32_t untouched;
} ablation;

static mw_status zero_rows(void *self, const mw_hook_event *event) {
    const ablation *a = self;
    int64_t width = event->x.shape[1];
    float *x = NULL;
    MW_TRY(mw_hook_borrow(event, &x));
    for (int64_t r = 0; r < event->x.shape[0]; r++)
        if (event->token[r] != a->untouched) memset(x + r * width, 0, (size_t)width * sizeof *x);
    return mw_hook_return(event, x, true);
}

static mw_status entropy_block(run *r, int64_t first, int64_t n, entropy *h, double out[2]) {
    const mw_dataset *d = r->dataset;
    int64_t rows = d->first[first + n - 1] + d->length[first + n - 1] - d->first[first], at = 0;
    int32_t *sequence = mw_alloc((size_t)(rows + 1) * sizeof *sequence);
    int32_t *next = mw_calloc((size_t)rows + 1, sizeof *next);
    if (!sequence || !next) {
        mw_free(sequence);
        mw_free(next);
        return MW_ERR_MEMORY;
    }
    for (int64_t s = 0; s < n; s++)
        for (int64_t i = 0; i < d->length[first + s]; i++) sequence[at++] = (int32_t)s;
    sequence[rows] = -1;
    memcpy(next, d->ids + d->first[first] + 1, (size_t)(rows - 1) * sizeof *next);
    *h = (entropy){.next = next, .sequence = sequence};
    mw_batch batch = {.n_seq = n, .ids = d->ids + d->first[first], .length = d->length + first};
    mw_status status = mw_model_forward(r->model, &batch, NULL);
    out[0] = h->sum;
    out[1] = h->count;
    mw_free(sequence);
    mw_free(next);
    return status;
}

/* Mean cross-entropy a token, in nats, with `controller` at work (NULL: none). */
static mw_status cross_entropy(run *r, const mw_hook *controller, int64_t n_sequences, double *out) {
    entropy h = {0};
    mw_hook logits = {
        .site = {0, MW_LOGITS}, .kind = MW_DETECTOR, .call = add_entropy, .self = &h, .name = "cross-entropy"};
    mw_hook_id watching = 0, acting = 0;
    int64_t batch = r->e->dataset.batch, n_blocks = (n_sequences + batch - 1) / batch, begin, end;
    double *sums = mw_calloc((size_t)n_blocks * 2, sizeof *sums);
    mw_status status = sums ? mw_hooks_attach(mw_model_hooks(r->model), &logits, &watching) : MW_ERR_MEMORY;
    if (status == MW_OK && controller) status = mw_hooks_attach(mw_model_hooks(r->model), controller, &acting);
    mw_comm_share(mw_comm_rank(r->comm), mw_comm_size(r->comm), n_blocks, 1, &begin, &end);
    for (int64_t b = begin; b < end && status == MW_OK; b++) {
        int64_t left = n_sequences - b * batch;
        status = entropy_block(r, b * batch, left < batch ? left : batch, &h, sums + 2 * b);
    }
    if (acting) mw_hooks_detach(mw_model_hooks(r->model), acting);
    if (watching) mw_hooks_detach(mw_model_hooks(r->model), watching);
    status = mw_comm_agree(r->comm, status);
    if (status == MW_OK) status = gather_blocks(r->comm, sums, n_blocks, 2);
    if (status == MW_OK) *out = sums[1] > 0 ? sums[0] / sums[1] : 0;
    mw_free(sums);
    return status;
}

typedef struct entropies {
    double clean, spliced, zero;
    int64_t tokens;
} entropies;

static mw_status measure_entropies(run *r, const mw_store_site *site, entropies *out) {
    MW_TRY(run_model(r));
    MW_TRY(run_dataset(r));
    int64_t n = 0;
    out->tokens = 0;
    while (n < r->dataset->n_sequences && out->tokens < r->e->evaluate.tokens) out->tokens += r->dataset->length[n++];
    int32_t untouched = r->e->harvest.skip == MW_SKIP_NONE ? -1 : mw_tokenizer_bos(r->tokenizer);
    mw_steering splice = {.sae = r->sae, .keep_error = false, .untouched = untouched};
    ablation zero = {untouched};
    mw_hook spliced = {.site = site->site, .kind = MW_CONTROLLER, .call = mw_steer, .self = &splice, .name = "splice"};
    mw_hook zeroed = {.site = site->site, .kind = MW_CONTROLLER, .call = zero_rows, .self = &zero, .name = "ablation"};
    MW_TRY(cross_entropy(r, NULL, n, &out->clean));
    MW_TRY(cross_entropy(r, &spliced, n, &out->spliced));
    return cross_entropy(r, &zeroed, n, &out->zero);
}

/* ---- the stage ------------------------------------------------------------------------------------------ */

static mw_status save(const run *r, const double s[SUMS], const entropies *h, bool with_entropy) {
    char *path = mw_path_join(r->folder, "evaluate.json");
    json_t *made = json_pack("{s:f, s:f, s:f, s:f, s:I}", "fvu", s[0] / s[1], "mse", s[0] / s[4] / (double)r->sae->d,
                             "l0", s[2] / s[4], "cosine", s[3] / s[4], "rows", (json_int_t)s[4]);
    if (made && with_entropy) {
        double gap = h->zero - h->clean;
        json_object_set_new(made, "ce_clean", json_real(h->clean));
        json_object_set_new(made, "ce_spliced", json_real(h->spliced));
        json_object_set_new(made, "ce_zero", json_real(h->zero));
        json_object_set_new(made, "ce_recovered", json_real(gap != 0 ? (h->zero - h->spliced) / gap : 0));
        json_object_set_new(made, "ce_tokens", json_integer(h->tokens));
    }
    mw_status status = path && made ? mw_json_save(path, made, 1) : MW_ERR_MEMORY;
    json_decref(made);
    mw_free(path);
    return status;
}

static void print_result(const double s[SUMS], const entropies *h, bool with_entropy) {
    printf("evaluate: FVU %.4f, L0 %.1f, cosine %.4f on %.0f rows", s[0] / s[1], s[2] / s[4], s[3] / s[4], s[4]);
    if (with_entropy)
        printf("; cross-entropy %.4f clean, %.4f with the SAE, %.4f with the site at zero: %.1f %% recovered", h->clean,
               h->spliced, h->zero, 100 * (h->zero - h->spliced) / (h->zero - h->clean));
    printf("\n");
    fflush(stdout);
}

mw_status stage_evaluate(run *r) {
    mw_store_site site;
    double sums[SUMS] = {0};
    entropies h = {0};
    MW_TRY(run_sae(r));
    MW_TRY(run_site(r, &site));
    if (site.width != r->sae->d)
        return mw_error(MW_ERR_STATE, "the SAE has width %lld, its site %lld: train it again", (long long)r->sae->d,
                        (long long)site.width);
    MW_TRY(reconstruction(r, &site, sums));
    bool with_entropy = r->e->evaluate.ce_recovered;
    if (with_entropy) MW_TRY(measure_entropies(r, &site, &h));
    if (run_is_root(r)) print_result(sums, &h, with_entropy);
    return mw_comm_agree(r->comm, run_is_root(r) ? save(r, sums, &h, with_entropy) : MW_OK);
}
