/* Fuzzes safetensors files: every tensor that is found is readable to its last byte. */
#include "fuzz.h"
#include "microw/safetensors.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static void read_all(const mw_safetensors *file) {
    for (int64_t i = 0; i < mw_safetensors_count(file); i++) {
        mw_tensor t;
        if (!mw_safetensors_find(file, mw_safetensors_name(file, i), &t)) continue;
        volatile uint64_t sum = mw_xxh64(t.data, (size_t)mw_tensor_count(&t) * mw_dtype_size(t.dtype));
        (void)sum;
    }
    volatile const char *text = mw_safetensors_metadata(file, "format");
    (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_write("file.safetensors", data, size);
    fuzz_begin();
    mw_safetensors *file = NULL;
    if (mw_safetensors_open(fuzz_path("file.safetensors"), &file) == MW_OK) read_all(file);
    mw_safetensors_free(&file);
    fuzz_end();
    return 0;
}
