/* Texts and order of sites. */
#include "microw/config.h"
#include "microw/hooks.h"

#include <stdio.h>
#include <string.h>

static const char *const site_kind_names[] = {
#define KIND_NAME(code, text) text,
    MW_SITE_KIND_LIST(KIND_NAME)
#undef KIND_NAME
};

static mw_status unknown_site(const char *text, const char *kind) {
    const char *near = mw_nearest_name(kind, site_kind_names, MW_SITE_KIND_COUNT);
    return mw_error(MW_ERR_CONFIG, "site '%s': expected LAYER.STREAM such as 8.resid_post%s%s%s", text,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

mw_status mw_site_parse(const char *text, mw_site *out) {
    const char *dot = strchr(text, '.'), *kind = dot ? dot + 1 : text;
    int64_t layer = 0;
    if (dot) {
        char digits[16];
        if (dot == text || dot - text > 9) return unknown_site(text, kind);
        snprintf(digits, sizeof digits, "%.*s", (int)(dot - text), text);
        if (!mw_parse_int(digits, &layer) || layer < 0) return unknown_site(text, kind);
    }
    for (int s = 0; s < MW_SITE_KIND_COUNT; s++) {
        if (strcmp(site_kind_names[s], kind) != 0) continue;
        bool layerless = s == MW_EMBED || s == MW_LOGITS;
        if (layerless == (dot != NULL)) break;
        *out = (mw_site){(int)layer, (mw_site_kind)s};
        return MW_OK;
    }
    return unknown_site(text, kind);
}

void mw_site_format(mw_site site, char out[MW_SITE_TEXT]) {
    if (site.kind == MW_EMBED || site.kind == MW_LOGITS)
        snprintf(out, MW_SITE_TEXT, "%s", site_kind_names[site.kind]);
    else
        snprintf(out, MW_SITE_TEXT, "%d.%s", site.layer, site_kind_names[site.kind]);
}

int64_t mw_site_order(mw_site site) {
    if (site.kind == MW_EMBED) return 0;
    if (site.kind == MW_LOGITS) return INT64_MAX;
    return (int64_t)site.layer * MW_SITE_KIND_COUNT + site.kind;
}
