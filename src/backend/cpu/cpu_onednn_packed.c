/* Products with a B that is kept in the blocked layout that oneDNN's kernels read, its columns cut into slices. oneDNN
 * copies a plain B into that layout for each tile of rows, which takes a sixth of the time of a tile of MW_ROW_TILE
 * rows. One thread computes a tile, as in cpu_matmul.c, so results do not depend on the number of threads. */
#include "backend/cpu/cpu.h"

#ifdef MICROW_HAVE_ONEDNN
#include "backend/cpu/cpu_onednn.h"

#include <omp.h>
#include <string.h>

/* C [rows, width] = A [rows, k] B, A and C dense. The caller gives scratch memory, so all threads may use the
 * primitive. */
typedef struct kernel {
    dnnl_primitive_t primitive;
    mw_onednn_layout a, c, scratch;
} kernel;

/* The slices of one width. */
typedef struct slice_kind {
    int64_t width;
    mw_onednn_layout layout;
    kernel whole; /* for tiles of MW_ROW_TILE rows */
} slice_kind;

struct mw_packed {
    int64_t k, slices;
    mw_dtype dtype; /* of B, and of A in its products: f32 or bf16 */
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attributes;
    slice_kind kind[2]; /* of the last slice, and of those before it */
    size_t slice_bytes; /* of those before it */
    char *data;         /* `own`, or in the memory that the caller gave */
    void *own;
};

