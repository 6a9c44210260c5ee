/* CSV as RFC 4180 describes it: fields between delimiters, in quotes where they hold delimiters, line ends or quotes,
 * and a quote inside written twice. Lines end with LF, CRLF or CR; a byte order mark at the start and blank lines are
 * skipped. What is not so (an unclosed quote, text behind a closing one) is refused with its line. */
#ifndef MICROW_BASE_CSV_H
#define MICROW_BASE_CSV_H

#include "microw/base.h"

typedef struct mw_csv {
    const char *path; /* for messages; borrowed, as `text` */
    const char *text;
    size_t length, at; /* where the next record begins */
    char delimiter;
    int64_t next_line;
    /* The record at hand. */
    int64_t line;      /* on which it begins */
    size_t begin, end; /* where it lies, without its line end */
    int64_t n_fields, capacity;
    size_t *starts; /* [n_fields + 1]; in `bytes`, in which a NUL ends each field */
    mw_text bytes;
} mw_csv;

void mw_csv_begin(const char *path, const char *text, size_t length, char delimiter, mw_csv *out);
/* Reads the next record; `found` is false at the end. */
mw_status mw_csv_next(mw_csv *csv, bool *found) MW_MUST_USE;
/* Field `i` of the record at hand, until the next call; `length` may be NULL. Behind the last field: "". */
const char *mw_csv_field(const mw_csv *csv, int64_t i, size_t *length);
void mw_csv_free(mw_csv *csv);

#endif
