/* Lengths of texts in characters. */
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/unicode.h"

size_t bytes_of_characters(const char *text, size_t length, size_t count) {
    size_t i = 0, n;
    for (; count > 0 && i < length; count--, i += n) unicode_read(text + i, &n);
    return i;
}
