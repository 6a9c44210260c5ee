/* Files of torch.save (tools/make_golden_torch.py): the same numbers as in safetensors files, models with the
 * activations of transformers, and files that are refused. */
#include "microw/model.h"
#include "microw/safetensors.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#define TORCH MICROW_GOLDEN "/torch/"

static mw_safetensors *open_file(const char *path) {
    mw_safetensors *file = NULL;
    NEED_OK(mw_safetensors_open(path, &file));
    return file;
}

static void check_tensor(const mw_safetensors *expected, const mw_safetensors *found, const char *name) {
    mw_tensor a, b;
    const char *type = mw_safetensors_type(found, name);
    CHECK(type && strcmp(type, mw_safetensors_type(expected, name)) == 0);
    bool there = mw_safetensors_find(expected, name, &a);
    CHECK(there == mw_safetensors_find(found, name, &b));
    if (!there) return;
    bool same = a.dtype == b.dtype && a.ndim == b.ndim &&
                memcmp(a.shape, b.shape, sizeof *a.shape * (size_t)a.ndim) == 0 &&
                memcmp(a.data, b.data, (size_t)mw_tensor_count(&a) * mw_dtype_size(a.dtype)) == 0;
    if (!same) fprintf(stderr, "%s differs\n", name);
    CHECK(same);
}

static void check_tensors(const char *path) {
    mw_safetensors *expected = open_file(TORCH "tensors.safetensors"), *found = open_file(path);
    CHECK(mw_safetensors_count(found) == mw_safetensors_count(expected));
    for (int64_t i = 0; i < mw_safetensors_count(expected); i++)
        check_tensor(expected, found, mw_safetensors_name(expected, i));
    mw_tensor whole, rows, tied;
    CHECK(mw_safetensors_find(found, "f32", &whole) && mw_safetensors_find(found, "rows", &rows) &&
          mw_safetensors_find(found, "tied", &tied));
    CHECK(tied.data == whole.data && rows.data == (float *)whole.data + 2 * whole.shape[1]); /* used in place */
    mw_safetensors_free(&expected);
    mw_safetensors_free(&found);
}

static void numbers_are_those_of_torch(void) {
    check_tensors(TORCH "tensors.bin");
    check_tensors(TORCH "tensors_old.bin");
}

static void archives_are_used_in_place(void) {
    mw_safetensors *file = open_file(TORCH "tensors.bin");
    mw_tensor t;
    CHECK(mw_safetensors_find(file, "f32", &t) && (uintptr_t)t.data % 64 == 0);
    mw_safetensors_free(&file);
}

/* ---- models -------------------------------------------------------------------------------------------- */

static void check_model(const char *name) {
    mw_backend *backend = NULL;
    mw_model *from_torch = NULL, *model = NULL;
    char path[256], hash[2][MW_SHA256_TEXT], mark[2][MW_MODEL_MARK];
    static const int32_t ids[] = {1, 2, 3, 5, 8, 13, 21, 34};
    static const int64_t length = 8;
    const mw_batch batch = {.n_seq = 1, .ids = ids, .length = &length};
    NEED_OK(mw_backend_open("cpu", &backend));
    snprintf(path, sizeof path, MICROW_GOLDEN "/models/%s", name);
    NEED_OK(mw_model_open(path, "f32", backend, &model));
    snprintf(path, sizeof path, TORCH "%s", name);
    NEED_OK(mw_model_open(path, "f32", backend, &from_torch));
    int64_t vocab = mw_model_about(model)->vocab;
    float *expected = mw_alloc((size_t)vocab * sizeof *expected), *found = mw_alloc((size_t)vocab * sizeof *found);
    CHECK_OK(mw_model_forward(model, &batch, expected));
    CHECK_OK(mw_model_forward(from_torch, &batch, found));
    CHECK(memcmp(expected, found, (size_t)vocab * sizeof *found) == 0); /* test_model_golden compares the first */
    CHECK(mw_model_about(model)->parameters == mw_model_about(from_torch)->parameters);
    CHECK_OK(mw_model_hash(model, hash[0]));
    CHECK_OK(mw_model_hash(from_torch, hash[1]));
    CHECK_OK(mw_model_mark(model, mark[0]));
    CHECK_OK(mw_model_mark(from_torch, mark[1]));
    CHECK(strcmp(hash[0], hash[1]) != 0 && strcmp(mark[0], mark[1]) != 0);
    mw_free(expected);
    mw_free(found);
    mw_model_free(&model);
    mw_model_free(&from_torch);
    mw_backend_close(&backend);
}

static void models_open(void) {
    check_model("gpt_neo");
    check_model("llama");
}

static void copy_to(const char *from, const char *folder, const char *name) {
    char *bytes = NULL, path[256];
    size_t length;
    NEED_OK(mw_file_read(from, &bytes, &length));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    NEED_OK(mw_file_write_atomic(path, bytes, length));
    mw_free(bytes);
}

