/* Fuzzes files of torch.save. The first byte chooses what the rest is: a whole file; the pickle of an archive whose
 * storages "0" to "2" have 64 bytes each; or what follows the head of a file from before torch 1.6. */
#include "fuzz.h"

#include <string.h>

enum { WHOLE, PICKLE, OLD, KINDS, STORAGE_BYTES = 64 };

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static void put(mw_text *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        char byte = (char)(value >> 8 * i);
        mw_text_add(out, &byte, 1);
    }
}

/* Fields that local headers and entries of the directory share; no checksum. */
static void put_common(mw_text *out, const char *name, size_t length) {
    put(out, 20, 2);
    put(out, 0, 4);
    put(out, 0, 8);
    put(out, length, 4);
    put(out, length, 4);
    put(out, strlen(name), 2);
    put(out, 0, 2);
}

static void add(mw_text *file, mw_text *directory, const char *name, const void *data, size_t length) {
    size_t at = file->length;
    put(file, 0x04034b50, 4);
    put_common(file, name, length);
    mw_text_add(file, name, strlen(name));
    mw_text_add(file, data, length);
    put(directory, 0x02014b50, 4);
    put(directory, 20, 2);
    put_common(directory, name, length);
    put(directory, 0, 6);
    put(directory, 0, 4);
    put(directory, at, 4);
    mw_text_add(directory, name, strlen(name));
}

static void write_archive(const uint8_t *pickle, size_t size) {
    static const char *const names[] = {"a/data/0", "a/data/1", "a/data/2"};
    static const char zeros[STORAGE_BYTES];
    mw_text file = {0}, directory = {0};
    add(&file, &directory, "a/data.pkl", pickle, size);
    for (int i = 0; i < 3; i++) add(&file, &directory, names[i], zeros, sizeof zeros);
    size_t at = file.length;
    mw_text_add(&file, directory.data, directory.length);
    put(&file, 0x06054b50, 4);
    put(&file, 0, 4);
    put(&file, 4, 2);
    put(&file, 4, 2);
    put(&file, directory.length, 4);
    put(&file, at, 4);
    put(&file, 0, 2);
    fuzz_need(!file.failed && !directory.failed, "no memory");
    fuzz_write("file.bin", file.data, file.length);
    mw_text_free(&file);
    mw_text_free(&directory);
}

/* The magic number, the version and the machine, as torch writes them. */
static void write_old(const uint8_t *rest, size_t size) {
    static const char head[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}"
                               "X\x0d\0\0\0little_endian\x88s.";
    mw_text file = {0};
    mw_text_add(&file, head, sizeof head - 1);
    mw_text_add(&file, (const char *)rest, size);
    fuzz_need(!file.failed, "no memory");
    fuzz_write("file.bin", file.data, file.length);
    mw_text_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    fuzz_begin();
    int kind = data[0] % KINDS;
    if (kind == PICKLE)
        write_archive(data + 1, size - 1);
    else if (kind == OLD)
        write_old(data + 1, size - 1);
    else
        fuzz_write("file.bin", data + 1, size - 1);
    mw_safetensors *file = NULL;
    if (mw_safetensors_open(fuzz_path("file.bin"), &file) == MW_OK) fuzz_read_tensors(file);
    mw_safetensors_free(&file);
    fuzz_end();
    return 0;
}
