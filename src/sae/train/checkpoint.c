/* Checkpoints: all that a later training needs to resume bit for bit, at any number of ranks. All ranks write and
 * verify their parts of the file. */
#include "comm/shared_file.h"
#include "sae/formats/sae_file.h"
#include "sae/step/step.h"

#include <stdio.h>
#include <string.h>

/* One array of a checkpoint. Of arrays with a row per latent every rank writes and verifies the rows of the latents it
 * owns; rank 0 writes the others. */
typedef struct piece {
    char name[32];
    void *data; /* in device memory, after `stage` in host memory */
    mw_dtype dtype;
    int64_t rows, columns; /* of the whole array; columns 0: one dimension */
    bool by_latent;
    int64_t first, n_here; /* `data` has the rows first .. first + n_here */
} piece;

enum { KINDS = 4, PIECES_MAX = KINDS * P_COUNT + 1 };

static int list_pieces(const mw_trainer *t, piece out[PIECES_MAX]) {
    static const char *const prefix[KINDS] = {"", "adam.m.", "adam.v.", "ema."};
    const mw_shard *shard = &t->sae->shard;
    int count = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < P_COUNT; i++) {
            const parameter *p = &t->parameter[i];
            float *const data[KINDS] = {p->value, p->m, p->v, p->ema};
            if (!data[kind]) continue;
            piece *it = &out[count++];
            *it = (piece){.data = data[kind],
                          .dtype = MW_F32,
                          .rows = p->shared ? shard->total : p->rows,
                          .columns = p->columns > 1 ? p->columns : 0,
                          .by_latent = p->shared,
                          .first = p->shared ? shard->first + (kind > 0 ? t->first_latent : 0) : 0,
                          .n_here = p->shared && kind > 0 ? t->n_latents : p->rows};
            snprintf(it->name, sizeof it->name, "%s%s", prefix[kind], p->name);
        }
    out[count++] = (piece){"since_fired", t->since_fired, MW_I64, shard->total, 0, true, shard->first, t->sae->n};
    return count;
}

static size_t row_bytes(const piece *p) {
    return (size_t)(p->columns ? p->columns : 1) * mw_dtype_size(p->dtype);
}

static size_t bytes_here(const piece *p) {
    return (size_t)p->n_here * row_bytes(p);
}

static void unstage(const mw_trainer *t, piece *pieces, int count) {
    for (int i = 0; i < count; i++) give_back(t->backend, pieces[i].data);
}

/* Copies all pieces to host memory. */
static mw_status stage(const mw_trainer *t, piece *pieces, int count) {
    for (int i = 0; i < count; i++) {
        mw_status status = borrow(t->backend, pieces[i].data, bytes_here(&pieces[i]), &pieces[i].data);
        if (status == MW_OK) continue;
        unstage(t, pieces, i);
        return status;
    }
    return MW_OK;
}

/* The rows first .. first + count of a piece. */
typedef struct extent {
    const char *data;
    int64_t first, count;
} extent;

/* Returns the rows that this rank writes and verifies; `whole` is the array in a file, NULL: in the trainer. */
static extent owned_rows(const mw_trainer *t, const piece *p, const void *whole) {
    extent e = {whole ? whole : p->data, 0, p->rows};
    if (!p->by_latent) return e;
    e.first = t->sae->shard.first + t->first_latent;
    e.count = t->n_latents;
    e.data += (size_t)(e.first - (whole ? 0 : p->first)) * row_bytes(p);
    return e;
}

/* ---- checksum -------------------------------------------------------------------------------------------- */

typedef struct number {
    const char *name;
    double value;
    char text[32];
} number;

enum { NUMBERS = 6 };

static void name_numbers(number out[NUMBERS]) {
    static const char *const names[NUMBERS] = {"step",        "loss_scale", "threshold",
                                               "smooth_loss", "best_loss",  "best_step"};
    for (int i = 0; i < NUMBERS; i++) out[i] = (number){.name = names[i]};
}