/* transformers 5.24, _get_resolved_checkpoint_files: safetensors first, a whole file before an index. */
static void safetensors_come_first(void) {
    char folder[] = "/tmp/microw-torch-XXXXXX", command[64];
    mw_safetensors *file = NULL;
    NEED(mkdtemp(folder) != NULL);
    copy_to(TORCH "tensors_old.bin", folder, "pytorch_model.bin");
    copy_to(TORCH "llama/pytorch_model.bin.index.json", folder, "pytorch_model.bin.index.json");
    NEED_OK(mw_safetensors_open_folder(folder, &file));
    CHECK(mw_safetensors_type(file, "every_second") != NULL);
    mw_safetensors_free(&file);
    copy_to(MICROW_GOLDEN "/models/llama/model.safetensors", folder, "model.safetensors");
    NEED_OK(mw_safetensors_open_folder(folder, &file));
    CHECK(mw_safetensors_type(file, "every_second") == NULL);
    mw_safetensors_free(&file);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    mw_status status;
    const char *says;
} refusals[] = {
    {"a_list", MW_ERR_FORMAT, "expected a dict of tensors"},
    {"bad_sum", MW_ERR_FORMAT, "the checksum of 'archive/data/0' does not match"},
    {"bad_sum_of_pickle", MW_ERR_FORMAT, "the checksum of data.pkl does not match"},
    {"beyond_the_storage", MW_ERR_FORMAT, "tensor 'a' reaches beyond the 6 elements of its storage"},
    {"big_endian", MW_ERR_UNSUPPORTED, "big-endian"},
    {"calls_eval", MW_ERR_UNSUPPORTED, "the pickle uses __builtin__.eval"},
    {"compressed", MW_ERR_UNSUPPORTED, "compressed"},
    {"conjugate", MW_ERR_UNSUPPORTED, "tensor 'a' is stored negated or conjugated"},
    {"negative_stride", MW_ERR_FORMAT, "impossible shape"},
    {"new_object", MW_ERR_UNSUPPORTED, "code 0x81"},
    {"numpy_scalar", MW_ERR_UNSUPPORTED, "the pickle uses numpy._core.multiarray.scalar"},
    {"offset_beyond", MW_ERR_FORMAT, "tensor 'a' reaches beyond"},
    {"program", MW_ERR_UNSUPPORTED, "a TorchScript program"},
    {"protocol_4", MW_ERR_UNSUPPORTED, "pickle protocol 4"},
    {"runs_a_command", MW_ERR_UNSUPPORTED, "the pickle uses posix.system"},
    {"runs_a_command_old", MW_ERR_UNSUPPORTED, "the pickle uses posix.system"},
    {"storage_missing", MW_ERR_FORMAT, "a storage is missing"},
    {"storage_short", MW_ERR_FORMAT, "storage '0' has 20 bytes, expected 24"},
    {"twice", MW_ERR_FORMAT, "tensor 'a' occurs twice"},
};

static void others_are_refused(void) {
    struct stat unused;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        mw_safetensors *file = NULL;
        char path[256];
        snprintf(path, sizeof path, TORCH "refused/%s.bin", refusals[i].name);
        CHECK_SAYS(refusals[i].status, refusals[i].says, mw_safetensors_open(path, &file));
        CHECK(file == NULL);
    }
    CHECK(stat("/tmp/microw-was-here", &unused) != 0); /* what the pickles would run */
}

/* A view of few numbers as many, made by torch.Tensor.expand, is listed and has no numbers: masks may be stored so. */
static void expanded_views(void) {
    mw_safetensors *file = NULL;
    mw_tensor t;
    NEED_OK(mw_safetensors_open(TORCH "refused/expanded.bin", &file));
    CHECK(strcmp(mw_safetensors_type(file, "a"), "EXPANDED") == 0 && !mw_safetensors_find(file, "a", &t));
    mw_safetensors_free(&file);
}

static void check_prefixes(const char *from) {
    char *bytes = NULL, path[] = "/tmp/microw-torch-XXXXXX.bin";
    size_t length;
    NEED_OK(mw_file_read(from, &bytes, &length));
    int fd = mkstemps(path, 4);
    NEED(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    mw_log_quiet(true);
    while (length-- > 0) {
        mw_safetensors *file = NULL;
        NEED(ftruncate(fd, (off_t)length) == 0);
        CHECK_FAILS(MW_ERR_FORMAT, mw_safetensors_open(path, &file));
    }
    mw_log_quiet(false);
    close(fd);
    unlink(path);
    mw_free(bytes);
}

static void truncated_files_are_refused(void) {
    check_prefixes(TORCH "tensors.bin");
    check_prefixes(TORCH "tensors_old.bin");
}

int main(void) {
    RUN(numbers_are_those_of_torch);
    RUN(archives_are_used_in_place);
    RUN(models_open);
    RUN(safetensors_come_first);
    RUN(others_are_refused);
    RUN(expanded_views);
    RUN(truncated_files_are_refused);
    return test_end();
}
