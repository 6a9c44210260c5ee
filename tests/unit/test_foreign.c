/* SAEs written by SAELens and sparsify (fixtures of tools/check_exports.py) give the codes and reconstructions that
 * those libraries computed; exported and imported SAEs are equal; unsupported settings are refused by name. */
#include "microw/safetensors.h"
#include "microw/sae.h"
#include "test.h"

static mw_backend *backend;
static char folder[] = "/tmp/microw-foreign-XXXXXX";

static const struct {
    const char *name, *format;
    mw_variant variant;
    bool transcoder, skip;
} fixtures[] = {
    {"saelens", "saelens", MW_TOPK, false, false},
    {"saelens-no-b-dec", "saelens", MW_TOPK, false, false},
    {"saelens-rescaled", "saelens", MW_TOPK, false, false},
    {"saelens-standard", "saelens", MW_RELU, false, false},
    {"saelens-jumprelu", "saelens", MW_JUMP_RELU, false, false},
    {"saelens-gated", "saelens", MW_GATED, false, false},
    {"saelens-gated-no-b-dec", "saelens", MW_GATED, false, false},
    {"saelens-transcoder", "saelens", MW_RELU, true, false},
    {"saelens-skip-transcoder", "saelens", MW_RELU, true, true},
    {"saelens-jumprelu-transcoder", "saelens", MW_JUMP_RELU, true, false},
    {"saelens-jumprelu-skip", "saelens", MW_JUMP_RELU, true, true},
    {"sparsify", "sparsify", MW_TOPK, false, false},
    {"sparsify-transcoder", "sparsify", MW_TOPK, true, false},
    {"sparsify-skip", "sparsify", MW_TOPK, true, true},
};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures };

/* `from`: a folder whose SAE is that of the fixture `name`. */
static void check_import(const char *from, const char *name, const char *format) {
    char path[256];
    mw_sae *sae = NULL;
    mw_safetensors *golden = NULL;
    mw_tensor x, z, x_hat;
    NEED_OK(mw_sae_import(format, from, backend, &sae));
    snprintf(path, sizeof path, MICROW_GOLDEN "/foreign/%s/golden.safetensors", name);
    NEED_OK(mw_safetensors_open(path, &golden));
    NEED(mw_safetensors_find(golden, "x", &x) && mw_safetensors_find(golden, "z", &z) &&
         mw_safetensors_find(golden, "x_hat", &x_hat));
    int64_t rows = x.shape[0], n = z.shape[1], d = x_hat.shape[1];
    CHECK(sae->n == n && sae->d == x.shape[1] && sae->d_out == d);
    mw_codes codes = {0};
    float *out = mw_alloc((size_t)(rows * d) * 4), *dense = mw_calloc((size_t)(rows * n), 4);
    CHECK_OK(mw_sae_encode(sae, x.data, rows, &codes));
    CHECK_OK(mw_sae_decode(sae, &codes, x.data, out));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = codes.start[r]; j < codes.start[r + 1]; j++) dense[r * n + codes.index[j]] = codes.value[j];
    CHECK(relative_error(dense, z.data, rows * n) < 1e-5);
    CHECK(relative_error(out, x_hat.data, rows * d) < 1e-5);
    if (strcmp(format, "saelens") == 0)
        CHECK(strcmp(sae->site, "3.resid_post") == 0 && strcmp(sae->model, "tiny") == 0);
    mw_codes_free(&codes);
    mw_free(out);
    mw_free(dense);
    mw_safetensors_free(&golden);
    mw_sae_free(&sae);
}

static void imports(void) {
    for (int i = 0; i < FIXTURES; i++) {
        char path[256];
        snprintf(path, sizeof path, MICROW_GOLDEN "/foreign/%s", fixtures[i].name);
        check_import(path, fixtures[i].name, fixtures[i].format);
    }
}

static bool same(const float *a, const float *b, int64_t count) {
    return (!a && !b) || (a && b && memcmp(a, b, (size_t)count * sizeof *a) == 0);
}