static void list_numbers(const mw_trainer *t, number out[NUMBERS]) {
    const double values[NUMBERS] = {(double)t->step, t->loss_scale, (double)t->sae->threshold,
                                    t->smooth,       t->best,       (double)t->best_step};
    name_numbers(out);
    for (int i = 0; i < NUMBERS; i++) {
        out[i].value = values[i];
        snprintf(out[i].text, sizeof out[i].text, "%.17g", values[i]);
    }
}

/* A chain over all pieces and numbers in order: each link is a hash of the link before and the hash of new data. */
typedef struct checksum {
    uint64_t sum;
    char text[24];
} checksum;

static void extend_checksum(checksum *c, const void *data, size_t bytes) {
    uint64_t link[2] = {c->sum, mw_xxh64(data, bytes)};
    c->sum = mw_xxh64(link, sizeof link);
    snprintf(c->text, sizeof c->text, "%016llx", (unsigned long long)c->sum);
}

/* Hashes the blocks of LATENT_BLOCK rows of an extent; returns the number of blocks of the whole piece. */
static int64_t block_hashes(const piece *p, extent rows, uint64_t *hashes) {
    int64_t step = p->by_latent ? LATENT_BLOCK : p->rows;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < rows.count; at += step) {
        int64_t count = rows.count - at < step ? rows.count - at : step;
        hashes[(rows.first + at) / step] =
            mw_xxh64(rows.data + (size_t)at * row_bytes(p), (size_t)count * row_bytes(p));
    }
    return p->by_latent ? (p->rows + LATENT_BLOCK - 1) / LATENT_BLOCK : 1;
}

/* Every rank hashes the blocks of its own latents, and all gather all hashes. */
static mw_status hash_piece(const mw_trainer *t, const piece *p, const void *whole, uint64_t *hashes, checksum *c) {
    int64_t blocks = block_hashes(p, owned_rows(t, p, whole), hashes);
    if (p->by_latent) MW_TRY(mw_comm_allgather_shares(t->comm, hashes, blocks, 1, sizeof *hashes));
    extend_checksum(c, hashes, (size_t)blocks * sizeof *hashes);
    return MW_OK;
}

/* `whole` NULL: the arrays of the trainer. */
static mw_status hash_all(const mw_trainer *t, const piece *pieces, int count, const void *const *whole, checksum *c) {
    uint64_t *hashes = mw_calloc((size_t)(t->sae->shard.total / LATENT_BLOCK + 2), sizeof *hashes);
    mw_status status = mw_comm_agree(t->comm, hashes ? MW_OK : MW_ERR_MEMORY);
    for (int i = 0; i < count && status == MW_OK; i++)
        status = hash_piece(t, &pieces[i], whole ? whole[i] : NULL, hashes, c);
    mw_free(hashes);
    return status;
}

/* ---- values ---------------------------------------------------------------------------------------------- */

/* Returns the index, over all pieces concatenated, of this rank's first value that is not finite; -1: none. */
static int64_t find_nonfinite(const mw_trainer *t, const piece *pieces, int count, const piece **piece_of,
                              int64_t *at) {
    int64_t before = 0;
    for (int i = 0; i < count; i++) {
        const piece *p = &pieces[i];
        extent own = owned_rows(t, p, NULL);
        int64_t width = p->columns ? p->columns : 1, n = own.count * width;
        int64_t bad = p->dtype == MW_F32 ? mw_first_not_finite((const float *)own.data, n) : n;
        *piece_of = p;
        *at = own.first * width + bad;
        if (bad < n) return before + *at;
        before += p->rows * width;
    }
    return -1;
}

/* A checkpoint that is not finite cannot be resumed, and would replace one that can. The rank with the first such value
 * names it. */
