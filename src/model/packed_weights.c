/* Packs weight matrices into the layout that the backend multiplies fastest, when a pass first reaches them: layers
 * after the last hooked site cost nothing. A packed matrix replaces the loader's copy; without such a copy it takes
 * memory beside the mapped file. */
#include "model/model_private.h"

static mw_status pack(mw_model *m, mw_weight *w) {
    if (!w->data) return MW_OK;
    return m->backend->ops->pack(
        m->backend,
        &(mw_matmul){
            .n = w->out, .k = w->in, .b = w->data, .b_dtype = w->dtype, .ldb = w->ld, .b_transposed = w->transposed},
        w->dtype, NULL, &w->packed);
}

static void list_matrices(mw_layer *l, mw_weight *out[MW_LAYER_MATRICES]) {
    mw_weight *all[MW_LAYER_MATRICES] = {&l->qkv, &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    for (int i = 0; i < MW_LAYER_MATRICES; i++) out[i] = all[i];
}

static void free_copies(mw_model *m, mw_layer *l) {
    for (int i = 0; i < l->n_copies; i++) m->backend->ops->free(m->backend, l->copy[i]);
    l->n_copies = 0;
}

mw_status mw_layer_pack_once(mw_model *m, int64_t layer) {
    mw_layer *l = &m->layers[layer];
    mw_weight *all[MW_LAYER_MATRICES];
    bool all_packed = true;
    if (l->packed || m->packing_disabled) return MW_OK;
    list_matrices(l, all);
    for (int i = 0; i < MW_LAYER_MATRICES; i++) {
        MW_TRY(pack(m, all[i]));
        all_packed = all_packed && (all[i]->packed || !all[i]->data);
    }
    l->packed = true;
    if (all_packed) free_copies(m, l); /* products read the packed matrices only */
    return MW_OK;
}

mw_status mw_head_pack_once(mw_model *m) {
    if (m->head_packed || m->packing_disabled) return MW_OK;
    MW_TRY(pack(m, &m->head));
    m->head_packed = true;
    return MW_OK;
}

void mw_layers_free(mw_model *m) {
    mw_weight *all[MW_LAYER_MATRICES];
    for (int64_t i = 0; m->layers && i < m->arch.n_layers; i++) {
        list_matrices(&m->layers[i], all);
        for (int j = 0; j < MW_LAYER_MATRICES; j++) m->backend->ops->free_packed(m->backend, all[j]->packed);
        free_copies(m, &m->layers[i]);
    }
    if (m->head.packed) m->backend->ops->free_packed(m->backend, m->head.packed);
    mw_free(m->layers);
}

void mw_model_disable_packing(mw_model *m) {
    m->packing_disabled = true;
}