static void check_round_trip(const mw_sae *sae, const char *format) {
    mw_sae *again = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, format);
    CHECK_OK(mw_sae_export(sae, format, path));
    NEED_OK(mw_sae_import(format, path, backend, &again));
    CHECK(again->variant == sae->variant && again->k == sae->k && again->transcoder == sae->transcoder);
    CHECK(same(again->w_enc, sae->w_enc, sae->n * sae->d) && same(again->w_dec, sae->w_dec, sae->n * sae->d_out));
    CHECK(same(again->b_enc, sae->b_enc, sae->n) && same(again->b_dec, sae->b_dec, sae->d_out));
    CHECK(same(again->extra[0], sae->extra[0], sae->n) && same(again->extra[1], sae->extra[1], sae->n));
    CHECK(same(again->w_skip, sae->w_skip, sae->d_out * sae->d));
    CHECK(strcmp(format, "saelens") != 0 || strcmp(again->site, sae->site) == 0);
    mw_sae_free(&again);
}

static void exports_are_imported_again(void) {
    for (int i = 0; i < FIXTURES; i++) {
        mw_sae *sae = NULL;
        char path[256];
        snprintf(path, sizeof path, MICROW_GOLDEN "/foreign/%s", fixtures[i].name);
        NEED_OK(mw_sae_import(fixtures[i].format, path, backend, &sae));
        CHECK(sae->variant == fixtures[i].variant && sae->transcoder == fixtures[i].transcoder);
        CHECK((sae->w_skip != NULL) == fixtures[i].skip);
        bool top = sae->variant == MW_TOPK, plain = !sae->transcoder;
        if (plain || !top) check_round_trip(sae, "saelens");
        if (top) check_round_trip(sae, "sparsify");
        mw_log_quiet(true);
        snprintf(path, sizeof path, "%s/refused", folder);
        if (!plain) CHECK(mw_sae_export(sae, "dictionary_learning", path) == MW_ERR_UNSUPPORTED);
        if (!plain && top) CHECK(mw_sae_export(sae, "saelens", path) == MW_ERR_UNSUPPORTED);
        if (!top) CHECK(mw_sae_export(sae, "sparsify", path) == MW_ERR_UNSUPPORTED);
        mw_log_quiet(false);
        mw_sae_free(&sae);
    }
}

/* ae.pt is a zip with raw storages at multiples of 64 bytes; torch itself reads it in tools/check_exports.py. */
static void torch_file(void) {
    mw_sae *sae = NULL;
    char path[128];
    char *bytes;
    size_t length;
    NEED_OK(mw_sae_import("sparsify", MICROW_GOLDEN "/foreign/sparsify", backend, &sae));
    snprintf(path, sizeof path, "%s/dictionary", folder);
    CHECK_OK(mw_sae_export(sae, "dictionary_learning", path));
    snprintf(path, sizeof path, "%s/dictionary/ae.pt", folder);
    NEED_OK(mw_file_read(path, &bytes, &length));
    CHECK(length > 22 && memcmp(bytes, "PK\3\4", 4) == 0 && memcmp(bytes + length - 22, "PK\5\6", 4) == 0);
    bool found = false;
    size_t size = (size_t)(sae->n * sae->d) * 4;
    for (size_t at = 0; at + size <= length; at += 64) found = found || memcmp(bytes + at, sae->w_enc, size) == 0;
    CHECK(found);
    mw_free(bytes);
    mw_sae_free(&sae);
}

static mw_status import_edited(const char *name, const char *format, const char *sed) {
    char path[160], command[1024];
    snprintf(path, sizeof path, "%s/edited", folder);
    snprintf(command, sizeof command, "rm -rf %s && cp -r %s/foreign/%s %s && cd %s && sed -i '%s' cfg.json", path,
             MICROW_GOLDEN, name, path, path, sed);
    NEED(system(command) == 0);
    mw_sae *sae = NULL;
    mw_log_quiet(true);
    mw_status status = mw_sae_import(format, path, backend, &sae);
    mw_log_quiet(false);
    mw_sae_free(&sae);
    return status;
}

