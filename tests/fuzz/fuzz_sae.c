/* Fuzzes cfg.json of SAEs: the first byte chooses weights, of microw or of another library; the rest is the file. */
#include "fuzz.h"
#include "microw/sae.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct kind {
    const char *folder, *format, *weights; /* format NULL: microw's own */
} kind;

static const kind kinds[] = {
    {"own-topk", NULL, NULL},
    {"own-matryoshka", NULL, NULL},
    {"own-skip", NULL, NULL},
    {"saelens", "saelens", "sae_weights.safetensors"},
    {"saelens-gated", "saelens", "sae_weights.safetensors"},
    {"saelens-jumprelu-transcoder", "saelens", "sae_weights.safetensors"},
    {"sparsify", "sparsify", "sae.safetensors"},
    {"sparsify-skip", "sparsify", "sae.safetensors"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static mw_backend *backend;

static void make_own(const char *folder, const mw_sae_shape *shape) {
    mw_sae *sae = NULL;
    fuzz_need(mw_sae_new(backend, shape, &sae) == MW_OK, "no SAE");
    for (int64_t i = 0; i < sae->n * sae->d; i++) sae->w_enc[i] = mw_rng_normal(1, 0, (uint64_t)i);
    fuzz_need(mw_sae_save(sae, fuzz_path(folder)) == MW_OK, "not saved");
    mw_sae_free(&sae);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    fuzz_need(mw_backend_open("cpu", &backend) == MW_OK, "no backend");
    make_own("own-topk", &(mw_sae_shape){.variant = MW_TOPK, .n = 32, .d = 8, .k = 3});
    make_own("own-matryoshka", &(mw_sae_shape){.variant = MW_MATRYOSHKA_BATCH_TOPK, .n = 32, .d = 8, .k = 3});
    make_own("own-skip", &(mw_sae_shape){.variant = MW_JUMP_RELU, .n = 32, .d = 8, .d_out = 6, .skip = true});
    for (int i = 0; i < KINDS; i++) {
        char from[512], to[160];
        if (!kinds[i].format) continue;
        mkdir(fuzz_path(kinds[i].folder), 0700);
        snprintf(from, sizeof from, "%s/foreign/%s/%s", MICROW_GOLDEN, kinds[i].folder, kinds[i].weights);
        snprintf(to, sizeof to, "%s/%s", kinds[i].folder, kinds[i].weights);
        fuzz_copy(from, to);
    }
    return 0;
}

static void use(const mw_sae *sae) {
    mw_codes codes = {0};
    float *x = mw_calloc((size_t)(2 * sae->d), sizeof *x), *out = mw_calloc((size_t)(2 * sae->d_out), sizeof *out);
    mw_text text = {0};
    for (int64_t i = 0; x && i < 2 * sae->d; i++) x[i] = mw_rng_normal(2, 0, (uint64_t)i);
    mw_status status = x && out ? mw_sae_encode(sae, x, 2, &codes) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_sae_decode(sae, &codes, x, out);
    if (status == MW_OK) status = mw_sae_describe(sae, &text);
    mw_codes_free(&codes);
    mw_text_free(&text);
    mw_free(x);
    mw_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char name[96];
    if (size == 0) return 0;
    const kind *k = &kinds[data[0] % KINDS];
    snprintf(name, sizeof name, "%s/cfg.json", k->folder);
    fuzz_write(name, data + 1, size - 1);
    fuzz_begin();
    mw_sae *sae = NULL;
    const char *folder = fuzz_path(k->folder);
    mw_status status = k->format ? mw_sae_import(k->format, folder, backend, &sae) : mw_sae_load(folder, backend, &sae);
    if (status == MW_OK) use(sae);
    mw_sae_free(&sae);
    fuzz_end();
    return 0;
}