static mw_status check_finite(const mw_trainer *t, const piece *pieces, int count) {
    const piece *p = NULL;
    int64_t at = 0, first, own = find_nonfinite(t, pieces, count, &p, &at), width;
    MW_TRY(mw_comm_allreduce_first(t->comm, own, &first));
    mw_status status = MW_OK;
    if (first >= 0 && own == first) {
        width = p->columns ? p->columns : 1;
        status = mw_error(MW_ERR_STATE,
                          "step %lld: '%s' is not finite at [%lld, %lld]; lower train.lr; the last checkpoint is kept",
                          (long long)t->step, p->name, (long long)(at / width), (long long)(at % width));
    }
    return mw_comm_agree(t->comm, status);
}

/* ---- writing --------------------------------------------------------------------------------------------- */

static void list_tensors(const piece *pieces, int count, mw_named_tensor *out) {
    for (int i = 0; i < count; i++) {
        const piece *p = &pieces[i];
        out[i] = (mw_named_tensor){p->name, p->columns ? mw_tensor_2d(p->dtype, p->data, p->rows, p->columns)
                                                       : mw_tensor_1d(p->dtype, p->data, p->rows)};
    }
}

static mw_status make_head(const mw_trainer *t, const piece *pieces, int count, checksum sum, mw_text *head,
                           uint64_t *offset) {
    mw_named_tensor tensors[PIECES_MAX];
    number numbers[NUMBERS];
    const char *metadata[2 * NUMBERS + 5] = {"fingerprint", t->options.fingerprint ? t->options.fingerprint : "",
                                             "checksum", sum.text};
    list_numbers(t, numbers);
    for (int i = 0; i < NUMBERS; i++) {
        metadata[2 * i + 4] = numbers[i].name;
        metadata[2 * i + 5] = numbers[i].text;
        extend_checksum(&sum, numbers[i].text, strlen(numbers[i].text));
    }
    list_tensors(pieces, count, tensors);
    return mw_safetensors_header(tensors, count, metadata, head, offset);
}

/* The parts that this rank writes. */
static int64_t list_own_parts(const mw_trainer *t, const piece *pieces, int count, const uint64_t *offset,
                              shared_piece out[PIECES_MAX]) {
    int64_t n = 0;
    for (int i = 0; i < count; i++) {
        const piece *p = &pieces[i];
        extent own = owned_rows(t, p, NULL);
        if (!p->by_latent && mw_comm_rank(t->comm) != 0) continue;
        out[n++] =
            (shared_piece){offset[i] + (uint64_t)own.first * row_bytes(p), own.data, (size_t)own.count * row_bytes(p)};
    }
    return n;
}

static mw_status save_staged(const mw_trainer *t, const char *path, const piece *pieces, int count) {
    uint64_t offset[PIECES_MAX];
    shared_piece parts[PIECES_MAX];
    mw_text head = {0};
    checksum sum = {0};
    mw_status status = hash_all(t, pieces, count, NULL, &sum);
    if (status == MW_OK) status = mw_comm_agree(t->comm, make_head(t, pieces, count, sum, &head, offset));
    if (status == MW_OK)
        status = shared_file_write(t->comm, path, &head, parts, list_own_parts(t, pieces, count, offset, parts));
    mw_text_free(&head);
    return status;
}

mw_status mw_trainer_save(const mw_trainer *t, const char *path) {
    piece pieces[PIECES_MAX];
    int count = list_pieces(t, pieces);
    mw_status staged = t->local == MW_OK ? stage(t, pieces, count) : t->local;
    mw_status status = mw_comm_agree(t->comm, staged);
    if (status == MW_OK) status = check_finite(t, pieces, count);
    if (status == MW_OK) status = save_staged(t, path, pieces, count);
    if (staged == MW_OK) unstage(t, pieces, count);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

static mw_status find_piece(const mw_safetensors *file, const char *path, const piece *p, mw_tensor *out) {
    bool fits = mw_safetensors_find(file, p->name, out) && out->dtype == p->dtype &&
                out->ndim == (p->columns ? 2 : 1) && out->shape[0] == p->rows &&
                (!p->columns || out->shape[1] == p->columns);
    return fits ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: tensor '%s' is missing or of another shape", path, p->name);
}

static mw_status copy_piece(const mw_trainer *t, const piece *p, const char *whole) {
    const void *rows = whole + (size_t)p->first * row_bytes(p);
    return t->backend->ops->upload(t->backend, p->data, rows, bytes_here(p));
}

static mw_status parse_numbers(const mw_safetensors *file, const char *path, number numbers[NUMBERS]) {
    name_numbers(numbers);
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = mw_safetensors_metadata(file, numbers[i].name);
        if (!text || !mw_parse_double(text, &numbers[i].value))
            return mw_error(MW_ERR_FORMAT, "%s: %s is missing or not a number", path, numbers[i].name);
    }
    for (int i = 0; i < NUMBERS; i += NUMBERS - 1) /* step, best_step */
        if (!(numbers[i].value >= 0 && numbers[i].value < 9e15))
            return mw_error(MW_ERR_FORMAT, "%s: %s is %g", path, numbers[i].name, numbers[i].value);
    return MW_OK;
}

