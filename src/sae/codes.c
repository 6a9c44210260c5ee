#include "microw/sae.h"

#include <string.h>

static mw_status grow(void **array, int64_t *capacity, int64_t wanted, size_t old_bytes, size_t item) {
    if (wanted <= *capacity && *array) return MW_OK;
    int64_t grown = wanted + wanted / 2 + 16;
    void *moved = mw_realloc(*array, old_bytes, (size_t)grown * item);
    if (!moved) return MW_ERR_MEMORY;
    *array = moved;
    *capacity = grown;
    return MW_OK;
}

mw_status mw_codes_begin(mw_codes *codes, int64_t rows) {
    MW_TRY(grow((void **)&codes->start, &codes->rows_capacity, rows + 1, 0, sizeof *codes->start));
    codes->rows = rows;
    codes->start[0] = 0;
    return MW_OK;
}

mw_status mw_codes_reserve(mw_codes *codes, int64_t kept, int64_t entries) {
    if (entries <= codes->capacity && codes->index && codes->value) return MW_OK;
    int64_t capacity = codes->capacity;
    MW_TRY(grow((void **)&codes->index, &capacity, entries, (size_t)kept * sizeof *codes->index, sizeof *codes->index));
    capacity = codes->capacity;
    MW_TRY(grow((void **)&codes->value, &capacity, entries, (size_t)kept * sizeof *codes->value, sizeof *codes->value));
    codes->capacity = capacity;
    return MW_OK;
}

void mw_codes_free(mw_codes *codes) {
    mw_free(codes->start);
    mw_free(codes->index);
    mw_free(codes->value);
    *codes = (mw_codes){0};
}

float mw_codes_find(const mw_codes *codes, int64_t row, int64_t latent) {
    for (int64_t j = codes->start[row]; j < codes->start[row + 1]; j++)
        if (codes->index[j] == latent) return codes->value[j];
    return 0;
}
