/* Input files with seeded damage: any status, but no crash, hang or leak, and no read out of bounds (which the debug
 * preset detects). */
#include "microw/concepts.h"
#include "microw/dataset.h"
#include "microw/experiment.h"
#include "microw/safetensors.h"
#include "test.h"

#include <unistd.h>

static mw_backend *backend;
static mw_comm *self;
static mw_tokenizer *words;
static char folder[] = "/tmp/microw-damage-XXXXXX";

static mw_status open_tokenizer(const char *path) {
    mw_tokenizer *t = NULL;
    mw_ids ids = {0};
    mw_text text = {0};
    mw_status status = mw_tokenizer_open(path, &t);
    if (status == MW_OK) status = mw_tokenizer_encode(t, "Once upon a time \xff\xe2\x82\xac 12", 24, &ids);
    if (status == MW_OK) status = mw_tokenizer_decode(t, ids.data, ids.count, &text);
    mw_ids_free(&ids);
    mw_text_free(&text);
    mw_tokenizer_free(&t);
    return status;
}

/* `path`: a config.json beside the weights. */
static mw_status open_model(const char *path) {
    mw_model *m = NULL;
    char *directory = mw_path_directory(path);
    float logits[61 * 4];
    int32_t ids[3] = {1, 2, 3};
    int64_t length = 3;
    mw_batch batch = {.n_seq = 1, .ids = ids, .length = &length};
    mw_status status = mw_model_open(directory, "f32", backend, &m);
    if (status == MW_OK) status = mw_model_forward(m, &batch, logits);
    mw_model_free(&m);
    mw_free(directory);
    return status;
}

/* Reads every tensor to its last byte. */
static mw_status open_weights(const char *path) {
    mw_safetensors *file = NULL;
    MW_TRY(mw_safetensors_open(path, &file));
    for (int64_t i = 0; i < mw_safetensors_count(file); i++) {
        mw_tensor t;
        if (!mw_safetensors_find(file, mw_safetensors_name(file, i), &t)) continue;
        volatile uint64_t sum = mw_xxh64(t.data, (size_t)mw_tensor_count(&t) * mw_dtype_size(t.dtype));
        (void)sum;
    }
    mw_safetensors_free(&file);
    return MW_OK;
}

static mw_status open_sae(const char *path) {
    mw_sae *sae = NULL;
    char *directory = mw_path_directory(path);
    mw_status status = mw_sae_load(directory, backend, &sae);
    mw_sae_free(&sae);
    mw_free(directory);
    return status;
}

static mw_status open_experiment(const char *path) {
    mw_experiment *e = NULL;
    mw_text text = {0};
    mw_status status = mw_experiment_load(path, NULL, 0, &e);
    if (status == MW_OK) status = mw_experiment_describe(e, true, &text);
    mw_text_free(&text);
    mw_experiment_free(&e);
    return status;
}

static mw_status open_dataset(const char *path) {
    mw_dataset *d = NULL;
    mw_dataset_options o = {.paths = &path, .n_paths = 1, .text_field = "text", .context = 16, .pack = true};
    mw_status status = mw_dataset_load(&o, words, self, &d);
    mw_dataset_free(&d);
    return status;
}

static mw_status open_names(const char *path) {
    mw_names n;
    if (mw_names_new(50, &n) != MW_OK) return MW_ERR_MEMORY;
    mw_status status = mw_names_load(path, MW_NAMES_AUTO, NULL, &n);
    mw_names_free(&n);
    return status;
}

/* Overwrites or removes bytes, or truncates; writes mostly digits and punctuation, which matter most. Returns the
 * length. */
static size_t damage(char *bytes, size_t length, uint64_t trial) {
    static const char characters[] = "0123456789-\"{}[]:,\\ \n\t.eE\xff\xe2";
    uint32_t r[4];
    mw_philox(17, trial, 0, r);
    int edits = 1 + (int)(r[0] % 4);
    for (int i = 0; i < edits && length > 1; i++) {
        mw_philox(17, trial, (uint64_t)i + 1, r);
        size_t at = ((uint64_t)r[0] << 16 ^ r[1]) % length, n = r[3] % 16;
        if (r[2] % 8 == 0) {
            length = at + 1;
        } else if (r[2] % 8 == 1 && at + n < length) {
            memmove(bytes + at, bytes + at + n, length - at - n);
            length -= n;
        } else if (r[2] % 8 == 2) {
            bytes[at] = (char)r[3];
        } else {
            bytes[at] = characters[r[3] % (sizeof characters - 1)];
        }
    }
    return length;
}

