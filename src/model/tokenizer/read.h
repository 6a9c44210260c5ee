/* What the readers of tokenizer files share. */
#ifndef MICROW_MODEL_TOKENIZER_READ_H
#define MICROW_MODEL_TOKENIZER_READ_H

#include "model/tokenizer/tokenizer_private.h"

typedef struct reader {
    const char *path; /* of the file being read */
    mw_tokenizer *t;
} reader;

/* Logs that a component, such as "normalizer" 'Foo', is not implemented; returns MW_ERR_UNSUPPORTED. */
mw_status unsupported(const reader *r, const char *what, const char *type);
/* Read members of an object of the file and check their types. */
mw_status get_text(const reader *r, const json_t *part, const char *key, const char *initial, const char **out);
mw_status get_flag(const reader *r, const json_t *part, const char *key, bool initial, bool *out);
mw_status get_list(const reader *r, const json_t *part, const char *key, const json_t **out);
mw_status get_object(const reader *r, const json_t *part, const char *key, const json_t **out);
mw_status get_whole(const reader *r, const json_t *part, const char *key, int64_t initial, int64_t *out);
/* Copies a text of any characters, also NUL. MW_ERR_FORMAT if it is absent. */
mw_status copy_bytes(const reader *r, const json_t *part, const char *key, char **out, size_t *length);
/* Copies a text without NUL; `initial` if absent. */
mw_status copy_text(const reader *r, const json_t *part, const char *key, const char *initial, char **out);
/* Reads a text of one character. */
mw_status get_character(const reader *r, const json_t *part, const char *key, uint32_t *out);
/* Compiles {"String": ...} or {"Regex": ...} of member `pattern`. */
mw_status read_pattern(const reader *r, const json_t *part, pattern **out);
/* Calls `read` for each component: of the list `key` if `part` has the type Sequence, else of `part` itself; for none
 * if `part` is NULL or null. */
typedef mw_status read_call(const reader *r, const json_t *part);
mw_status read_components(const reader *r, const json_t *part, const char *key, read_call *read);

/* As read_components, for the text of a component, or "null". */
mw_status read_text_part(const reader *r, const char *text, const char *key, read_call *read);

/* Decodes base64 into `out` (room for 3/4 of the text); false: another character. */
bool decode_base64(const char *text, size_t length, unsigned char *out, size_t *made);

/* The readers of the parts of tokenizer.json. */
read_call read_normalizer, read_splitter, read_decoder, read_processor;
/* Reads "model"; added tokens come later. */
mw_status read_model(const reader *r, const json_t *model) MW_MUST_USE;

/* For other readers of BPE models. */
mw_status begin_vocabulary(mw_tokenizer *t, int64_t size) MW_MUST_USE;
/* Adds a token to both tables: as the file writes it, and as words are looked up (raw bytes in byte-level models). */
mw_status put_token(mw_tokenizer *t, const char *token, size_t length, int32_t id) MW_MUST_USE;
/* MW_ERR_FORMAT unless `id` is a number that a token may have. */
mw_status check_id(const reader *r, const char *token, const json_t *id) MW_MUST_USE;
/* Adds the members of a JSON object of tokens and ids. */
mw_status put_vocabulary(const reader *r, const json_t *vocab) MW_MUST_USE;
/* A token of a merge; borrowed. */
typedef struct token_text {
    const char *bytes;
    size_t length;
} token_text;
mw_status put_merge(const reader *r, token_text left, token_text right, int32_t rank) MW_MUST_USE;
/* Splits a line at its only space; false: none, or several. */
bool split_pair(const char *line, size_t length, token_text *left, token_text *right);

/* A token as a file declares it. */
typedef struct declared_token {
    const char *content; /* borrowed */
    size_t length;
    bool special, normalized, left_strip, right_strip, single_word;
} declared_token;
/* Returns the id of the next new token of a batch. */
int32_t next_added_id(const mw_tokenizer *t);
/* Adds a token, or changes its flags; a new one gets the id *next, which then grows. */
mw_status put_added(const reader *r, const declared_token *token, int32_t *next) MW_MUST_USE;
/* Reads an object with "content" and flags. */
mw_status read_declared(const reader *r, const json_t *item, declared_token *out) MW_MUST_USE;

/* What tokenizer_config.json and config.json of a folder say of the tokenizer's class. */
typedef struct class_files {
    json_t *config, *model; /* NULL: absent or malformed */
    const char *name;       /* tokenizer_class of tokenizer_config.json; borrowed, or NULL */
    const char *type;       /* model_type of config.json; borrowed, or NULL */
} class_files;
class_files class_files_open(const char *folder);
void class_files_close(class_files *files);

/* Messages about texts name the tokenizer's file. */
mw_status set_path(mw_tokenizer *t, const char *path) MW_MUST_USE;

#endif
