/* The history files of a training: lines while it runs, columns at its end, published with the SAE. */
#include "sae/train/history.h"
#include "base/json.h"
#include "sae/train/checkpoint_folder.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char lines_name[] = "history.jsonl", columns_name[] = "training_history.json";

/* Calls `use` for each line that is a JSON object; an incomplete last line is not. */
static void each_line(char *text, void (*use)(void *self, json_t *value, const char *line), void *self) {
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        mw_json_report report;
        json_t *value = mw_json_read(line, strlen(line), &report);
        if (json_is_object(value)) use(self, value, line);
        json_decref(value);
    }
}

typedef struct line_filter {
    int64_t step;
    mw_text kept;
} line_filter;

static void keep_line(void *self, json_t *value, const char *line) {
    line_filter *k = self;
    if (json_integer_value(json_object_get(value, "step")) <= k->step) mw_text_addf(&k->kept, "%s\n", line);
}

static mw_status keep_lines_until(const history *h, int64_t step) {
    line_filter k = {.step = step};
    char *text = NULL;
    const char *from = h->lines_partial;
    mw_text_add(&k.kept, "", 0);
    mw_status status = mw_file_exists(from) && step > 0 ? mw_file_read(from, &text, NULL) : MW_OK;
    if (status == MW_OK && text) each_line(text, keep_line, &k);
    if (status == MW_OK)
        status = k.kept.failed ? MW_ERR_MEMORY : mw_file_write_atomic(h->lines_partial, k.kept.data, k.kept.length);
    mw_free(text);
    mw_text_free(&k.kept);
    return status;
}

/* The history of an earlier SAE in the folder stays until the new SAE is saved: `replaces` selects a temporary name. */
static char *partial_path(const char *folder, const char *name, const char *fingerprint, bool replaces) {
    return replaces ? mw_format("%s/%s.%.8s.partial", folder, name, fingerprint ? fingerprint : "new")
                    : mw_path_join(folder, name);
}

mw_status history_open(const char *folder, int64_t step, const char *fingerprint, history *out) {
    history h = {.lines_path = mw_path_join(folder, lines_name),
                 .columns_path = mw_path_join(folder, columns_name),
                 .lines_partial =
                     partial_path(folder, lines_name, fingerprint, mw_file_is_in(folder, "sae.safetensors")),
                 .columns_partial = partial_path(folder, columns_name, fingerprint, true)};
    bool named = h.lines_path && h.columns_path && h.lines_partial && h.columns_partial;
    mw_status status = named ? keep_lines_until(&h, step) : MW_ERR_MEMORY;
    if (status == MW_OK && !(h.stream = fopen(h.lines_partial, "ae")))
        status = mw_error(MW_ERR_IO, "%s: %s", h.lines_partial, strerror(errno));
    if (status != MW_OK)
        history_close(&h);
    else
        *out = h;
    return status;
}

static void add_number(mw_text *line, const char *key, double value, int digits) {
    mw_text_addf(line, "%s\"%s\": ", line->length > 1 ? ", " : "", key);
    mw_json_add_real(line, digits, value);
}

static void add_count(mw_text *line, const char *key, int64_t count) {
    mw_text_addf(line, "%s\"%s\": %lld", line->length > 1 ? ", " : "", key, (long long)count);
}

mw_status history_add(history *h, int64_t step, int64_t rows, double rate, const mw_step_report *r) {
    mw_text line = {0};
    mw_text_add(&line, "{", 1);
    add_count(&line, "step", step);
    add_count(&line, "tokens", rows);
    add_number(&line, "loss", r->loss, 9);
    add_number(&line, "mse", r->mse, 9);
    add_number(&line, "aux_loss", r->aux_loss, 9);
    add_number(&line, "penalty", r->penalty, 9);
    add_number(&line, "fvu", r->fvu, 9);
    add_number(&line, "r2", 1 - r->fvu, 9);
    add_number(&line, "explained_variance", r->explained_variance, 9);
    add_number(&line, "l0", r->l0, 9);
    add_count(&line, "dead", r->dead);
    add_number(&line, "lr", r->lr, 9);
    add_number(&line, "candidates", r->candidates, 6);
    add_number(&line, "tokens_per_second", rate, 6);
    mw_text_add(&line, "}\n", 2);
    bool written =
        !line.failed && fwrite(line.data, 1, line.length, h->stream) == line.length && fflush(h->stream) == 0;
    mw_status status = line.failed ? MW_ERR_MEMORY : MW_OK;
    mw_text_free(&line);
    if (status == MW_OK && !written) status = mw_error(MW_ERR_IO, "%s: write failed", h->lines_partial);
    return status;
}

