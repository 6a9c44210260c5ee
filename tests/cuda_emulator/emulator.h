/* What the emulator's own files share. */
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

/* One thread at a time: held by every call that looks at the state of all. */
struct locked {
    locked();
    ~locked();
    locked(const locked &) = delete;
    locked &operator=(const locked &) = delete;
};
void finish_all();

} // namespace emulator
#endif
