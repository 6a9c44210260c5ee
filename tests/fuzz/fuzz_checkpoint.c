/* Fuzzes checkpoints of a small trainer: loading either fails and changes nothing, or gives a trainer that makes
 * steps. */
#include "fuzz.h"
#include "microw/sae.h"

#include <string.h>

enum { N = 12, D = 4, BATCH = 8 };

static mw_comm *comm;
static mw_backend *backend;
static mw_sae *sae;
static mw_trainer *trainer;
static float x[BATCH * D];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    static const mw_sae_shape shape = {.variant = MW_BATCH_TOPK, .n = N, .d = D, .k = 2};
    const mw_train_options options = {.batch = BATCH,
                                      .steps = 100,
                                      .lr = 1e-3,
                                      .lr_w_dec = 1,
                                      .lr_b_enc = 1,
                                      .lr_b_dec = 1,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .eps = 1e-8,
                                      .aux_k = 2,
                                      .dead_after = 10,
                                      .ema = 0.9,
                                      .init_rows = BATCH,
                                      .fingerprint = "abc"};
    for (int i = 0; i < BATCH * D; i++) x[i] = mw_rng_normal(1, 0, (uint64_t)i);
    fuzz_need(mw_comm_self(&comm) == MW_OK && mw_backend_open("cpu", &backend) == MW_OK, "no backend");
    fuzz_need(mw_sae_new(backend, &shape, &sae) == MW_OK, "no SAE");
    fuzz_need(mw_sae_initialize(sae, x, NULL, BATCH, &options) == MW_OK, "not initialized");
    fuzz_need(mw_trainer_new(sae, comm, &options, 1, &trainer) == MW_OK, "no trainer");
    fuzz_need(mw_trainer_step(trainer, x, NULL, NULL) == MW_OK, "no step");
    fuzz_need(mw_trainer_save(trainer, fuzz_path("good.safetensors")) == MW_OK, "not saved");
    return 0;
}

/* A file that was not taken left all as it was. */
static void unchanged(void) {
    char *now = NULL, *good = NULL;
    size_t length = 0, other = 0;
    fuzz_need(mw_trainer_save(trainer, fuzz_path("now.safetensors")) == MW_OK, "not saved");
    fuzz_need(mw_file_read(fuzz_path("now.safetensors"), &now, &length) == MW_OK, "not read");
    fuzz_need(mw_file_read(fuzz_path("good.safetensors"), &good, &other) == MW_OK, "not read");
    fuzz_need(length == other && memcmp(now, good, length) == 0, "a refused checkpoint changed the trainer");
    mw_free(now);
    mw_free(good);
}

/* 255 and then a whole file; or edits of the good one, three bytes each: place, place, value. One byte more than whole
 * edits cuts the file short by that much. */
static size_t build(const uint8_t *data, size_t size, char *file, size_t length) {
    if (size && data[0] == 255) {
        size_t take = size - 1 < length ? size - 1 : length;
        memcpy(file, data + 1, take);
        return take;
    }
    for (size_t at = 0; at + 3 <= size; at += 3) file[(data[at] * 256u + data[at + 1]) % length] = (char)data[at + 2];
    return size % 3 == 1 ? length - data[size - 1] % length : length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *file = NULL;
    size_t length = 0;
    fuzz_need(mw_file_read(fuzz_path("good.safetensors"), &file, &length) == MW_OK, "not read");
    size_t made = build(data, size, file, length);
    fuzz_write("checkpoint.safetensors", file, made);
    mw_free(file);
    fuzz_begin();
    mw_checkpoint_info info;
    mw_status looked_at = mw_checkpoint_read(fuzz_path("checkpoint.safetensors"), &info);
    mw_status loaded = mw_trainer_load(trainer, fuzz_path("checkpoint.safetensors"));
    fuzz_end();
    fuzz_need(loaded != MW_OK || looked_at == MW_OK, "what is loaded cannot be looked at");
    if (loaded == MW_OK) {
        mw_status status = mw_trainer_step(trainer, x, NULL, NULL);
        fuzz_need(status == MW_OK, "a checkpoint that was taken does not go on");
        fuzz_need(mw_trainer_load(trainer, fuzz_path("good.safetensors")) == MW_OK, "the good one is not taken again");
    } else {
        unchanged();
    }
    return 0;
}