static void append_columns(void *self, json_t *value, const char *line) {
    (void)line;
    const char *key;
    json_t *number;
    json_object_foreach(value, key, number) {
        json_t *column = json_object_get(self, key);
        if (!column) {
            column = json_array();
            json_object_set_new(self, key, column);
        }
        json_array_append(column, number);
    }
}

/* Mean FVU of the lines with first <= step < end; NaN: there are none. */
static double mean_fvu(const json_t *columns, double first, double end) {
    const json_t *steps = json_object_get(columns, "step"), *fvu = json_object_get(columns, "fvu");
    double sum = 0, count = 0;
    for (size_t i = 0; i < json_array_size(steps); i++) {
        double step = json_number_value(json_array_get(steps, i));
        if (step < first || step >= end || !json_is_number(json_array_get(fvu, i))) continue;
        sum += json_number_value(json_array_get(fvu, i));
        count++;
    }
    return count > 0 ? sum / count : NAN;
}

static double late_fall_of(const json_t *columns, double until) {
    return 1 - mean_fvu(columns, 0.9 * until, until) / mean_fvu(columns, 0.4 * until, 0.5 * until);
}

mw_status history_finish(history *h, int64_t until, double *late_fall) {
    char *text = NULL;
    MW_TRY(mw_file_read(h->lines_partial, &text, NULL));
    json_t *columns = json_object();
    each_line(text, append_columns, columns);
    *late_fall = late_fall_of(columns, (double)until);
    json_object_set_new(columns, "late_fall", mw_json_real(*late_fall));
    mw_status status = mw_json_save(h->columns_partial, columns, 1);
    json_decref(columns);
    mw_free(text);
    return status;
}

/* Histories of trainings that another training replaced before their end. */
static bool is_partial(const char *name) {
    bool ours =
        strncmp(name, lines_name, strlen(lines_name)) == 0 || strncmp(name, columns_name, strlen(columns_name)) == 0;
    return ours && mw_ends_with(name, ".partial");
}

mw_status history_publish(history *h) {
    MW_TRY(mw_file_publish(h->columns_partial, h->columns_path));
    return strcmp(h->lines_partial, h->lines_path) == 0 ? MW_OK : mw_file_publish(h->lines_partial, h->lines_path);
}

void history_clean(const char *folder) {
    checkpoints_prune(folder, 0);
    remove_files(folder, is_partial);
}

static mw_status publish_if_there(const char *folder, const char *name, const char *fingerprint) {
    return mw_file_publish_any(partial_path(folder, name, fingerprint, true), mw_path_join(folder, name));
}

mw_status mw_training_settle(const char *folder, const char *fingerprint) {
    MW_TRY(mw_sae_publish(folder));
    MW_TRY(publish_if_there(folder, columns_name, fingerprint));
    MW_TRY(publish_if_there(folder, lines_name, fingerprint));
    history_clean(folder);
    return MW_OK;
}

static mw_status set_aside(const char *folder, const char *name, const char *fingerprint) {
    return mw_file_publish_any(mw_path_join(folder, name), mw_sae_aside(folder, name, fingerprint));
}

mw_status mw_history_set_aside(const char *folder, const char *fingerprint) {
    MW_TRY(set_aside(folder, lines_name, fingerprint));
    return set_aside(folder, columns_name, fingerprint);
}

void history_close(history *h) {
    if (h->stream) fclose(h->stream);
    mw_free(h->lines_path);
    mw_free(h->columns_path);
    mw_free(h->lines_partial);
    mw_free(h->columns_partial);
    *h = (history){0};
}