/* cfg.json of SAELens before version 6, as sae-lens 6.54 reads it: `selection` says how it names TopK. */
static void check_old_saelens(const char *selection, const char *normalize, mw_status status) {
    char path[160], command[1024];
    snprintf(path, sizeof path, "%s/edited", folder);
    snprintf(command, sizeof command,
             "rm -rf %s && cp -r %s/foreign/saelens %s && echo '{\"d_in\": 12, \"d_sae\": 40, %s, \"hook_point\": "
             "\"blocks.3.hook_resid_post\", \"model_name\": \"tiny\", \"normalize_activations\": %s}' > %s/cfg.json",
             path, MICROW_GOLDEN, path, selection, normalize, path);
    NEED(system(command) == 0);
    if (status == MW_OK) {
        check_import(path, "saelens", "saelens");
        return;
    }
    mw_sae *sae = NULL;
    mw_log_quiet(true);
    CHECK(mw_sae_import("saelens", path, backend, &sae) == status);
    mw_log_quiet(false);
    mw_sae_free(&sae);
}

static void old_saelens(void) {
#define TOPK "\"activation_fn_str\": \"topk\", \"activation_fn_kwargs\": {\"k\": 4}"
    check_old_saelens("\"architecture\": \"standard\", " TOPK, "false", MW_OK);
    check_old_saelens("\"architecture\": \"topk\", " TOPK, "false", MW_OK);
    check_old_saelens(TOPK, "false", MW_OK);
    check_old_saelens(TOPK ", \"finetuning_scaling_factor\": true", "false", MW_ERR_UNSUPPORTED);
    check_old_saelens(TOPK, "true", MW_ERR_UNSUPPORTED);
    check_old_saelens("\"activation_fn_str\": \"topk\"", "false", MW_ERR_UNSUPPORTED);
    check_old_saelens("\"activation_fn_str\": \"tanh-relu\"", "false", MW_ERR_UNSUPPORTED);
#undef TOPK
}

static void refusals(void) {
    CHECK(import_edited("saelens", "saelens", "s/x/x/") == MW_OK);
    CHECK(import_edited("saelens", "saelens", "s/\"topk\"/\"temporal\"/") == MW_ERR_UNSUPPORTED);
    CHECK(import_edited("saelens", "saelens", "s/\"topk\"/\"gated\"/") == MW_ERR_FORMAT);      /* no b_gate */
    CHECK(import_edited("saelens", "saelens", "s/\"topk\"/\"transcoder\"/") == MW_ERR_FORMAT); /* no d_out */
    CHECK(import_edited("saelens", "saelens", "s/\"d_sae\": *40/\"d_sae\": 41/") == MW_ERR_FORMAT);
    CHECK(import_edited("saelens", "saelens", "s/\"k\": *4/\"k\": 400/") == MW_ERR_CONFIG);
    CHECK(import_edited("sparsify", "sparsify", "s/\"activation\": *\"topk\"/\"activation\": \"groupmax\"/") ==
          MW_ERR_UNSUPPORTED);
    CHECK(import_edited("sparsify", "sparsify", "s/\"skip_connection\": *false/\"skip_connection\": true/") ==
          MW_ERR_UNSUPPORTED); /* and no transcoder */
    CHECK(import_edited("sparsify", "sparsify", "s/\"d_in\": *12/\"d_in\": 0/") == MW_ERR_CONFIG);
    CHECK(import_edited("sparsify", "saelens", "s/x/x/") != MW_OK);
    CHECK(import_edited("sparsify", "ggml", "s/x/x/") == MW_ERR_CONFIG);
}

int main(void) {
    NEED(mkdtemp(folder) != NULL);
    NEED_OK(mw_backend_open("cpu", &backend));
    RUN(imports);
    RUN(exports_are_imported_again);
    RUN(torch_file);
    RUN(old_saelens);
    RUN(refusals);
    mw_backend_close(&backend);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
