/* Arrays and SAEs between host and device memory. Where the device has host memory nothing is copied. */
#include "sae/variants/variants.h"

#include <string.h>

mw_status borrow(mw_backend *backend, void *device, size_t bytes, void *out) {
    void *host = device;
    if (!backend->ops->host_memory) {
        if (!(host = mw_alloc(bytes ? bytes : 1))) return MW_ERR_MEMORY;
        mw_status status = bytes ? backend->ops->download(backend, host, device, bytes) : MW_OK;
        if (status != MW_OK) {
            mw_free(host);
            return status;
        }
    }
    memcpy(out, &host, sizeof host);
    return MW_OK;
}

mw_status write_back(mw_backend *backend, void *device, size_t bytes, const void *host) {
    return backend->ops->host_memory || !bytes ? MW_OK : backend->ops->upload(backend, device, host, bytes);
}

void give_back(mw_backend *backend, void *host) {
    if (!backend->ops->host_memory) mw_free(host);
}

/* Latents have 4 bytes, as floats: the backend's copy of floats copies them. */
mw_status copy_latents(mw_backend *b, int32_t *to, int64_t to_stride, const int32_t *from, int64_t rows,
                       int64_t width) {
    return b->ops->copy_2d(b, (float *)(void *)to, to_stride, (const float *)(const void *)from, width, rows, width);
}

/* ---- the whole SAE ------------------------------------------------------------------------------------------- */

enum { ARRAYS = 5 + MW_EXTRAS };

/* A weight array of an SAE: its pointer in the struct, and its number of items. */
typedef struct array {
    float **slot;
    int64_t count;
} array;

static void list_arrays(mw_sae *s, array out[ARRAYS]) {
    out[0] = (array){&s->w_enc, s->n * s->d};
    out[1] = (array){&s->b_enc, s->n};
    out[2] = (array){&s->w_dec, s->n * s->d_out};
    out[3] = (array){&s->b_dec, s->d_out};
    out[4] = (array){&s->w_skip, s->d_out * s->d};
    for (int i = 0; i < MW_EXTRAS; i++) out[5 + i] = (array){&s->extra[i], s->n};
}

/* Copies all arrays; both SAEs have the same ones. `upload`: to the device, else from it. */
static mw_status copy_arrays(mw_backend *backend, const mw_sae *from, mw_sae *to, bool upload) {
    array source[ARRAYS], target[ARRAYS];
    mw_sae from_copy = *from;
    list_arrays(&from_copy, source);
    list_arrays(to, target);
    for (int i = 0; i < ARRAYS; i++) {
        if (!*target[i].slot) continue;
        size_t bytes = (size_t)target[i].count * sizeof(float);
        if (upload)
            MW_TRY(backend->ops->upload(backend, *target[i].slot, *source[i].slot, bytes));
        else
            MW_TRY(backend->ops->download(backend, *target[i].slot, *source[i].slot, bytes));
    }
    to->threshold = from->threshold;
    return MW_OK;
}

mw_status sae_fetch(const mw_sae *copy, mw_sae *to) {
    return copy_arrays(copy->backend, copy, to, false);
}

mw_status sae_copy_to(const mw_sae *sae, mw_backend *backend, mw_sae **out) {
    mw_sae *copy = mw_alloc(sizeof *copy);
    if (!copy) return MW_ERR_MEMORY;
    array from[ARRAYS], to[ARRAYS];
    *copy = *sae;
    copy->backend = backend;
    copy->device = NULL;
    copy->encoder = (mw_encoder){0};
    list_arrays(copy, to);
    for (int i = 0; i < ARRAYS; i++) {
        from[i].slot = *to[i].slot ? to[i].slot : NULL; /* remembers which arrays exist */
        *to[i].slot = NULL;
    }
    mw_status status = MW_OK;
    for (int i = 0; i < ARRAYS && status == MW_OK; i++)
        if (from[i].slot) status = mw_backend_floats(backend, to[i].count, to[i].slot);
    if (status == MW_OK) status = copy_arrays(backend, sae, copy, true);
    if (status != MW_OK)
        sae_free_copy(&copy);
    else
        *out = copy;
    return status;
}

void sae_free_copy(mw_sae **slot) {
    mw_sae *copy = *slot;
    array all[ARRAYS];
    if (!copy) return;
    list_arrays(copy, all);
    sae_unprepare(copy);
    for (int i = 0; i < ARRAYS; i++)
        if (*all[i].slot) copy->backend->ops->free(copy->backend, *all[i].slot);
    mw_free(copy);
    *slot = NULL;
}

mw_status mw_sae_use_device(mw_sae *sae, mw_backend *device) {
    const encoder_choice many_rows = {.rows = INT64_MAX};
    mw_sae_leave_device(sae);
    if (device->ops->host_memory) return sae_prepare(sae, &many_rows);
    MW_TRY(sae_copy_to(sae, device, &sae->device));
    return sae_prepare(sae->device, &many_rows);
}

void mw_sae_leave_device(mw_sae *sae) {
    sae_free_copy(&sae->device);
    sae_unprepare(sae);
}

mw_column_groups target_groups(const mw_sae *sae) {
    return (mw_column_groups){sae->n_targets, sae->target_end};
}
