/* Fuzzes safetensors files: every tensor that is found is readable to its last byte. */
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static void read_all(const mw_safetensors *file) {
    fuzz_read_tensors(file);
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
