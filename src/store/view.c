/* Several sites of a store side by side. */
#include "microw/store.h"

#include <string.h>

static mw_status add_site(mw_store_view *view, const char *name, const char *sites) {
    if (view->n_sites == MW_VIEW_SITES)
        return mw_error(MW_ERR_CONFIG, "sites '%s': more than %d", sites, MW_VIEW_SITES);
    mw_store_site *site = &view->site[view->n_sites];
    MW_TRY(mw_store_find(view->store, name, site));
    for (int64_t i = 0; i < view->n_sites; i++)
        if (view->site[i].index == site->index)
            return mw_error(MW_ERR_CONFIG, "sites '%s': %s is listed twice", sites, name);
    view->n_sites++;
    view->width += site->width;
    return MW_OK;
}

mw_status mw_store_view_open(const mw_store *store, const char *sites, mw_store_view *out) {
    mw_store_view view = {.store = store};
    for (const char *p = sites;; p++) {
        size_t length = strcspn(p, ",");
        char name[MW_SITE_TEXT + 32];
        if (length >= sizeof name) return mw_error(MW_ERR_CONFIG, "sites '%s': a name of %zu letters", sites, length);
        memcpy(name, p, length);
        name[length] = '\0';
        MW_TRY(add_site(&view, name, sites));
        p += length;
        if (!*p) break;
    }
    *out = view;
    return MW_OK;
}

/* Copies rows [count, width] of one site to its columns of the view's rows. */
static void place_rows(const mw_store_view *view, int64_t at, int64_t width, int64_t count, const float *from,
                       float *out) {
    for (int64_t r = 0; r < count; r++)
        memcpy(out + r * view->width + at, from + r * width, (size_t)width * sizeof *out);
}

/* `rows` NULL: rows begin .. begin + count. */
static mw_status read_sites(const mw_store_view *view, const int64_t *rows, int64_t begin, int64_t count, float *out) {
    float *one = view->n_sites > 1 ? mw_alloc((size_t)(count * view->width) * sizeof *one) : out;
    mw_status status = one || count == 0 ? MW_OK : MW_ERR_MEMORY;
    for (int64_t i = 0, at = 0; i < view->n_sites && status == MW_OK; at += view->site[i++].width) {
        const mw_store_site *site = &view->site[i];
        status = rows ? mw_store_read_rows(view->store, site, rows, count, one)
                      : mw_store_read_range(view->store, site, begin, count, one);
        if (status == MW_OK && view->n_sites > 1) place_rows(view, at, site->width, count, one, out);
    }
    if (view->n_sites > 1) mw_free(one);
    return status;
}

mw_status mw_store_view_rows(const mw_store_view *view, const int64_t *rows, int64_t count, float *out) {
    return read_sites(view, rows, 0, count, out);
}

mw_status mw_store_view_range(const mw_store_view *view, int64_t begin, int64_t count, float *out) {
    return read_sites(view, NULL, begin, count, out);
}

mw_status mw_store_view_mean(const mw_store_view *view, double *out) {
    for (int64_t i = 0, at = 0; i < view->n_sites; at += view->site[i++].width)
        MW_TRY(mw_store_read_mean(view->store, &view->site[i], out + at));
    return MW_OK;
}