static dnnl_data_type_t type_of(mw_dtype dtype) {
    return dtype == MW_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* A row of A is dense. */
static size_t row_bytes(const mw_packed *p) {
    return (size_t)p->k * mw_dtype_size(p->dtype);
}

static bool is_before_last(const mw_packed *p, int64_t slice) {
    return slice + 1 < p->slices;
}

/* ---- kernels ------------------------------------------------------------------------------------------- */

static void kernel_free(kernel *k) {
    if (k->primitive) dnnl_primitive_destroy(k->primitive);
    mw_onednn_layout_free(&k->a);
    mw_onednn_layout_free(&k->c);
    mw_onednn_layout_free(&k->scratch);
    k->primitive = NULL;
}

/* Sets the number of threads to one and returns the former number: oneDNN plans descriptors and primitives for the
 * number of threads at the time they are made, and each runs on one thread here. */
static int plan_for_one(void) {
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    return threads;
}

/* Makes the primitive of a descriptor and the layout of its scratch memory; destroys the descriptor. */
static mw_status make_primitive(dnnl_primitive_desc_t description, dnnl_primitive_t *primitive,
                                mw_onednn_layout *scratch) {
    mw_status status = mw_onednn_checked(dnnl_primitive_create(primitive, description), "primitive_create");
    if (status == MW_OK) status = mw_onednn_chosen(description, dnnl_query_scratchpad_md, scratch);
    dnnl_primitive_desc_destroy(description);
    return status;
}

/* `chosen` NULL: B has the layout `b`; else `b` comes from mw_onednn_any, and `chosen` gets the layout of oneDNN's
 * choice. */
static mw_status kernel_make(const mw_packed *p, int64_t rows, int64_t width, mw_onednn_layout b, kernel *out,
                             mw_onednn_layout *chosen) {
    dnnl_primitive_desc_t description = NULL;
    MW_TRY(mw_onednn_room());
    MW_TRY(mw_onednn_strided(rows, p->k, type_of(p->dtype), p->k, 1, &out->a));
    MW_TRY(mw_onednn_strided(rows, width, dnnl_f32, width, 1, &out->c));
    int threads = plan_for_one();
    mw_status status = mw_onednn_product(p->engine, out->a, b, out->c, p->attributes, &description);
    mw_status known = status == MW_OK && chosen ? mw_onednn_chosen(description, dnnl_query_weights_md, chosen) : MW_OK;
    if (status == MW_OK) status = make_primitive(description, &out->primitive, &out->scratch);
    omp_set_num_threads(threads);
    return status == MW_OK ? known : status;
}

/* ---- packing ------------------------------------------------------------------------------------------- */

static mw_status choose_layout(mw_packed *p, slice_kind *kind, int64_t width) {
    mw_onednn_layout any = NULL;
    kind->width = width;
    mw_status status = mw_onednn_any(p->k, width, type_of(p->dtype), &any);
    if (status == MW_OK) status = kernel_make(p, MW_ROW_TILE, width, any, &kind->whole, &kind->layout);
    mw_onednn_layout_free(&any);
    return status;
}

static mw_status packed_make(const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed *p) {
    int64_t n = like->n, before = (n - 1) / MW_COLUMN_TILE;
    *p = (mw_packed){.k = like->k, .slices = before + 1, .dtype = as};
    MW_TRY(mw_onednn_checked(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "engine_create"));
    MW_TRY(mw_onednn_checked(dnnl_primitive_attr_create(&p->attributes), "primitive_attr_create"));
    MW_TRY(mw_onednn_checked(dnnl_primitive_attr_set_scratchpad_mode(p->attributes, dnnl_scratchpad_mode_user),
                             "primitive_attr_set_scratchpad_mode"));
    MW_TRY(choose_layout(p, &p->kind[0], n - before * MW_COLUMN_TILE));
    if (before) MW_TRY(choose_layout(p, &p->kind[1], MW_COLUMN_TILE));
    for (int i = 0; i < 2; i++)
        if (p->kind[i].layout && !mw_onednn_blocked(p->kind[i].layout)) return MW_ERR_UNSUPPORTED;
    p->slice_bytes = before ? mw_onednn_bytes(p->kind[1].layout) : 0;
    size_t bytes = (size_t)before * p->slice_bytes + mw_onednn_bytes(p->kind[0].layout);
    if (room && bytes <= room->bytes)
        p->data = room->memory;
    else
        p->data = p->own = mw_alloc(bytes);
    return p->data ? MW_OK : MW_ERR_MEMORY;
}

void mw_onednn_free_packed(mw_packed *p) {
    for (int i = 0; i < 2; i++) {
        mw_onednn_layout_free(&p->kind[i].layout);
        kernel_free(&p->kind[i].whole);
    }
    if (p->attributes) dnnl_primitive_attr_destroy(p->attributes);
    if (p->engine) dnnl_engine_destroy(p->engine);
    mw_free(p->own);
    mw_free(p);
}

/* Copies a plain slice into the blocked layout. */
typedef struct copier {
    mw_onednn_layout plain, scratch;
    dnnl_primitive_t primitive;
} copier;

static mw_status copier_make(const mw_packed *p, const mw_matmul *like, const slice_kind *kind, copier *out) {
    dnnl_primitive_desc_t description = NULL;
    if (!kind->layout) return MW_OK;
    MW_TRY(mw_onednn_room());
    MW_TRY(mw_onednn_strided(p->k, kind->width, type_of(like->b_dtype), like->b_transposed ? 1 : like->ldb,
                             like->b_transposed ? like->ldb : 1, &out->plain));
    int threads = plan_for_one();
    mw_status status = mw_onednn_checked(
        dnnl_reorder_primitive_desc_create(&description, out->plain, p->engine, kind->layout, p->engine, p->attributes),
        "reorder_primitive_desc_create");
    if (status == MW_OK) status = make_primitive(description, &out->primitive, &out->scratch);
    omp_set_num_threads(threads);
    return status;
}

static void copier_free(copier *c) {
    if (c->primitive) dnnl_primitive_destroy(c->primitive);
    mw_onednn_layout_free(&c->plain);
    mw_onednn_layout_free(&c->scratch);
}

/* The memory of one thread. */
typedef struct worker {
    dnnl_stream_t stream;
    void *scratch;
    float *c; /* the product of a tile */
} worker;

static mw_status worker_make(const mw_packed *p, size_t scratch, size_t tile, worker *w) {
    w->scratch = mw_alloc(scratch ? scratch : 1);
    w->c = mw_alloc(tile ? tile : 1);
    if (!w->scratch || !w->c) return MW_ERR_MEMORY;
    return mw_onednn_checked(dnnl_stream_create(&w->stream, p->engine, dnnl_stream_default_flags), "stream_create");
}

static void worker_free(worker *w) {
    if (w->stream) dnnl_stream_destroy(w->stream);
    mw_free(w->scratch);
    mw_free(w->c);
}

static mw_status copy_slice(const mw_packed *p, const mw_matmul *like, int64_t slice, const copier *c,
                            const worker *w) {
    int64_t first = slice * MW_COLUMN_TILE * (like->b_transposed ? like->ldb : 1);
    const char *from = (const char *)like->b + (size_t)first * mw_dtype_size(like->b_dtype);
    char *to = p->data + (size_t)slice * p->slice_bytes;
    const mw_onednn_operand with[] = {{DNNL_ARG_FROM, c->plain, from},
                                      {DNNL_ARG_TO, p->kind[is_before_last(p, slice)].layout, to},
                                      {DNNL_ARG_SCRATCHPAD, c->scratch, w->scratch}};
    return mw_onednn_execute(c->primitive, p->engine, w->stream, with, 3);
}

static size_t larger(mw_onednn_layout a, mw_onednn_layout b) {
    size_t of_a = a ? mw_onednn_bytes(a) : 0, of_b = b ? mw_onednn_bytes(b) : 0;
    return of_a > of_b ? of_a : of_b;
}

static mw_status copy_slices(const mw_packed *p, const mw_matmul *like, const copier copiers[2]) {
    mw_status worst = MW_OK;
#pragma omp parallel reduction(max : worst)
    {
        worker w = {0};
        mw_status status = worker_make(p, larger(copiers[0].scratch, copiers[1].scratch), 0, &w);
#pragma omp for
        for (int64_t s = 0; s < p->slices; s++)
            if (status == MW_OK) status = copy_slice(p, like, s, &copiers[is_before_last(p, s)], &w);
        worker_free(&w);
        worst = status;
    }
    return worst;
}

mw_status mw_onednn_pack(const mw_matmul *like, mw_dtype as, const mw_room *room, mw_packed **slot) {
    copier copiers[2] = {{0}};
    mw_status status = MW_OK;
    if (as != MW_F32 && !(as == MW_BF16 && mw_onednn_has_bf16())) return MW_OK;
    if (like->b_dtype != as && like->b_dtype != MW_F32) return MW_OK;
    if (!*slot) {
        if (!(*slot = mw_calloc(1, sizeof **slot))) return MW_ERR_MEMORY;
        status = packed_make(like, as, room, *slot);
    }
    for (int i = 0; i < 2 && status == MW_OK; i++) status = copier_make(*slot, like, &(*slot)->kind[i], &copiers[i]);
    if (status == MW_OK) status = copy_slices(*slot, like, copiers);
    for (int i = 0; i < 2; i++) copier_free(&copiers[i]);
    if (status == MW_OK) return MW_OK;
    mw_onednn_free_packed(*slot);
    *slot = NULL;
    return status == MW_ERR_UNSUPPORTED ? MW_OK : status; /* products take the plain B */
}

/* ---- products ------------------------------------------------------------------------------------------ */

typedef struct task {
    const mw_matmul *t;
    const mw_packed *p;
    int64_t rest, computed; /* rows of the last tile of rows; rows of its kernel */
    kernel last[2];         /* for the last tile, by kind of slice */
    const char *a;          /* dense, in the type of B, the last tile with `computed` rows */
    void *copy;             /* `a`, unless `a` is the caller's memory */
    size_t scratch;         /* bytes that a kernel needs at most */
} task;

/* A single row in the last tile becomes two: oneDNN's kernels for single rows do not read the blocked layout. */
static mw_status task_make(const mw_matmul *t, task *out) {
    const mw_packed *p = t->packed;
    int64_t tiles = (t->m + MW_ROW_TILE - 1) / MW_ROW_TILE, rest = t->m - (tiles - 1) * MW_ROW_TILE;
    *out = (task){.t = t, .p = p, .rest = rest, .computed = rest < 2 ? 2 : rest};
    for (int i = 0; i < 2 && out->computed < MW_ROW_TILE; i++)
        if (p->kind[i].layout)
            MW_TRY(kernel_make(p, out->computed, p->kind[i].width, p->kind[i].layout, &out->last[i], NULL));
    for (int i = 0; i < 2; i++) {
        size_t here = larger(p->kind[i].whole.scratch, out->last[i].scratch);
        out->scratch = here > out->scratch ? here : out->scratch;
    }
    bool ready = t->a_bf16 || (p->dtype == MW_F32 && t->lda == t->k);
    out->a = t->a_bf16 ? (const char *)t->a_bf16 : (const char *)t->a;
    if (ready && out->computed == rest) return MW_OK;
    int64_t rows = t->m - rest + out->computed;
    size_t row = row_bytes(p);
    out->a = out->copy = mw_alloc((size_t)rows * row);
    if (!out->copy) return MW_ERR_MEMORY;
    memset((char *)out->copy + (size_t)t->m * row, 0, (size_t)(rows - t->m) * row);
    return MW_OK;
}

static mw_status copy_rows(const task *k) {
    const mw_matmul *t = k->t;
    size_t row = row_bytes(k->p);
    mw_status worst = MW_OK;
    if (t->a_bf16) {
        memcpy(k->copy, t->a_bf16, (size_t)t->m * row);
        return MW_OK;
    }
#pragma omp parallel for reduction(max : worst)
    for (int64_t r = 0; r < t->m; r++) {
        mw_status status = mw_convert_from_f32(k->p->dtype, t->a + r * t->lda, t->k, (char *)k->copy + (size_t)r * row);
        worst = status > worst ? status : worst;
    }
    return worst;
}

static void task_free(void *self) {
    task *k = self;
    if (!k) return;
    kernel_free(&k->last[0]);
    kernel_free(&k->last[1]);
    mw_free(k->copy);
    mw_free(k);
}

static mw_status task_open(void *self, void **out) {
    const task *k = self;
    worker *w = mw_calloc(1, sizeof *w);
    if (!(*out = w)) return MW_ERR_MEMORY;
    return worker_make(k->p, k->scratch, MW_ROW_TILE * MW_COLUMN_TILE * sizeof(float), w);
}

static void task_close(void *opened) {
    if (opened) worker_free(opened);
    mw_free(opened);
}

static mw_status task_multiply(void *self, void *opened, mw_tile *tile) {
    const task *k = self;
    const worker *w = opened;
    const mw_packed *p = k->p;
    int64_t slice = tile->column / MW_COLUMN_TILE;
    const slice_kind *kind = &p->kind[is_before_last(p, slice)];
    const kernel *with = tile->rows == MW_ROW_TILE ? &kind->whole : &k->last[is_before_last(p, slice)];
    const mw_onednn_operand operands[] = {{DNNL_ARG_SRC, with->a, k->a + (size_t)tile->first * row_bytes(p)},
                                          {DNNL_ARG_WEIGHTS, kind->layout, p->data + (size_t)slice * p->slice_bytes},
                                          {DNNL_ARG_DST, with->c, w->c},
                                          {DNNL_ARG_SCRATCHPAD, with->scratch, w->scratch}};
    tile->product = w->c;
    return mw_onednn_execute(with->primitive, p->engine, w->stream, operands, 4);
}

mw_status mw_onednn_packed(const mw_matmul *t, mw_tile_source *out) {
    task *k = mw_calloc(1, sizeof *k);
    *out = (mw_tile_source){k, task_open, task_multiply, task_close, task_free};
    if (!k) return MW_ERR_MEMORY;
    MW_TRY(task_make(t, k));
    return k->copy ? copy_rows(k) : MW_OK;
}
#endif
