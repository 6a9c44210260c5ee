/* A run as one page of HTML that needs no server and no network. */
#ifndef MICROW_REPORT_REPORT_H
#define MICROW_REPORT_REPORT_H

#include "base/json.h"
#include "microw/concepts.h"

enum { REPORT_SHARD = 64 }; /* latents that the page unpacks at once */

typedef struct report {
    const char *path;              /* of the page */
    json_t *meta;                  /* what page.js reads as `meta`; the writer adds where shards are */
    const mw_discovery *discovery; /* or NULL: no latents are shown */
    const mw_names *names;
    double
        embed_bytes; /* more packed latents than that are put into files beside the page, in PATH without .html and _data */
} report;

/* `bytes` of the page, `beside` of files beside it. */
mw_status report_write(const report *r, double *bytes, int64_t *beside) MW_MUST_USE;

/* JSON of the columns of all latents; of the latents first .. first + REPORT_SHARD. Appended. */
mw_status report_table(const report *r, mw_text *out) MW_MUST_USE;
mw_status report_shard(const report *r, int64_t first, mw_text *out) MW_MUST_USE;

/* The page's own parts, with their lengths. */
extern const char page_html[], page_css[], page_js[];
extern const size_t page_html_length, page_css_length, page_js_length;

#endif
