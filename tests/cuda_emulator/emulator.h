/* Declarations that the emulator's files share. */
#ifndef MICROW_EMULATOR_H
#define MICROW_EMULATOR_H

#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>

[[noreturn]] static inline void give_up(const char *what) {
    fprintf(stderr, "CUDA emulator: %s\n", what);
    abort();
}

namespace emulator {

/* Holds the lock of the emulator's state for its scope. */
struct locked {
    locked();
    ~locked();
    locked(const locked &) = delete;
    locked &operator=(const locked &) = delete;
};
void finish_all();

} // namespace emulator
#endif