/* Copies `source` to `name` in the work folder and damages the copy `trials` times. */
static void damage_file(const char *source, const char *name, mw_status (*open_it)(const char *), int trials) {
    char path[256], *original, *bytes;
    size_t length;
    int fine = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    NEED_OK(mw_file_read(source, &original, &length));
    NEED(bytes = mw_alloc(length + 1));
    NEED_OK(mw_file_write_atomic(path, original, length));
    CHECK_OK(open_it(path)); /* valid before damage */
    mw_log_quiet(true);
    for (int trial = 0; trial < trials; trial++) {
        memcpy(bytes, original, length);
        size_t left = damage(bytes, length, (uint64_t)trial);
        NEED_OK(mw_file_write_atomic(path, bytes, left));
        fine += open_it(path) == MW_OK;
        CHECK(mw_alloc_balance() < 1000000);
    }
    mw_log_quiet(false);
    printf("%s: %d of %d damaged files were read\n", name, fine, trials);
    NEED_OK(mw_file_write_atomic(path, original, length));
    mw_free(original);
    mw_free(bytes);
}

static void put(const char *name, const void *data, size_t length) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    NEED_OK(mw_file_write_atomic(path, data, length));
}

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void tokenizers(void) {
    damage_file(MICROW_GOLDEN "/tokenizers/gpt2.json", "byte_level.json", open_tokenizer, 300);
    damage_file(MICROW_GOLDEN "/tokenizers/llama2.json", "sentencepiece.json", open_tokenizer, 300);
}

static void models(void) {
    char command[512];
    snprintf(command, sizeof command, "cp %s/models/gemma3/model.safetensors %s/", MICROW_GOLDEN, folder);
    NEED(system(command) == 0);
    damage_file(MICROW_GOLDEN "/models/gemma3/config.json", "config.json", open_model, 400);
    char *bytes;
    size_t length;
    NEED_OK(mw_file_read(MICROW_GOLDEN "/models/gemma3/model.safetensors", &bytes, &length));
    for (uint64_t trial = 0; trial < 300; trial++) { /* damage in the header */
        uint32_t r[4];
        mw_philox(23, 0, trial, r);
        char kept = bytes[r[0] % 4000];
        bytes[r[0] % 4000] = (char)(r[1] % 3 ? '0' + r[2] % 10 : r[2]);
        put("model.safetensors", bytes, trial % 10 ? length : r[3] % length);
        mw_log_quiet(true);
        mw_status status = open_model(in_folder("config.json"));
        mw_log_quiet(false);
        CHECK(status <= MW_ERR_BACKEND);
        bytes[r[0] % 4000] = kept;
    }
    mw_free(bytes);
}

static void weights_of_torch(void) {
    damage_file(MICROW_GOLDEN "/torch/tensors.bin", "tensors.bin", open_weights, 600);
    damage_file(MICROW_GOLDEN "/torch/tensors_old.bin", "tensors_old.bin", open_weights, 600);
    damage_file(MICROW_GOLDEN "/torch/llama/pytorch_model-00002-of-00002.bin", "parameters.bin", open_weights, 300);
}

static void models_in_8_bits(void) {
    char command[512];
    snprintf(command, sizeof command, "cp %s/fp8/qwen3/model.safetensors %s/", MICROW_GOLDEN, folder);
    NEED(system(command) == 0);
    damage_file(MICROW_GOLDEN "/fp8/qwen3/config.json", "config.json", open_model, 400);
}

static void copy_of(const char *name, char *source, size_t size) {
    char command[600];
    snprintf(source, size, "%s.%s", folder, name);
    snprintf(command, sizeof command, "cp %s/%s %s", folder, name, source);
    NEED(system(command) == 0);
}

