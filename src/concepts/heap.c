/* Binary heaps that keep the k best rows of a latent; the root is the worst of them. */
#include "concepts/discovery.h"

bool heap_better(heap_entry a, heap_entry b) {
    if (a.row < 0 || b.row < 0) return b.row < 0 && a.row >= 0;
    return a.key != b.key ? a.key > b.key : a.row < b.row;
}

int heap_best_first(const void *a, const void *b) {
    const heap_entry *x = a, *y = b;
    return heap_better(*x, *y) ? -1 : heap_better(*y, *x);
}

/* Replaces entry `i` by a better one and sifts it down. */
static void replace(heap_entry *heap, int64_t k, int64_t i, heap_entry entry) {
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= k) break;
        if (child + 1 < k && heap_better(heap[child], heap[child + 1])) child++;
        if (!heap_better(entry, heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = entry;
}

void heap_offer(heap_entry *heap, int64_t k, heap_entry entry, const mw_store_span *span) {
    if (k == 0 || !heap_better(entry, heap[0])) return;
    for (int64_t i = 0; span && i < k; i++)
        if (heap[i].row >= span->begin && heap[i].row < span->end) {
            if (heap_better(entry, heap[i])) replace(heap, k, i, entry);
            return;
        }
    replace(heap, k, 0, entry);
}
