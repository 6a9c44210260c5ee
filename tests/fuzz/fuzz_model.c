/* Fuzzes config.json: the first byte chooses a model's weights, the rest is its config.json. A model that opens runs a
 * short sequence. */
#include "fuzz.h"
#include "microw/model.h"

#include <stdio.h>
#include <sys/stat.h>

static const char *const models[] = {"gpt2",
                                     "gpt_neo",
                                     "gpt_neox",
                                     "llama3",
                                     "qwen3",
                                     "gemma2",
                                     "gemma3",
                                     "apertus",
                                     "bloom",
                                     "codegen",
                                     "cohere",
                                     "falcon_new",
                                     "hunyuan_v1_dense",
                                     "hyperclovax",
                                     "mistral3",
                                     "mpt",
                                     "nanochat",
                                     "olmo3",
                                     "opt_norms_last",
                                     "phi3_long",
                                     "smollm3",
                                     "stablelm_parallel",
                                     "xglm"};
enum { MODELS = sizeof models / sizeof *models };

static mw_backend *backend;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    fuzz_need(mw_backend_open("cpu", &backend) == MW_OK, "no backend");
    for (int i = 0; i < MODELS; i++) {
        char from[512], to[96];
        mkdir(fuzz_path(models[i]), 0700);
        snprintf(from, sizeof from, "%s/models/%s/model.safetensors", MICROW_GOLDEN, models[i]);
        snprintf(to, sizeof to, "%s/model.safetensors", models[i]);
        fuzz_copy(from, to);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int32_t ids[] = {1, 2, 3, 0, 5};
    static const int64_t length = 5;
    char name[96];
    if (size == 0) return 0;
    const char *folder = models[data[0] % MODELS];
    snprintf(name, sizeof name, "%s/config.json", folder);
    fuzz_write(name, data + 1, size - 1);
    fuzz_begin();
    mw_model *model = NULL;
    if (mw_model_open(fuzz_path(folder), "auto", backend, &model) == MW_OK) {
        float *logits = mw_alloc((size_t)mw_model_about(model)->vocab * sizeof *logits);
        fuzz_need(logits != NULL, "no memory for logits");
        mw_status status = mw_model_forward(model, &(mw_batch){.n_seq = 1, .ids = ids, .length = &length}, logits);
        mw_free(logits);
        (void)status; /* fails for a valid model whose context is shorter */
    }
    mw_model_free(&model);
    fuzz_end();
    return 0;
}
