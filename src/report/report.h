/* Report of a run: one page of HTML that needs no server and no network. */
#ifndef MICROW_REPORT_REPORT_H
#define MICROW_REPORT_REPORT_H

#include "base/json.h"
#include "microw/concepts.h"

enum { REPORT_SHARD = 64 }; /* latents per shard, which the page unpacks at once */

typedef struct report {
    const char *path; /* of the page */
    json_t *meta;     /* facts that page.js reads as `meta`; report_write adds the location of the shards */
    const mw_discovery *discovery; /* or NULL: no latents are shown */
    const mw_names *names;
    double embed_bytes; /* if packed latents exceed it, they are written to files in PATH without .html, plus _data */
} report;

/* Writes the page and its files atomically, file by file. Sets *bytes to the size of the page, *files to the number of
 * files of latents beside it. Local. */
mw_status report_write(const report *r, double *bytes, int64_t *files) MW_MUST_USE;

/* Append JSON: the columns of all latents; the latents first .. first + REPORT_SHARD - 1. Errors: MW_ERR_MEMORY. */
mw_status report_table(const report *r, mw_text *out) MW_MUST_USE;
mw_status report_shard(const report *r, int64_t first, mw_text *out) MW_MUST_USE;

/* The files page.html, page.css and page.js, embedded. */
extern const char page_html[], page_css[], page_js[];
extern const size_t page_html_length, page_css_length, page_js_length;

#endif
