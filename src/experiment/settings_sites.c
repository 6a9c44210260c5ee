/* The sites that an SAE reads and rebuilds. */
#include "experiment/settings.h"

#include <stdio.h>
#include <string.h>

mw_status settings_sites(const mw_experiment *e, char **out) {
    mw_text text = {0};
    const mw_strings *many = &e->sae.sites;
    for (int64_t i = 0; i < many->count; i++) mw_text_addf(&text, "%s%s", i ? "," : "", many->items[i]);
    if (!many->count && e->sae.site && e->sae.site[0])
        mw_text_addf(&text, "%s", e->sae.site);
    else if (!many->count && e->harvest.sites.count)
        mw_text_addf(&text, "%s", e->harvest.sites.items[0]);
    if (text.failed) {
        mw_text_free(&text);
        return MW_ERR_MEMORY;
    }
    if (!text.data) return mw_error(MW_ERR_CONFIG, "%s: sae.site is not given, nor harvest.sites", e->document.file);
    *out = text.data;
    return MW_OK;
}

static bool same_site(const char *a, const char *b) {
    mw_site x, y;
    mw_log_quiet(true);
    bool known = mw_site_parse(a, &x) == MW_OK && mw_site_parse(b, &y) == MW_OK;
    mw_log_quiet(false);
    return known ? x.layer == y.layer && x.kind == y.kind : strcmp(a, b) == 0;
}

bool settings_same_sites(const char *a, const char *b) {
    char x[MW_SITE_TEXT + 32], y[MW_SITE_TEXT + 32];
    for (;; a++, b++) {
        size_t m = strcspn(a, ","), n = strcspn(b, ",");
        if (m >= sizeof x || n >= sizeof y) return strcmp(a, b) == 0;
        snprintf(x, sizeof x, "%.*s", (int)m, a);
        snprintf(y, sizeof y, "%.*s", (int)n, b);
        if (!same_site(x, y)) return false;
        a += m;
        b += n;
        if (!*a || !*b) return *a == *b;
    }
}

/* An empty `site` is not requested. */
static mw_status check_harvested(const mw_experiment *e, const char *key, const char *site) {
    const mw_strings *harvested = &e->harvest.sites;
    if (!site[0]) return MW_OK;
    for (int64_t i = 0; i < harvested->count; i++)
        if (same_site(site, harvested->items[i])) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: %s: %s is not among harvest.sites", e->document.file, key, site);
}

mw_status settings_check_sites(const mw_experiment *e) {
    const sae_settings *s = &e->sae;
    if (!settings_has(e, "harvest") || !settings_has(e, "sae")) return MW_OK;
    MW_TRY(check_harvested(e, "sae.site", s->site));
    for (int64_t i = 0; i < s->sites.count; i++) MW_TRY(check_harvested(e, "sae.sites", s->sites.items[i]));
    return check_harvested(e, "sae.target", s->target);
}

mw_status settings_check_harvested(const mw_experiment *e) {
    return e->sae.activations.count ? MW_OK : settings_check_sites(e);
}
