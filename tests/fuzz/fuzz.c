#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
static int64_t before;

void fuzz_need(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static void remove_folder(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) fprintf(stderr, "fuzz: %s stays\n", folder);
}

const char *fuzz_path(const char *name) {
    static char paths[4][160];
    static int next;
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/microw-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        fuzz_need(mkdtemp(folder) != NULL, "no folder");
        atexit(remove_folder);
        mw_log_quiet(true);
    }
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Neither synced nor renamed: it is read back by this process only. */
void fuzz_write(const char *name, const void *data, size_t size) {
    FILE *file = fopen(fuzz_path(name), "wb");
    fuzz_need(file && (size == 0 || fwrite(data, size, 1, file) == 1) && fclose(file) == 0, "cannot write");
}

void fuzz_copy(const char *from, const char *name) {
    char *data = NULL;
    size_t size = 0;
    fuzz_need(mw_file_read(from, &data, &size) == MW_OK, from);
    fuzz_write(name, data, size);
    mw_free(data);
}

void fuzz_read_tensors(const mw_safetensors *file) {
    for (int64_t i = 0; i < mw_safetensors_count(file); i++) {
        mw_tensor t;
        if (!mw_safetensors_find(file, mw_safetensors_name(file, i), &t)) continue;
        volatile uint64_t sum = mw_xxh64(t.data, (size_t)mw_tensor_count(&t) * mw_dtype_size(t.dtype));
        (void)sum;
    }
}

void fuzz_begin(void) {
    mw_log_quiet(true); /* some calls turn it off behind them */
    before = mw_alloc_balance();
}

void fuzz_end(void) {
    fuzz_need(mw_alloc_balance() == before, "memory was not freed");
}
