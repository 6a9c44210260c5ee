/* Checkpoints: everything a run needs to go on bit for bit, at any number of ranks. */
#include "base/json.h"
#include "microw/safetensors.h"
#include "sae/trainer.h"

#include <stdio.h>
#include <string.h>

/* What a checkpoint holds: whole arrays, of which some are shares of latents until they are gathered. */
typedef struct piece {
    char name[32];
    void *data;
    mw_dtype dtype;
    int64_t rows, columns; /* columns 0: one dimension */
    bool shared;           /* `data` is this rank's share of latents */
} piece;

enum { KINDS = 4, PIECES_MAX = KINDS * P_COUNT + 1 };

static int list_pieces(const mw_trainer *t, piece out[PIECES_MAX]) {
    static const char *const prefix[KINDS] = {"", "adam.m.", "adam.v.", "ema."};
    int count = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < P_COUNT; i++) {
            const parameter *p = &t->parameter[i];
            float *const data[KINDS] = {p->value, p->m, p->v, p->ema};
            if (!data[kind]) continue;
            piece *it = &out[count++];
            *it = (piece){.data = data[kind],
                          .dtype = MW_F32,
                          .rows = p->rows,
                          .columns = p->columns > 1 ? p->columns : 0,
                          .shared = kind > 0 && p->shared};
            snprintf(it->name, sizeof it->name, "%s%s", prefix[kind], p->name);
        }
    out[count++] = (piece){"since_fired", t->since_fired, MW_I64, t->sae->n, 0, false};
    return count;
}

static size_t row_bytes(const piece *p) {
    return (size_t)(p->columns ? p->columns : 1) * mw_dtype_size(p->dtype);
}

/* ---- writing --------------------------------------------------------------------------------------------- */

static mw_status gather_piece(const mw_trainer *t, const piece *p, void **whole) {
    void *data = mw_alloc((size_t)p->rows * row_bytes(p));
    MW_TRY(mw_comm_agree(t->comm, data ? MW_OK : MW_ERR_MEMORY));
    memcpy((char *)data + (size_t)t->first_latent * row_bytes(p), p->data, (size_t)t->n_latents * row_bytes(p));
    *whole = data;
    return gather_latents((mw_trainer *)(uintptr_t)t, data, row_bytes(p));
}

typedef struct number {
    const char *name;
    double value;
    char text[32];
} number;

enum { NUMBERS = 6 };

static void list_numbers(const mw_trainer *t, number out[NUMBERS]) {
    number all[NUMBERS] = {
        {"step", (double)t->step, ""},  {"loss_scale", t->loss_scale, ""}, {"threshold", (double)t->sae->threshold, ""},
        {"smooth_loss", t->smooth, ""}, {"best_loss", t->best, ""},        {"best_step", (double)t->best_step, ""}};
    for (int i = 0; i < NUMBERS; i++) snprintf(all[i].text, sizeof all[i].text, "%.17g", all[i].value);
    memcpy(out, all, sizeof all);
}

/* Of all pieces and numbers in order. */
typedef struct chain {
    uint64_t sum;
    char text[24];
} chain;

static void add_to_chain(chain *c, const void *data, size_t bytes) {
    uint64_t link[2] = {c->sum, mw_xxh64(data, bytes)};
    c->sum = mw_xxh64(link, sizeof link);
    snprintf(c->text, sizeof c->text, "%016llx", (unsigned long long)c->sum);
}

static mw_status write_pieces(const mw_trainer *t, const char *path, const piece *pieces, int count,
                              void *const *whole) {
    mw_named_tensor tensors[PIECES_MAX];
    number numbers[NUMBERS];
    chain checksum = {0};
    const char *metadata[2 * NUMBERS + 5] = {"fingerprint", t->options.fingerprint ? t->options.fingerprint : "",
                                             "checksum", checksum.text};
    for (int i = 0; i < count; i++) {
        void *data = whole[i] ? whole[i] : pieces[i].data;
        add_to_chain(&checksum, data, (size_t)pieces[i].rows * row_bytes(&pieces[i]));
        tensors[i] = (mw_named_tensor){
            pieces[i].name, pieces[i].columns ? mw_tensor_2d(pieces[i].dtype, data, pieces[i].rows, pieces[i].columns)
                                              : mw_tensor_1d(pieces[i].dtype, data, pieces[i].rows)};
    }
    list_numbers(t, numbers);
    for (int i = 0; i < NUMBERS; i++) {
        metadata[2 * i + 4] = numbers[i].name;
        metadata[2 * i + 5] = numbers[i].text;
        add_to_chain(&checksum, numbers[i].text, strlen(numbers[i].text));
    }
    return mw_safetensors_write(path, tensors, count, metadata);
}

