/* Errors about a text that is being encoded. */
#ifndef MICROW_MODEL_TOKENIZER_TEXT_ERROR_H
#define MICROW_MODEL_TOKENIZER_TEXT_ERROR_H

#include "microw/base.h"

/* The origin of a text, for messages. */
typedef struct text_origin {
    const char *tokenizer;   /* path of its file */
    const char *path, *what; /* from mw_tokenizer_set_source; may be NULL */
    int64_t number;
    size_t byte; /* of the text at which the current span begins */
} text_origin;
/* Logs and returns MW_ERR_FORMAT: tokenizer, problem, origin, and the first characters of `begin`. */
mw_status text_error(const text_origin *origin, const char *problem, const char *begin, size_t length);

#endif
