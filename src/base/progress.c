/* Progress of a task: a live line on a terminal, plain lines on a terminal without cursor movement, JSON lines
 * elsewhere. */
#include "base/progress_line.h"
#include "base/log_hook.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- in words ---------------------------------------------------------------------------------------------------- */

/* Three digits and a unit of thousands: 7, 942, 1.23k, 279k. */
static void add_amount(mw_text *out, double value) {
    static const char units[] = " kMGT";
    int unit = 0;
    while (fabs(value) >= 999.5 && units[unit + 1]) {
        value /= 1000;
        unit++;
    }
    mw_text_addf(out, "%.3g", value);
    if (unit) mw_text_addf(out, "%c", units[unit]);
}

static void add_time(mw_text *out, double seconds) {
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 9.95)
        mw_text_addf(out, "%.1f s", seconds);
    else if (whole < 60)
        mw_text_addf(out, "%lld s", whole);
    else if (whole < 3600)
        mw_text_addf(out, "%lld min %02lld s", whole / 60, whole % 60);
    else if (whole < 172800)
        mw_text_addf(out, "%lld h %02lld min", whole / 3600, whole / 60 % 60);
    else
        mw_text_addf(out, "%lld d %02lld h", whole / 86400, whole / 3600 % 24);
}

/* Appends a field if it fits into `width` columns. */
static bool add_field(mw_text *line, const mw_text *field, int width) {
    int columns = mw_text_columns(field->data, field->length) + (line->length ? 2 : 0);
    if (field->failed || mw_text_columns(line->data, line->length) + columns > width) return false;
    mw_text_addf(line, "%s%s", line->length ? ", " : "", field->data);
    return true;
}

/* Appends the comma-separated fields of `words` as far as they fit. */
static bool add_words(mw_text *line, const char *words, int width) {
    bool fits = true;
    while (words && *words && fits) {
        size_t length = strcspn(words, ",");
        mw_text field = {0};
        mw_text_add(&field, words, length);
        fits = add_field(line, &field, width);
        mw_text_free(&field);
        words += length + strspn(words + length, ", ");
    }
    return fits;
}

static void describe_field(const mw_progress *p, int64_t done, double seconds, bool over, int field, mw_text *out) {
    double rate = seconds > 0 ? (double)done / seconds : 0;
    out->length = 0;
    if (field == 0 && over) {
        mw_text_addf(out, "%s ", p->what);
        add_amount(out, (double)done);
        mw_text_addf(out, " %s in ", p->unit);
        add_time(out, seconds);
    } else if (field == 0) {
        mw_text_addf(out, "%s %.0f %%", p->what, p->total > 0 ? 100.0 * (double)done / (double)p->total : 100.0);
    } else if (field == 1 && !over && rate > 0) {
        add_time(out, (double)(p->total - done) / rate);
        mw_text_addf(out, " left");
    } else if (field == 2 && rate > 0) {
        add_amount(out, rate);
        mw_text_addf(out, " %s/s", p->unit);
    } else if (field == 3 && !over) {
        add_amount(out, (double)done);
        mw_text_addf(out, " of ");
        add_amount(out, (double)p->total);
        mw_text_addf(out, " %s", p->unit);
    }
}

void progress_line(const mw_progress *progress, int64_t done, double seconds, const char *words, bool over, int width,
                   mw_text *out) {
    mw_text field = {0};
    bool fits = true;
    out->length = 0;
    mw_text_add(out, "", 0);
    for (int i = 0; i < 4 && fits; i++) {
        if (i == 3) fits = add_words(out, words, width);
        describe_field(progress, done, seconds, over, i, &field);
        if (fits && field.length) fits = add_field(out, &field, width);
    }
    mw_text_free(&field);
}

/* ---- the terminal ------------------------------------------------------------------------------------------------ */

/* Columns of the live line on the terminal; 0: none. */
static int shown_columns;

/* Queried for each line, since windows are resized. */
static int terminal_columns(void) {
    struct winsize size = {0};
    int64_t columns = 0;
    const char *given = mw_environment("COLUMNS");
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return given && mw_parse_int(given, &columns) && columns > 0 && columns < 10000 ? (int)columns : 80;
}

/* Erases the live line; a window that became narrower has wrapped it into several rows. Row by row: some terminals
 * move an erased screen into the scroll-back buffer. */
static void erase(int columns) {
    fputs("\r\033[K", stderr);
    for (int left = shown_columns; left > columns; left -= columns) fputs("\033[A\033[K", stderr);
    shown_columns = 0;
}

void mw_progress_clear(void) {
    if (!shown_columns) return;
    erase(terminal_columns());
    fflush(stderr);
}

static bool can_move(void) {
    const char *kind = mw_environment("TERM");
    return kind && strcmp(kind, "dumb") != 0;
}

void mw_progress_begin(mw_progress *progress, const char *what, const char *unit, int64_t total, bool active) {
    double now = mw_seconds();
    bool terminal = isatty(STDERR_FILENO) == 1;
    *progress = (mw_progress){.what = what,
                              .unit = unit,
                              .total = total,
                              .start = now,
                              .last = now,
                              .active = active && mw_log_shows(MW_LOG_INFO),
                              .terminal = terminal,
                              .live = terminal && can_move()};
    if (progress->live) log_before_line(mw_progress_clear);
}

/* One column stays free: some terminals wrap a line that fills a row. */
static void show_line(const mw_progress *progress, int64_t done, double seconds, const char *words, bool over) {
    int columns = terminal_columns();
    mw_text line = {0};
    progress_line(progress, done, seconds, words, over, columns > 1 ? columns - 1 : 1, &line);
    if (progress->live && shown_columns) erase(columns);
    if (!line.failed) fprintf(stderr, "%s%s", line.data, over || !progress->live ? "\n" : "");
    shown_columns = over || !progress->live ? 0 : mw_text_columns(line.data, line.length);
    mw_text_free(&line);
}

static void show_json(const mw_progress *progress, int64_t done, double elapsed, const char *pairs, bool over) {
    double rate = elapsed > 0 ? (double)done / elapsed : 0;
    double left = rate > 0 && !over ? (double)(progress->total - done) / rate : 0;
    fprintf(stderr,
            "{\"stage\":\"%s\",\"done\":%lld,\"total\":%lld,\"unit\":\"%s\",\"per_second\":%.6g,"
            "\"elapsed_s\":%.2f,\"eta_s\":%.2f%s%s}\n",
            progress->what, (long long)done, (long long)progress->total, progress->unit, rate, elapsed, left,
            pairs ? "," : "", pairs ? pairs : "");
}

static void show(const mw_progress *progress, int64_t done, const mw_progress_extra *extra, bool over) {
    double elapsed = mw_seconds() - progress->start;
    if (progress->terminal)
        show_line(progress, done, elapsed, extra ? extra->words : NULL, over);
    else
        show_json(progress, done, elapsed, extra ? extra->pairs : NULL, over);
    fflush(stderr);
}

void mw_progress_update(mw_progress *progress, int64_t done, const mw_progress_extra *extra) {
    if (!progress->active) return;
    if (progress->live && done >= progress->total) { /* results follow on the next line */
        mw_progress_clear();
        return;
    }
    double now = mw_seconds(), every = progress->live ? 0.2 : 5.0;
    if (now - progress->last < every) return;
    progress->last = now;
    show(progress, done, extra, false);
}

void mw_progress_end(mw_progress *progress, int64_t done, const mw_progress_extra *extra) {
    if (progress->active) show(progress, done, extra, true);
    progress->active = false;
}