static mw_status find_pieces(const mw_trainer *t, const mw_safetensors *file, const char *path, const piece *pieces,
                             int count, const void **whole) {
    const char *fingerprint = mw_safetensors_metadata(file, "fingerprint");
    if (t->options.fingerprint && (!fingerprint || strcmp(fingerprint, t->options.fingerprint) != 0))
        return mw_error(MW_ERR_STATE, "%s: a checkpoint of other data or settings", path);
    for (int i = 0; i < count; i++) {
        mw_tensor tensor;
        MW_TRY(find_piece(file, path, &pieces[i], &tensor));
        whole[i] = tensor.data;
    }
    return MW_OK;
}

static mw_status compare_checksum(const mw_safetensors *file, const char *path, checksum found) {
    const char *sum = mw_safetensors_metadata(file, "checksum");
    number numbers[NUMBERS];
    name_numbers(numbers);
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = mw_safetensors_metadata(file, numbers[i].name);
        if (text) extend_checksum(&found, text, strlen(text));
    }
    if (sum && strcmp(sum, found.text) == 0) return MW_OK;
    return mw_error(MW_ERR_FORMAT, "%s: the checksum does not match: expected %s, found %s", path, sum ? sum : "one",
                    found.text);
}

/* Finds every fault of a file before the trainer changes. Collective. */
static mw_status check_file(const mw_trainer *t, const mw_safetensors *file, const char *path, mw_status opened,
                            number numbers[NUMBERS]) {
    piece pieces[PIECES_MAX];
    const void *whole[PIECES_MAX];
    int count = list_pieces(t, pieces);
    checksum found = {0};
    MW_TRY(mw_comm_agree(t->comm, opened == MW_OK ? find_pieces(t, file, path, pieces, count, whole) : opened));
    MW_TRY(hash_all(t, pieces, count, whole, &found));
    mw_status status = compare_checksum(file, path, found);
    if (status == MW_OK) status = parse_numbers(file, path, numbers);
    return mw_comm_agree(t->comm, status);
}

static mw_status apply_file(mw_trainer *t, const mw_safetensors *file, const number numbers[NUMBERS]) {
    piece pieces[PIECES_MAX];
    int count = list_pieces(t, pieces);
    for (int i = 0; i < count; i++) {
        mw_tensor tensor;
        if (mw_safetensors_find(file, pieces[i].name, &tensor)) MW_TRY(copy_piece(t, &pieces[i], tensor.data));
    }
    t->step = (int64_t)numbers[0].value;
    t->loss_scale = numbers[1].value;
    t->sae->threshold = (float)numbers[2].value;
    t->smooth = numbers[3].value;
    t->best = numbers[4].value;
    t->best_step = (int64_t)numbers[5].value;
    return sae_refresh(t->sae);
}

mw_status mw_trainer_load(mw_trainer *t, const char *path) {
    mw_safetensors *file = NULL;
    number numbers[NUMBERS];
    mw_status opened = mw_safetensors_open(path, &file);
    mw_status status = check_file(t, file, path, opened, numbers);
    if (status == MW_OK) status = mw_comm_agree(t->comm, end_gathers(t));
    if (status == MW_OK) status = mw_comm_agree(t->comm, apply_file(t, file, numbers));
    mw_safetensors_free(&file);
    return status;
}

