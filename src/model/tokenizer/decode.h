/* Decoders: tokens back to text. */
#ifndef MICROW_MODEL_TOKENIZER_DECODE_H
#define MICROW_MODEL_TOKENIZER_DECODE_H

#include "model/tokenizer/normalize.h"

/* A list of texts, one behind the other in `bytes`. */
typedef struct text_list {
    mw_text bytes;
    size_t *ends; /* [count] */
    int64_t count, capacity;
} text_list;
void text_list_free(text_list *list);
/* Ends the text that was added to list->bytes last. */
mw_status text_list_end(text_list *list) MW_MUST_USE;

typedef struct decoder decoder;
/* Reads `in` and appends to the empty list `out`. */
typedef mw_status decode_call(const decoder *d, const text_list *in, text_list *out);
struct decoder {
    decode_call *apply;
    pattern *pattern; /* of Replace; owned, as `text` and `other` */
    char *text;       /* content of Replace, prefix of WordPiece, suffix of BPEDecoder, pad token of CTC */
    char *other;      /* word delimiter of CTC */
    uint32_t code;    /* of Strip and Metaspace */
    int64_t start, stop;
    bool cleanup, drops_first; /* drops_first: Metaspace drops the marks of the first token */
};
typedef struct decoders {
    decoder *items;
    int64_t count, capacity;
} decoders;

decode_call decode_byte_level, decode_byte_fallback, decode_fuse, decode_strip, decode_metaspace, decode_replace,
    decode_wordpiece, decode_bpe, decode_ctc;

/* Appends the text of a list of tokens; without decoders, tokens have spaces between them. */
mw_status decoders_apply(const decoders *list, text_list *tokens, mw_text *out) MW_MUST_USE;
void decoders_free(decoders *list);
/* Recognizes "<0xAB>". */
bool is_byte_token(const char *token, size_t length, unsigned char *byte);

#endif
