#include "sae/trainer.h"
#include "base/json.h"
#include "microw/safetensors.h"

#include <math.h>
#include <string.h>

static mw_status check_options(const mw_train_options *o) {
    if (o->batch < 1 || o->steps < 0 || o->batch > INT32_MAX / 2)
        return mw_error(MW_ERR_CONFIG, "train.batch = %lld with %lld steps cannot be", (long long)o->batch,
                        (long long)o->steps);
    return MW_OK;
}

typedef struct wanted {
    void *slot;
    int64_t count;
    size_t item;
} wanted;

static mw_status allocate(mw_trainer *t) {
    int64_t n = t->sae->n, d = t->sae->d, batch = t->options.batch, share = t->n_latents, rows = t->end - t->begin;
    int64_t blocks = (n + LATENT_BLOCK - 1) / LATENT_BLOCK;
    wanted all[] = {{&t->since_fired, n, 8},
                    {&t->dead, n, 4},
                    {&t->m_enc, share * d, 4},
                    {&t->v_enc, share * d, 4},
                    {&t->m_dec, share * d, 4},
                    {&t->v_dec, share * d, 4},
                    {&t->m_benc, share, 4},
                    {&t->v_benc, share, 4},
                    {&t->m_bdec, d, 4},
                    {&t->v_bdec, d, 4},
                    {&t->g_enc, share * d, 4},
                    {&t->g_dec, share * d, 4},
                    {&t->g_benc, share, 4},
                    {&t->g_bdec, d, 4},
                    {&t->centered, batch * d, 4},
                    {&t->out_grad, 2 * batch * d, 4},
                    {&t->x_hat, rows * d, 4},
                    {&t->tile_sums, trainer_tiles(t) * (2 * d + 3), 8},
                    {&t->main.start, batch + 1, 8},
                    {&t->aux.start, batch + 1, 8},
                    {&t->encoder_sums, blocks * d, 8},
                    {&t->bytes, mw_comm_size(t->comm), sizeof(size_t)}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        void *block = mw_calloc((size_t)all[i].count, all[i].item);
        if (!block) return MW_ERR_MEMORY;
        memcpy(all[i].slot, &block, sizeof block);
    }
    return MW_OK;
}

mw_status mw_trainer_new(mw_sae *sae, const mw_comm *comm, const mw_train_options *options, double loss_scale,
                         mw_trainer **out) {
    MW_TRY(mw_comm_agree(comm, check_options(options)));
    mw_trainer *t = mw_calloc(1, sizeof *t);
    MW_TRY(mw_comm_agree(comm, t ? MW_OK : MW_ERR_MEMORY));
    int rank = mw_comm_rank(comm), size = mw_comm_size(comm);
    *t = (mw_trainer){.sae = sae, .comm = comm, .options = *options, .loss_scale = loss_scale};
    mw_comm_share(rank, size, options->batch, MW_ROW_TILE, &t->begin, &t->end);
    int64_t last;
    mw_comm_share(rank, size, sae->n, LATENT_BLOCK, &t->first_latent, &last);
    t->n_latents = last - t->first_latent;
    mw_status status = mw_comm_agree(comm, allocate(t));
    if (status != MW_OK)
        mw_trainer_free(&t);
    else
        *out = t;
    return status;
}

void mw_trainer_free(mw_trainer **slot) {
    mw_trainer *t = *slot;
    if (!t) return;
    codes_free(&t->main);
    codes_free(&t->aux);
    void *all[] = {t->since_fired, t->dead,     t->m_enc,  t->v_enc,     t->m_dec,        t->v_dec,  t->m_benc,
                   t->v_benc,      t->m_bdec,   t->v_bdec, t->g_enc,     t->g_dec,        t->g_benc, t->g_bdec,
                   t->centered,    t->out_grad, t->x_hat,  t->tile_sums, t->encoder_sums, t->bytes,  t};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *slot = NULL;
}

void mw_trainer_rows(const mw_trainer *t, int64_t *begin, int64_t *end) {
    *begin = t->begin;
    *end = t->end;
}

int64_t mw_trainer_steps_done(const mw_trainer *t) {
    return t->step;
}

mw_status mw_trainer_step(mw_trainer *t, const float *x, mw_step_report *report) {
    MW_TRY(step_forward(t, x));
    MW_TRY(step_gradients(t));
    MW_TRY(step_update(t));
    t->step++;
    if (report) *report = t->report;
    return MW_OK;
}

/* ---- checkpoints --------------------------------------------------------------------------------------- */

enum { PARTS = 13 };

/* What a checkpoint holds: whole arrays, of which the moments are shares until they are gathered. */
typedef struct part {
    const char *name;
    void *data;
    mw_dtype dtype;
    int64_t rows, columns; /* columns 0: one dimension */
    bool shared;           /* `data` is this rank's share of latents */
} part;

