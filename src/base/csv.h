/* Reader of CSV by RFC 4180: a field with delimiters, line ends or quotes is quoted, a quote inside is written twice.
 * Lines end with LF, CRLF or CR; a byte order mark at the start and blank lines are skipped. An unclosed quote and text
 * after a closing quote are MW_ERR_FORMAT with the line. */
#ifndef MICROW_BASE_CSV_H
#define MICROW_BASE_CSV_H

#include "microw/base.h"

typedef struct mw_csv {
    const char *path; /* for messages; borrowed, as `text` */
    const char *text;
    size_t length, at; /* at: start of the next record */
    char delimiter;
    int64_t next_line;
    /* The current record. */
    int64_t line;      /* of its first byte */
    size_t begin, end; /* byte range in `text`, without the line end */
    int64_t n_fields, capacity;
    size_t *starts; /* [n_fields + 1]: offsets into `bytes`, where a NUL ends each field */
    mw_text bytes;
} mw_csv;

/* Starts at the first record. `path` and `text` are borrowed until mw_csv_free. */
void mw_csv_begin(const char *path, const char *text, size_t length, char delimiter, mw_csv *out);
/* Reads the next record; `found` is false at the end. MW_ERR_FORMAT, MW_ERR_MEMORY. */
mw_status mw_csv_next(mw_csv *csv, bool *found) MW_MUST_USE;
/* Returns field `i` of the current record, valid until the next mw_csv_next; "" after the last field. `length` may
 * be NULL. */
const char *mw_csv_field(const mw_csv *csv, int64_t i, size_t *length);
void mw_csv_free(mw_csv *csv);

#endif
