/* Detection test of a latent's name: random windows of the store, and tests made from them. */
#include "evaluate/name_detection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct name_detection_pool {
    int64_t n;                  /* windows */
    int64_t *row, *begin, *end; /* [n] the row drawn, and the rows around it */
    mw_text *text;              /* [n] */
    int64_t width;              /* bytes of a window's bits */
    uint8_t *active;            /* [n, width] a bit for each latent */
};

enum { POOL_SEED = 1717 };

/* ---- the pool --------------------------------------------------------------------------------------------- */

static mw_status window_text(const mw_store_tokens *t, int64_t begin, int64_t end, mw_text *out) {
    mw_text bytes = {0};
    mw_text_add(&bytes, "", 0);
    for (int64_t r = begin; r < end; r++) {
        uint64_t from = t->vocabulary_offset[t->ids[r]], to = t->vocabulary_offset[t->ids[r] + 1];
        mw_text_add(&bytes, t->vocabulary_bytes + from, (size_t)(to - from));
    }
    if (!bytes.failed) mw_utf8_show(out, bytes.data, bytes.length);
    mw_text_free(&bytes);
    return bytes.failed || out->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status fill_window(name_detection_pool *p, const mw_sae *sae, const mw_store_view *in,
                             const mw_store_tokens *t, int64_t around, int64_t w, float *x, mw_codes *codes) {
    int64_t row = (int64_t)mw_permute(POOL_SEED, 0, (uint64_t)t->n_rows, (uint64_t)w);
    mw_store_span span = mw_store_span_of(t, row);
    p->row[w] = row;
    p->begin[w] = row - around > span.begin ? row - around : span.begin;
    p->end[w] = row + around + 1 < span.end ? row + around + 1 : span.end;
    int64_t n = p->end[w] - p->begin[w];
    MW_TRY(window_text(t, p->begin[w], p->end[w], &p->text[w]));
    MW_TRY(mw_store_view_range(in, p->begin[w], n, x));
    MW_TRY(mw_sae_encode(sae, x, n, codes));
    for (int64_t j = 0; j < codes->start[n]; j++)
        p->active[w * p->width + codes->index[j] / 8] |= (uint8_t)(1 << codes->index[j] % 8);
    return MW_OK;
}

static mw_status fill_pool(name_detection_pool *p, const mw_sae *sae, const mw_store_view *in, const mw_discovery *d,
                           int64_t windows) {
    mw_store_tokens t = {0};
    mw_codes codes = {0};
    MW_TRY(mw_store_read_tokens(in->store, &t));
    p->width = (sae->n + 7) / 8;
    windows = windows < t.n_rows ? windows : t.n_rows;
    p->row = mw_calloc((size_t)windows, sizeof *p->row);
    p->begin = mw_calloc((size_t)windows, sizeof *p->begin);
    p->end = mw_calloc((size_t)windows, sizeof *p->end);
    p->text = mw_calloc((size_t)windows, sizeof *p->text);
    p->active = mw_calloc((size_t)windows, (size_t)p->width);
    float *x = mw_alloc((size_t)((2 * d->around + 1) * sae->d) * sizeof *x);
    mw_status status = p->row && p->begin && p->end && p->text && p->active && x ? MW_OK : MW_ERR_MEMORY;
    if (p->text) p->n = windows;
    for (int64_t w = 0; w < windows && status == MW_OK; w++)
        status = fill_window(p, sae, in, &t, d->around, w, x, &codes);
    mw_free(x);
    mw_codes_free(&codes);
    mw_store_tokens_free(&t);
    return status;
}

mw_status name_detection_pool_new(const mw_sae *sae, const mw_store_view *in, const mw_discovery *d, int64_t windows,
                                  name_detection_pool **out) {
    name_detection_pool *p = mw_calloc(1, sizeof *p);
    if (!p) return MW_ERR_MEMORY;
    mw_status status = fill_pool(p, sae, in, d, windows);
    if (status != MW_OK)
        name_detection_pool_free(&p);
    else
        *out = p;
    return status;
}

void name_detection_pool_free(name_detection_pool **slot) {
    name_detection_pool *p = *slot;
    if (!p) return;
    for (int64_t w = 0; w < p->n; w++) mw_text_free(&p->text[w]);
    void *all[] = {p->row, p->begin, p->end, p->text, p->active, p};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *slot = NULL;
}

/* ---- a latent's test ------------------------------------------------------------------------------------------ */

typedef struct candidate {
    uint32_t order;
    bool active;
    json_t *text;
} candidate;

static int ascending_order(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Returns whether one of the first `shown` top texts contains a row. */
static bool was_shown(const mw_discovery *d, int64_t latent, int64_t shown, int64_t row) {
    for (int64_t t = latent * d->per; t < latent * d->per + shown && t < latent * d->per + d->top_texts; t++) {
        int64_t first = d->text_row[t] - d->text_center[t];
        if (d->text_row[t] >= 0 && row >= first && row < first + d->text_start[t + 1] - d->text_start[t]) return true;
    }
    return false;
}

static json_t *sample_text(const mw_discovery *d, int64_t t) {
    mw_text pieces[3] = {{0}}, whole = {0};
    mw_status status = mw_discovery_text(d, t, d->around, &pieces[0], &pieces[1], &pieces[2]);
    for (int i = 0; i < 3 && status == MW_OK; i++) mw_text_add(&whole, pieces[i].data, pieces[i].length);
    json_t *made = status == MW_OK && !whole.failed ? mw_json_string(whole.data, whole.length) : NULL;
    for (int i = 0; i < 3; i++) mw_text_free(&pieces[i]);
    mw_text_free(&whole);
    return made;
}

static uint32_t draw_order(int64_t latent, int64_t row) {
    uint32_t bits[4];
    mw_philox(POOL_SEED, (uint64_t)latent, (uint64_t)row, bits);
    return bits[0];
}

/* Adds samples evenly spaced from the strongest to the weakest. Returns how many. */
static int64_t add_active(const mw_discovery *d, int64_t latent, int64_t shown, int64_t each, candidate *list) {
    int64_t usable = 0, taken = 0, first = latent * d->per + d->top_texts;
    for (int64_t t = first; t < first + d->samples; t++)
        usable += d->text_row[t] >= 0 && !was_shown(d, latent, shown, d->text_row[t]);
    int64_t wanted = usable < each ? usable : each;
    for (int64_t t = first, seen = 0; t < first + d->samples && taken < wanted; t++) {
        if (d->text_row[t] < 0 || was_shown(d, latent, shown, d->text_row[t])) continue;
        if (seen++ != taken * usable / wanted) continue;
        list[taken++] = (candidate){draw_order(latent, d->text_row[t]), true, sample_text(d, t)};
    }
    return taken;
}

static int64_t add_silent(const name_detection_pool *p, int64_t latent, int64_t each, candidate *list) {
    int64_t taken = 0;
    for (int64_t i = 0; i < p->n && taken < each; i++) {
        int64_t w = (i + latent * 7919) % p->n; /* each latent gets different texts */
        if (p->active[w * p->width + latent / 8] >> latent % 8 & 1) continue;
        json_t *text = json_stringn(p->text[w].data, p->text[w].length);
        list[taken++] = (candidate){draw_order(latent, p->row[w]), false, text};
    }
    return taken;
}

mw_status name_detection_test_new(const name_detection_pool *pool, const mw_discovery *d, int64_t latent, int64_t shown,
                                  int64_t each, name_detection_test *out) {
    candidate *list = mw_calloc((size_t)(2 * each), sizeof *list);
    name_detection_test test = {.texts = json_array(), .active = mw_calloc((size_t)(2 * each), sizeof(bool))};
    if (list && test.texts && test.active) {
        test.count = add_active(d, latent, shown, each, list);
        test.count += add_silent(pool, latent, test.count, list + test.count);
        qsort(list, (size_t)test.count, sizeof *list, ascending_order);
        for (int64_t i = 0; i < test.count; i++) {
            json_array_append_new(test.texts, list[i].text);
            test.active[i] = list[i].active;
        }
    }
    bool good = list && test.active && (int64_t)json_array_size(test.texts) == test.count;
    mw_free(list);
    if (good)
        *out = test;
    else
        name_detection_test_free(&test);
    return good ? MW_OK : MW_ERR_MEMORY;
}

void name_detection_test_free(name_detection_test *test) {
    json_decref(test->texts);
    mw_free(test->active);
    *test = (name_detection_test){0};
}

double name_detection_score(const name_detection_test *test, const json_t *answer) {
    double right[2] = {0}, all[2] = {0};
    if ((int64_t)json_array_size(answer) != test->count) return NAN;
    for (int64_t i = 0; i < test->count; i++) {
        const json_t *one = json_array_get(answer, (size_t)i);
        if (!json_is_boolean(one)) return NAN;
        all[test->active[i]]++;
        right[test->active[i]] += json_is_true(one) == test->active[i];
    }
    return all[0] > 0 && all[1] > 0 ? (right[0] / all[0] + right[1] / all[1]) / 2 : NAN;
}