static void list_parts(const mw_trainer *t, part out[PARTS]) {
    const mw_sae *s = t->sae;
    part all[PARTS] = {{"W_enc", s->w_enc, MW_F32, s->n, s->d, false},
                       {"W_dec", s->w_dec, MW_F32, s->n, s->d, false},
                       {"b_enc", s->b_enc, MW_F32, s->n, 0, false},
                       {"b_dec", s->b_dec, MW_F32, s->d, 0, false},
                       {"adam.m.W_enc", t->m_enc, MW_F32, s->n, s->d, true},
                       {"adam.v.W_enc", t->v_enc, MW_F32, s->n, s->d, true},
                       {"adam.m.W_dec", t->m_dec, MW_F32, s->n, s->d, true},
                       {"adam.v.W_dec", t->v_dec, MW_F32, s->n, s->d, true},
                       {"adam.m.b_enc", t->m_benc, MW_F32, s->n, 0, true},
                       {"adam.v.b_enc", t->v_benc, MW_F32, s->n, 0, true},
                       {"adam.m.b_dec", t->m_bdec, MW_F32, s->d, 0, false},
                       {"adam.v.b_dec", t->v_bdec, MW_F32, s->d, 0, false},
                       {"since_fired", t->since_fired, MW_I64, s->n, 0, false}};
    memcpy(out, all, sizeof all);
}

static size_t row_bytes(const part *p) {
    return (size_t)(p->columns ? p->columns : 1) * mw_dtype_size(p->dtype);
}

static mw_status gather_part(const mw_trainer *t, const part *p, void **whole) {
    void *data = mw_alloc((size_t)p->rows * row_bytes(p));
    MW_TRY(mw_comm_agree(t->comm, data ? MW_OK : MW_ERR_MEMORY));
    memcpy((char *)data + (size_t)t->first_latent * row_bytes(p), p->data, (size_t)t->n_latents * row_bytes(p));
    *whole = data;
    return gather_latents((mw_trainer *)(uintptr_t)t, data, row_bytes(p));
}

static mw_status write_parts(const mw_trainer *t, const char *path, const part *parts, void *const *whole) {
    mw_named_tensor tensors[PARTS];
    for (int i = 0; i < PARTS; i++) {
        void *data = whole[i] ? whole[i] : parts[i].data;
        tensors[i] = (mw_named_tensor){
            parts[i].name, parts[i].columns ? mw_tensor_2d(parts[i].dtype, data, parts[i].rows, parts[i].columns)
                                            : mw_tensor_1d(parts[i].dtype, data, parts[i].rows)};
    }
    char *step = mw_format("%lld", (long long)t->step), *scale = mw_format("%.17g", t->loss_scale);
    char *threshold = mw_format("%.9g", (double)t->sae->threshold);
    mw_status status = MW_ERR_MEMORY;
    if (step && scale && threshold) {
        const char *mark = t->options.fingerprint ? t->options.fingerprint : "";
        const char *const metadata[] = {"step", step,        "loss_scale", scale, "fingerprint",
                                        mark,   "threshold", threshold,    NULL};
        status = mw_safetensors_write(path, tensors, PARTS, metadata);
    }
    mw_free(step);
    mw_free(scale);
    mw_free(threshold);
    return status;
}

mw_status mw_trainer_save(const mw_trainer *t, const char *path) {
    part parts[PARTS];
    void *whole[PARTS] = {0};
    list_parts(t, parts);
    mw_status status = MW_OK;
    for (int i = 0; i < PARTS && status == MW_OK; i++)
        if (parts[i].shared) status = gather_part(t, &parts[i], &whole[i]);
    if (status == MW_OK)
        status = mw_comm_agree(t->comm, mw_comm_rank(t->comm) == 0 ? write_parts(t, path, parts, whole) : MW_OK);
    for (int i = 0; i < PARTS; i++) mw_free(whole[i]);
    return status;
}

static mw_status read_part(const mw_trainer *t, const mw_safetensors *file, const char *path, const part *p) {
    mw_tensor tensor;
    bool fits = mw_safetensors_find(file, p->name, &tensor) && tensor.dtype == p->dtype &&
                tensor.ndim == (p->columns ? 2 : 1) && tensor.shape[0] == p->rows &&
                (!p->columns || tensor.shape[1] == p->columns);
    if (!fits) return mw_error(MW_ERR_FORMAT, "%s: tensor '%s' is missing or of another shape", path, p->name);
    size_t row = row_bytes(p);
    if (p->shared)
        memcpy(p->data, (const char *)tensor.data + (size_t)t->first_latent * row, (size_t)t->n_latents * row);
    else
        memcpy(p->data, tensor.data, (size_t)p->rows * row);
    return MW_OK;
}

static mw_status read_parts(mw_trainer *t, const char *path) {
    mw_safetensors *file;
    MW_TRY(mw_safetensors_open(path, &file));
    part parts[PARTS];
    list_parts(t, parts);
    mw_status status = MW_OK;
    for (int i = 0; i < PARTS && status == MW_OK; i++) status = read_part(t, file, path, &parts[i]);
    const char *step = mw_safetensors_metadata(file, "step"), *scale = mw_safetensors_metadata(file, "loss_scale");
    const char *mark = mw_safetensors_metadata(file, "fingerprint");
    if (status == MW_OK && t->options.fingerprint && (!mark || strcmp(mark, t->options.fingerprint) != 0))
        status = mw_error(MW_ERR_STATE, "%s: a checkpoint of other data or settings", path);
    const char *threshold = mw_safetensors_metadata(file, "threshold");
    double kept = -1;
    bool good = step && scale && threshold && mw_parse_int(step, &t->step) && mw_parse_double(scale, &t->loss_scale) &&
                mw_parse_double(threshold, &kept);
    if (status == MW_OK && !good)
        status = mw_error(MW_ERR_FORMAT, "%s: step, loss_scale or threshold is missing", path);
    t->sae->threshold = (float)kept;
    mw_safetensors_free(&file);
    return status;
}

mw_status mw_trainer_load(mw_trainer *t, const char *path) {
    return mw_comm_agree(t->comm, read_parts(t, path));
}