/* Configuration and weights of several SAE variants. */
static void saes(void) {
    static const int64_t groups[] = {8, 12}, parts[] = {2, 4};
    const mw_sae_shape shapes[] = {
        {.n = 20, .d = 6, .k = 3},
        {.variant = MW_MATRYOSHKA_BATCH_TOPK, .n = 20, .d = 6, .k = 3, .n_groups = 2, .group = groups},
        {.variant = MW_JUMP_RELU, .n = 20, .d = 6, .d_out = 4, .skip = true},
        {.variant = MW_GATED, .n = 20, .d = 6, .n_targets = 2, .target_width = parts}};
    char source[256];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        mw_sae *sae = NULL;
        NEED_OK(mw_sae_new(backend, &shapes[i], &sae));
        NEED_OK(mw_sae_save(sae, folder));
        mw_sae_free(&sae);
        copy_of("cfg.json", source, sizeof source);
        damage_file(source, "cfg.json", open_sae, 300);
        NEED(rename(source, in_folder("cfg.json")) == 0);
        copy_of("sae.safetensors", source, sizeof source);
        damage_file(source, "sae.safetensors", open_sae, 200);
        unlink(source);
    }
}

static mw_status open_checkpoint(const char *path) {
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    mw_train_options options = {.batch = 8, .steps = 9, .ema = 0.5, .eps = 1e-8}; /* 0 / 0 is not saved */
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.variant = MW_GATED, .n = 20, .d = 6}, &sae));
    NEED_OK(mw_trainer_new(sae, self, &options, 1, &t));
    mw_status status = mw_trainer_load(t, path);
    CHECK((mw_trainer_steps_done(t) == 0) == (status != MW_OK)); /* a damaged checkpoint changes nothing */
    mw_trainer_free(&t);
    mw_sae_free(&sae);
    return status;
}

static void checkpoints(void) {
    mw_sae *sae = NULL;
    mw_trainer *t = NULL;
    float x[8 * 6] = {1, 2, 3, 4};
    char source[256];
    mw_train_options options = {.batch = 8, .steps = 9, .ema = 0.5, .eps = 1e-8}; /* 0 / 0 is not saved */
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.variant = MW_GATED, .n = 20, .d = 6}, &sae));
    NEED_OK(mw_trainer_new(sae, self, &options, 1, &t));
    NEED_OK(mw_trainer_step(t, x, NULL, NULL));
    snprintf(source, sizeof source, "%s.checkpoint", folder);
    NEED_OK(mw_trainer_save(t, source));
    CHECK_OK(open_checkpoint(source));
    damage_file(source, "checkpoint.safetensors", open_checkpoint, 600);
    mw_trainer_free(&t);
    mw_sae_free(&sae);
    unlink(source);
}

static void names(void) {
    put("source.csv", "latent,name\n3,\"a, \"\"b\"\"\"\n4,c\n", 29);
    damage_file(in_folder("source.csv"), "names.csv", open_names, 400);
    put("source.json", "{\"3\": \"a\", \"4\": \"\\u00e9\"}", 25);
    damage_file(in_folder("source.json"), "names.json", open_names, 400);
}

static void experiments(void) {
    damage_file(MICROW_SOURCE "/configs/quickstart.yaml", "exp.yaml", open_experiment, 600);
    damage_file(MICROW_SOURCE "/configs/reference.yaml", "ref.yaml", open_experiment, 300);
}

static void datasets(void) {
    static const char jsonl[] =
        "{\"text\": \"a b\", \"n\": 1}\n\"c\"\n{\"id\": [1, {}], \"text\": \"\\ud83d\\ude00 d\"}\n";
    char npy[200] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }";
    memset(npy + 10 + 56, ' ', 118 - 56);
    put("source.jsonl", jsonl, sizeof jsonl - 1);
    damage_file(in_folder("source.jsonl"), "data.jsonl", open_dataset, 400);
    put("source2.json", "[\"a\", {\"text\": \"b\"}]", 20);
    damage_file(in_folder("source2.json"), "data.json", open_dataset, 300);
    put("source.npy", npy, 10 + 118 + 12);
    damage_file(in_folder("source.npy"), "data.npy", open_dataset, 600);
}

int main(void) {
    NEED(mkdtemp(folder) != NULL);
    mw_log_setup(0, 1, MW_LOG_ERROR);
    NEED_OK(mw_backend_open("cpu", &backend));
    NEED_OK(mw_comm_self(&self));
    NEED_OK(mw_tokenizer_open(MICROW_GOLDEN "/tokenizers/gpt2.json", &words));
    RUN(tokenizers);
    RUN(models);
    RUN(models_in_8_bits);
    RUN(weights_of_torch);
    RUN(saes);
    RUN(checkpoints);
    RUN(names);
    RUN(experiments);
    RUN(datasets);
    mw_tokenizer_free(&words);
    mw_comm_free(&self);
    mw_backend_close(&backend);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