mw_status mw_trainer_save(const mw_trainer *t, const char *path) {
    piece pieces[PIECES_MAX];
    void *whole[PIECES_MAX] = {0};
    int count = list_pieces(t, pieces);
    mw_status status = MW_OK;
    for (int i = 0; i < count && status == MW_OK; i++)
        if (pieces[i].shared) status = gather_piece(t, &pieces[i], &whole[i]);
    if (status == MW_OK)
        status =
            mw_comm_agree(t->comm, mw_comm_rank(t->comm) == 0 ? write_pieces(t, path, pieces, count, whole) : MW_OK);
    for (int i = 0; i < count; i++) mw_free(whole[i]);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

static mw_status find_piece(const mw_safetensors *file, const char *path, const piece *p, mw_tensor *out) {
    bool fits = mw_safetensors_find(file, p->name, out) && out->dtype == p->dtype &&
                out->ndim == (p->columns ? 2 : 1) && out->shape[0] == p->rows &&
                (!p->columns || out->shape[1] == p->columns);
    return fits ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: tensor '%s' is missing or of another shape", path, p->name);
}

static void copy_piece(const mw_trainer *t, const piece *p, const void *from) {
    size_t row = row_bytes(p);
    if (p->shared)
        memcpy(p->data, (const char *)from + (size_t)t->first_latent * row, (size_t)t->n_latents * row);
    else
        memcpy(p->data, from, (size_t)p->rows * row);
}

static mw_status parse_numbers(const mw_trainer *t, const mw_safetensors *file, const char *path,
                               number numbers[NUMBERS]) {
    list_numbers(t, numbers);
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = mw_safetensors_metadata(file, numbers[i].name);
        if (!text || !mw_parse_double(text, &numbers[i].value))
            return mw_error(MW_ERR_FORMAT, "%s: %s is missing or no number", path, numbers[i].name);
    }
    for (int i = 0; i < NUMBERS; i += NUMBERS - 1) /* the steps */
        if (!(numbers[i].value >= 0 && numbers[i].value < 9e15))
            return mw_error(MW_ERR_FORMAT, "%s: %s is %g", path, numbers[i].name, numbers[i].value);
    return MW_OK;
}

/* Everything that can be wrong is found before anything is changed. */
static mw_status check_pieces(const mw_trainer *t, const mw_safetensors *file, const char *path, const piece *pieces,
                              int count) {
    chain found = {0};
    number numbers[NUMBERS];
    const char *mark = mw_safetensors_metadata(file, "fingerprint"), *sum = mw_safetensors_metadata(file, "checksum");
    if (t->options.fingerprint && (!mark || strcmp(mark, t->options.fingerprint) != 0))
        return mw_error(MW_ERR_STATE, "%s: a checkpoint of other data or settings", path);
    for (int i = 0; i < count; i++) {
        mw_tensor tensor;
        MW_TRY(find_piece(file, path, &pieces[i], &tensor));
        add_to_chain(&found, tensor.data, (size_t)pieces[i].rows * row_bytes(&pieces[i]));
    }
    list_numbers(t, numbers);
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = mw_safetensors_metadata(file, numbers[i].name);
        if (text) add_to_chain(&found, text, strlen(text));
    }
    if (!sum || strcmp(sum, found.text) != 0)
        return mw_error(MW_ERR_FORMAT, "%s: the checksum does not match: expected %s, found %s", path,
                        sum ? sum : "one", found.text);
    return MW_OK;
}

static mw_status check_file(const mw_trainer *t, const mw_safetensors *file, const char *path,
                            number numbers[NUMBERS]) {
    piece pieces[PIECES_MAX];
    MW_TRY(check_pieces(t, file, path, pieces, list_pieces(t, pieces)));
    return parse_numbers(t, file, path, numbers);
}

static void take_file(mw_trainer *t, const mw_safetensors *file, const number numbers[NUMBERS]) {
    piece pieces[PIECES_MAX];
    int count = list_pieces(t, pieces);
    for (int i = 0; i < count; i++) {
        mw_tensor tensor;
        if (mw_safetensors_find(file, pieces[i].name, &tensor)) copy_piece(t, &pieces[i], tensor.data);
    }
    t->step = (int64_t)numbers[0].value;
    t->loss_scale = numbers[1].value;
    t->sae->threshold = (float)numbers[2].value;
    t->smooth = numbers[3].value;
    t->best = numbers[4].value;
    t->best_step = (int64_t)numbers[5].value;
}

mw_status mw_trainer_load(mw_trainer *t, const char *path) {
    mw_safetensors *file = NULL;
    number numbers[NUMBERS];
    mw_status status = mw_safetensors_open(path, &file);
    if (status == MW_OK) status = check_file(t, file, path, numbers);
    status = mw_comm_agree(t->comm, status);
    if (status == MW_OK) take_file(t, file, numbers);
    mw_safetensors_free(&file);
    return status;
}
