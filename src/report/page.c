/* Writer of the page, and of the shard files beside it. */
#include "report/report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- packed data ------------------------------------------------------------------------------------------- */

/* Adds packed data as a script element of a type that browsers never run. */
static void add_element(mw_text *page, const char *id, const mw_text *packed) {
    mw_text_addf(page, "<script type=\"application/octet-stream\" id=\"%s\">", id);
    mw_text_add(page, packed->data, packed->length);
    mw_text_addf(page, "</script>\n");
}

static mw_status add_json(mw_text *page, const char *id, const char *json, size_t length) {
    mw_text packed = {0};
    mw_status status = mw_deflate_base64(json, length, &packed);
    if (status == MW_OK) add_element(page, id, &packed);
    mw_text_free(&packed);
    return status;
}

static mw_status add_meta(mw_text *page, const json_t *meta) {
    char *text = json_dumps(meta, JSON_COMPACT | JSON_REAL_PRECISION(7));
    if (!text) return mw_error(MW_ERR_MEMORY, "the report's facts cannot be written as JSON");
    mw_status status = add_json(page, "meta", text, strlen(text));
    free(text);
    return status;
}

static mw_status add_table(const report *r, mw_text *page) {
    mw_text table = {0};
    mw_status status = report_table(r, &table);
    if (status == MW_OK) status = add_json(page, "table", table.data, table.length);
    mw_text_free(&table);
    return status;
}

/* ---- shards -------------------------------------------------------------------------------------------------- */

typedef struct page_shards {
    const report *r;
    char *folder;    /* of the files */
    int64_t n;       /* shards */
    mw_text *packed; /* [n] while they fit into the page */
    bool in_files;   /* they do not fit: each is a file in the folder */
    double bytes;    /* packed so far */
} page_shards;

static mw_status write_file(page_shards *s, int64_t number, const mw_text *packed) {
    char *path = mw_format("%s/%lld.js", s->folder, (long long)number);
    mw_text line = {0};
    mw_text_addf(&line, "microwShard(%lld,\"", (long long)number);
    mw_text_add(&line, packed->data, packed->length);
    mw_text_addf(&line, "\")\n");
    mw_status status = path && !line.failed ? mw_file_write_atomic(path, line.data, line.length) : MW_ERR_MEMORY;
    mw_text_free(&line);
    mw_free(path);
    return status;
}

/* Moves the first `count` shards to files: the shards no longer fit into the page. */
static mw_status move_to_files(page_shards *s, int64_t count) {
    MW_TRY(mw_make_directories(s->folder));
    s->in_files = true;
    for (int64_t i = 0; i < count; i++) {
        MW_TRY(write_file(s, i, &s->packed[i]));
        mw_text_free(&s->packed[i]);
    }
    return MW_OK;
}

static mw_status add_shard(page_shards *s, int64_t number, mw_text *json) {
    mw_text packed = {0};
    json->length = 0;
    MW_TRY(report_shard(s->r, number * REPORT_SHARD, json));
    mw_status status = mw_deflate_base64(json->data, json->length, &packed);
    s->bytes += (double)packed.length;
    if (status == MW_OK && !s->in_files && s->bytes > s->r->embed_bytes) status = move_to_files(s, number);
    if (status == MW_OK && s->in_files) status = write_file(s, number, &packed);
    if (status == MW_OK && !s->in_files)
        s->packed[number] = packed;
    else
        mw_text_free(&packed);
    return status;
}

/* Removes the files of an earlier report that this one does not have. */
static void remove_old_files(const page_shards *s) {
    for (int64_t i = s->in_files ? s->n : 0;; i++) {
        char *path = mw_format("%s/%lld.js", s->folder, (long long)i);
        bool gone = !path || unlink(path) != 0;
        mw_free(path);
        if (gone) break;
    }
    if (!s->in_files) rmdir(s->folder);
}

static mw_status make_shards(page_shards *s) {
    mw_text json = {0};
    mw_status status = MW_OK;
    mw_progress progress;
    mw_progress_begin(&progress, "report", "latents", s->r->discovery->n, true);
    for (int64_t i = 0; i < s->n && status == MW_OK; i++) {
        status = add_shard(s, i, &json);
        mw_progress_update(&progress, (i + 1) * REPORT_SHARD, NULL);
    }
    mw_text_free(&json);
    if (status == MW_OK) remove_old_files(s);
    return status;
}

static mw_status open_shards(const report *r, page_shards *s) {
    size_t stem = strlen(r->path);
    if (mw_ends_with(r->path, ".html")) stem -= 5;
    *s = (page_shards){.r = r, .folder = mw_format("%.*s_data", (int)stem, r->path)};
    if (!s->folder) return MW_ERR_MEMORY;
    if (!r->discovery) return MW_OK;
    s->n = (r->discovery->n + REPORT_SHARD - 1) / REPORT_SHARD;
    s->packed = mw_calloc((size_t)s->n, sizeof *s->packed);
    return s->packed ? make_shards(s) : MW_ERR_MEMORY;
}

static void close_shards(page_shards *s) {
    for (int64_t i = 0; i < s->n && s->packed; i++) mw_text_free(&s->packed[i]);
    mw_free(s->packed);
    mw_free(s->folder);
}

/* ---- the page ------------------------------------------------------------------------------------------------- */

/* The policy allows this style, this script, and shard files beside the page: any other script that gets into the page
 * does not run. */
static mw_status add_head(mw_text *page) {
    mw_text style = {0}, script = {0};
    mw_status status = mw_sha256_base64(page_css, page_css_length, &style);
    if (status == MW_OK) status = mw_sha256_base64(page_js, page_js_length, &script);
    if (status == MW_OK)
        mw_text_addf(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-%s'; "
            "script-src 'sha256-%s' 'self' file:; connect-src 'self'; base-uri 'none'; "
            "form-action 'none'\">\n<title>microw</title>\n"
            "<style>",
            style.data, script.data);
    mw_text_add(page, page_css, page_css_length);
    mw_text_addf(page, "</style>\n");
    mw_text_free(&style);
    mw_text_free(&script);
    return status;
}

static mw_status write_page(const report *r, const page_shards *s, mw_text *page) {
    MW_TRY(add_head(page));
    mw_text_add(page, page_html, page_html_length);
    MW_TRY(add_meta(page, r->meta));
    if (r->discovery) MW_TRY(add_table(r, page));
    for (int64_t i = 0; i < s->n && !s->in_files; i++) {
        char id[32];
        snprintf(id, sizeof id, "shard-%lld", (long long)i);
        add_element(page, id, &s->packed[i]);
    }
    mw_text_addf(page, "<script>");
    mw_text_add(page, page_js, page_js_length);
    mw_text_addf(page, "</script>\n</html>\n");
    return page->failed ? MW_ERR_MEMORY : mw_file_write_atomic(r->path, page->data, page->length);
}

mw_status report_write(const report *r, double *bytes, int64_t *files) {
    page_shards s;
    mw_text page = {0};
    mw_status status = open_shards(r, &s);
    if (status == MW_OK) {
        json_object_set_new(r->meta, "shard_size", json_integer(REPORT_SHARD));
        json_object_set_new(r->meta, "shard_folder", json_string(mw_path_basename(s.folder)));
        status = write_page(r, &s, &page);
    }
    *bytes = (double)page.length;
    *files = s.in_files ? s.n : 0;
    mw_text_free(&page);
    close_shards(&s);
    return status;
}
