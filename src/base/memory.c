/* Counted allocation, aligned to 64 bytes, with a reserve for a program that runs out of memory. */
#include "microw/base.h"

#include <execinfo.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64, PAGE = 2 << 20, LARGE = 16 * PAGE };

/* Allocations minus frees; tests find leaks by it. */
static atomic_llong balance;

/* Reserved address space, never written. */
enum { RESERVE_BYTES = 64 << 20 };
static _Atomic(void *) reserve;

static void *map_room(size_t bytes) {
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return room == MAP_FAILED ? NULL : room;
}

static void release_reserve(void) {
    void *room = atomic_exchange(&reserve, NULL);
    if (room) munmap(room, RESERVE_BYTES);
}

mw_status mw_memory_room(size_t bytes, const char *what) {
    void *room = map_room(bytes);
    if (room) {
        munmap(room, bytes);
        return MW_OK;
    }
    release_reserve();
    return mw_error(MW_ERR_MEMORY, "out of memory: %s needs up to %zu MB", what, bytes >> 20);
}

/* Rows of large matrices are read in an unpredictable order, each on other pages: with pages of 2 MiB, which Linux
 * gives on request, their addresses are found sooner. */
static void *allocate(size_t bytes) {
    size_t alignment = bytes >= LARGE ? PAGE : ALIGNMENT, rounded = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, rounded ? rounded : alignment);
    if (block && bytes >= LARGE) (void)madvise(block, rounded, MADV_HUGEPAGE);
    return block;
}

void *mw_alloc(size_t bytes) {
    void *block = bytes > SIZE_MAX / 2 ? NULL : allocate(bytes);
    if (!block) {
        release_reserve();
        mw_log(MW_LOG_ERROR, "out of memory: cannot allocate %zu bytes", bytes);
        return NULL;
    }
    atomic_fetch_add(&balance, 1);
    return block;
}

void *mw_calloc(size_t count, size_t size) {
    if (size && count > SIZE_MAX / 2 / size) return mw_alloc(SIZE_MAX);
    void *block = mw_alloc(count * size);
    if (block) memset(block, 0, count * size);
    return block;
}

void *mw_realloc(void *block, size_t old_bytes, size_t new_bytes) {
    void *moved = mw_alloc(new_bytes);
    if (!moved) return NULL;
    if (block) memcpy(moved, block, old_bytes < new_bytes ? old_bytes : new_bytes);
    mw_free(block);
    return moved;
}

void mw_free(void *block) {
    if (!block) return;
    atomic_fetch_sub(&balance, 1);
    free(block);
}

int64_t mw_alloc_balance(void) {
    return atomic_load(&balance);
}

bool mw_grow_(void **array, int64_t *capacity, size_t element) {
    int64_t grown = *capacity ? *capacity * 2 : 16;
    void *moved = mw_realloc(*array, (size_t)*capacity * element, (size_t)grown * element);
    if (!moved) return false;
    *array = moved;
    *capacity = grown;
    return true;
}

/* Exit handler: ends the process at once without memory. OpenBLAS starts threads when it is loaded that retry to
 * allocate 128 MB each, and its own exit handler waits for them: without memory for ever. */
static void leave_without_memory(int code, void *unused) {
    (void)unused;
    void *room = map_room(3 * (size_t)RESERVE_BYTES);
    if (room) munmap(room, 3 * (size_t)RESERVE_BYTES);
    if (room) return;
    fflush(NULL);
    _exit(code);
}

/* Each step or pass frees and allocates the same blocks thousands of times: otherwise the system would map each
 * again and clear its pages, which takes a third of a step's time. */
void mw_memory_keep(void) {
    mallopt(M_MMAP_MAX, 0); /* mapped blocks are returned to the system when freed */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    on_exit(leave_without_memory, NULL);
    if (!atomic_load(&reserve)) atomic_store(&reserve, map_room(RESERVE_BYTES));
    /* Loads libgcc_s now: C++ exceptions, such as those for missing memory, unwind by it, and the C library loads it on
     * first use, which fails without memory. */
    void *frame;
    (void)backtrace(&frame, 1);
}
