/* Words that a model has no token for. */
#include "model/tokenizer/word_models.h"

#include <stdio.h>
#include <string.h>

mw_status no_unknown_token(const token_model *m, const text_origin *origin, const char *word, size_t length) {
    char problem[160];
    if (m->unk_token)
        snprintf(problem, sizeof problem, "the unknown token '%.64s' is not in the vocabulary", m->unk_token);
    else
        snprintf(problem, sizeof problem, "a word has no tokens, and the model has no unknown token");
    return text_error(origin, problem, word, length);
}

int32_t byte_token(const token_model *m, unsigned char byte) {
    char text[8];
    int n = snprintf(text, sizeof text, "<0x%02X>", byte);
    return vocabulary_find(&m->tokens, text, (size_t)n);
}

mw_status put_byte_tokens(const token_model *m, const char *bytes, size_t length, mw_ids *out, bool *done) {
    int64_t first = out->count;
    *done = true;
    for (size_t i = 0; i < length; i++) {
        int32_t id = byte_token(m, (unsigned char)bytes[i]);
        if (id < 0) {
            out->count = first;
            *done = false;
            return MW_OK;
        }
        MW_TRY(mw_ids_add(out, id));
    }
    return MW_OK;
}
