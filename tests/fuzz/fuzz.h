/* A fuzz target hands bytes to one reader, as a file would. With libFuzzer (preset `fuzz`) it searches; elsewhere
 * replay.c runs it over the committed corpus. */
#ifndef MICROW_FUZZ_H
#define MICROW_FUZZ_H

#include "microw/safetensors.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stops the process where the target cannot work at all. */
void fuzz_need(bool condition, const char *what);
/* A path in a folder of this process, in memory where the machine has one. Valid until the next call but three. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *name, const void *data, size_t size);
void fuzz_copy(const char *from, const char *name);
/* Reads every tensor to its last byte. */
void fuzz_read_tensors(const mw_safetensors *file);
/* Around each input: what was allocated is freed. */
void fuzz_begin(void);
void fuzz_end(void);

#endif
