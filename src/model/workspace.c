/* Allocates the buffers and tables of forward passes. */
#include "model/model_private.h"

void mw_workspace_free(mw_model *model) {
    mw_workspace *w = &model->work;
    void *all[] = {w->x, w->h, w->q, w->k, w->v, w->qkv, w->z, w->out, w->gate, w->up, w->logits, w->rounded};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) model->backend->ops->free(model->backend, all[i]);
    *w = (mw_workspace){0};
}

mw_status mw_table_replace(mw_backend *backend, float *host, int64_t count, float **slot) {
    float *device = NULL;
    mw_status status = mw_backend_floats(backend, count, &device);
    if (status == MW_OK) status = backend->ops->upload(backend, device, host, (size_t)count * sizeof *host);
    mw_free(host);
    float *unused = status == MW_OK ? *slot : device;
    if (unused) backend->ops->free(backend, unused);
    if (status == MW_OK) *slot = device;
    return status;
}

mw_status mw_workspace_reserve(mw_model *model, int64_t rows) {
    if (rows <= model->work.rows) return MW_OK;
    mw_workspace_free(model);
    const mw_architecture *a = &model->arch;
    mw_workspace *w = &model->work;
    int64_t q = a->n_heads * a->head_dim, kv = a->n_kv_heads * a->head_dim;
    int64_t wide = a->d_model > a->d_embed ? a->d_model : a->d_embed;
    int64_t z = q > a->d_model ? q : a->d_model; /* parallel blocks keep the output of attention there */
    struct {
        float **slot;
        int64_t width;
    } wanted[] = {{&w->x, a->d_model}, {&w->h, wide},   {&w->q, q},
                  {&w->k, kv},         {&w->v, kv},     {&w->qkv, a->qkv_groups > 1 ? q + 2 * kv : 0},
                  {&w->z, z},          {&w->out, wide}, {&w->gate, mw_family_is_gated(a->family) ? a->d_mlp : 0},
                  {&w->up, a->d_mlp}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i].width) MW_TRY(mw_backend_floats(model->backend, rows * wanted[i].width, wanted[i].slot));
    size_t rounded = (size_t)(rows * (q > a->d_mlp ? q : a->d_mlp)) * sizeof *w->rounded;
    bool rounds = model->info.dtype == MW_BF16 && model->backend->ops->has_fast_bf16(model->backend);
    void *block = NULL;
    if (rounds) MW_TRY(model->backend->ops->alloc(model->backend, rounded, &block));
    w->rounded = block;
    w->rows = rows;
    return MW_OK;
}
