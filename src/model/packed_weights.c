/* Weights as products read them fastest: copies that take the place of those the loader made, where it made some, and otherwise come
 * beside the mapped file. Only what passes come to is packed, so layers behind the last hook cost nothing. */
#include "model/model_private.h"

static mw_status pack(mw_model *m, mw_weight *w) {
    if (!w->data) return MW_OK;
    return m->backend->ops->pack(
        m->backend,
        &(mw_matmul){
            .n = w->out, .k = w->in, .b = w->data, .b_dtype = w->dtype, .ldb = w->ld, .b_transposed = w->transposed},
        &w->packed);
}

static void list_matrices(mw_layer *l, mw_weight *out[MW_LAYER_MATRICES]) {
    mw_weight *all[MW_LAYER_MATRICES] = {&l->qkv, &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    for (int i = 0; i < MW_LAYER_MATRICES; i++) out[i] = all[i];
}

static void free_blocks(mw_model *m, mw_layer *l) {
    for (int i = 0; i < l->n_blocks; i++) m->backend->ops->free(m->backend, l->block[i]);
    l->n_blocks = 0;
}

mw_status mw_layer_meet(mw_model *m, int64_t layer) {
    mw_layer *l = &m->layers[layer];
    mw_weight *all[MW_LAYER_MATRICES];
    bool packed = true;
    if (l->met || m->plain) return MW_OK;
    list_matrices(l, all);
    for (int i = 0; i < MW_LAYER_MATRICES; i++) {
        MW_TRY(pack(m, all[i]));
        packed = packed && (all[i]->packed || !all[i]->data);
    }
    l->met = true;
    if (packed) free_blocks(m, l); /* no product reads them now */
    return MW_OK;
}

mw_status mw_head_meet(mw_model *m) {
    if (m->head_met || m->plain) return MW_OK;
    MW_TRY(pack(m, &m->head));
    m->head_met = true;
    return MW_OK;
}

void mw_layers_free(mw_model *m) {
    mw_weight *all[MW_LAYER_MATRICES];
    for (int64_t i = 0; m->layers && i < m->arch.n_layers; i++) {
        list_matrices(&m->layers[i], all);
        for (int j = 0; j < MW_LAYER_MATRICES; j++) m->backend->ops->free_packed(m->backend, all[j]->packed);
        free_blocks(m, &m->layers[i]);
    }
    if (m->head.packed) m->backend->ops->free_packed(m->backend, m->head.packed);
    mw_free(m->layers);
}

void mw_model_keep_plain(mw_model *m) {
    m->plain = true;
}