/* ---- description ---------------------------------------------------------------------------------------- */

/* Lists the pieces by their offset in the file, which is the order of the checksum. */
static int pieces_of(const mw_safetensors *file, piece out[PIECES_MAX]) {
    int count = 0;
    for (int64_t i = 0; i < mw_safetensors_count(file) && count < PIECES_MAX; i++) {
        mw_tensor t;
        const char *name = mw_safetensors_name(file, i);
        if (!mw_safetensors_find(file, name, &t) || strlen(name) >= sizeof out->name) continue;
        if (t.ndim < 1 || mw_tensor_count(&t) == 0) continue; /* not an array of a checkpoint */
        piece p = {.data = t.data, .dtype = t.dtype, .rows = t.shape[0], .columns = t.ndim == 2 ? t.shape[1] : 0};
        memcpy(p.name, name, strlen(name) + 1);
        p.by_latent = !mw_ends_with(name, "b_dec") && !mw_ends_with(name, "W_skip");
        int at = count++;
        for (; at > 0 && (uintptr_t)out[at - 1].data > (uintptr_t)p.data; at--) out[at] = out[at - 1];
        out[at] = p;
    }
    return count;
}

static mw_status hash_file(const piece *pieces, int count, int64_t n, checksum *found) {
    uint64_t *hashes = mw_calloc((size_t)(n / LATENT_BLOCK + 2), sizeof *hashes);
    if (!hashes) return MW_ERR_MEMORY;
    for (int i = 0; i < count; i++) {
        if (pieces[i].by_latent && pieces[i].rows != n) continue; /* the checksum will not match */
        int64_t blocks = block_hashes(&pieces[i], (extent){pieces[i].data, 0, pieces[i].rows}, hashes);
        extend_checksum(found, hashes, (size_t)blocks * sizeof *hashes);
    }
    mw_free(hashes);
    return MW_OK;
}

static mw_status check_tensors(const mw_safetensors *file, const char *path, int64_t n) {
    piece pieces[PIECES_MAX];
    checksum found = {0};
    MW_TRY(hash_file(pieces, pieces_of(file, pieces), n, &found));
    return compare_checksum(file, path, found);
}

static mw_status read_info(const mw_safetensors *file, const char *path, bool whole, mw_checkpoint_info *out) {
    number numbers[NUMBERS];
    mw_tensor enc, dec;
    const char *fingerprint = mw_safetensors_metadata(file, "fingerprint");
    if (!fingerprint || !mw_safetensors_find(file, "W_enc", &enc) || !mw_safetensors_find(file, "W_dec", &dec) ||
        enc.ndim != 2 || dec.ndim != 2 || mw_tensor_count(&enc) == 0)
        return mw_error(MW_ERR_FORMAT, "%s: not a checkpoint", path);
    if (whole) MW_TRY(check_tensors(file, path, enc.shape[0]));
    MW_TRY(parse_numbers(file, path, numbers));
    *out = (mw_checkpoint_info){.step = (int64_t)numbers[0].value,
                                .threshold = numbers[2].value,
                                .n = enc.shape[0],
                                .d = enc.shape[1],
                                .d_out = dec.shape[1]};
    snprintf(out->fingerprint, sizeof out->fingerprint, "%s", fingerprint);
    return MW_OK;
}

static mw_status open_info(const char *path, bool whole, mw_checkpoint_info *out) {
    mw_safetensors *file = NULL;
    MW_TRY(mw_safetensors_open(path, &file));
    mw_status status = read_info(file, path, whole, out);
    mw_safetensors_free(&file);
    return status;
}

mw_status mw_checkpoint_read(const char *path, mw_checkpoint_info *out) {
    return open_info(path, true, out);
}

mw_status mw_checkpoint_head(const char *path, mw_checkpoint_info *out) {
    return open_info(path, false, out);
}
