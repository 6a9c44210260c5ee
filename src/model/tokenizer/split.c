/* Pre-tokenizers: split a text into pieces that merges do not cross. */
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>

const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum { HEAP_KIB = 1 << 20 }; /* memory limit of a backtracking match; PCRE2's default is 20 GB */

/* PCRE2 counts U+180E as white space, the reference engines do not: rewrite_white_space expands \s and \S. */
#define WHITE "\\t-\\r\\x{85}\\p{Z}"

static void rewrite_white_space(const char *pattern, mw_text *out) {
    bool in_class = false;
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            if (*p == 's')
                mw_text_addf(out, in_class ? WHITE : "[" WHITE "]");
            else if (*p == 'S' && !in_class)
                mw_text_addf(out, "[^" WHITE "]");
            else
                mw_text_addf(out, "\\%c", *p);
            continue;
        }
        if (*p == '[') in_class = true;
        if (*p == ']') in_class = false;
        mw_text_add(out, p, 1);
    }
}

mw_status regex_compile(const char *where, const char *pattern, step *out) {
    mw_text text = {0};
    rewrite_white_space(pattern, &text);
    if (text.failed) return MW_ERR_MEMORY;
    int code = 0;
    PCRE2_SIZE offset = 0;
    out->regex = pcre2_compile((PCRE2_SPTR)text.data, text.length, PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code,
                               &offset, NULL);
    mw_text_free(&text);
    if (!out->regex) {
        PCRE2_UCHAR message[160];
        pcre2_get_error_message(code, message, sizeof message);
        return mw_error(MW_ERR_FORMAT, "%s: pattern '%s': %s at %zu", where, pattern, (const char *)message,
                        (size_t)offset);
    }
    pcre2_jit_compile(out->regex, PCRE2_JIT_COMPLETE); /* without JIT, matching is only slower */
    out->match = pcre2_match_data_create_from_pattern(out->regex, NULL);
    out->context = pcre2_match_context_create(NULL);
    if (!out->match || !out->context) return mw_error(MW_ERR_MEMORY, "%s: out of memory for a pattern", where);
    pcre2_set_heap_limit(out->context, HEAP_KIB);
    return MW_OK;
}

void steps_free(steps *list) {
    for (int64_t i = 0; i < list->count; i++) {
        step *s = &list->items[i];
        mw_free(s->text);
        mw_free(s->replacement);
        if (s->match) pcre2_match_data_free(s->match);
        if (s->context) pcre2_match_context_free(s->context);
        if (s->regex) pcre2_code_free(s->regex);
    }
    mw_free(list->items);
    *list = (steps){0};
}

static mw_status add_piece(pieces *out, size_t begin, size_t end) {
    if (begin == end) return MW_OK;
    if (!MW_GROW(out->items, out->count, out->capacity)) return MW_ERR_MEMORY;
    out->items[out->count++] = (piece){begin, end};
    return MW_OK;
}

/* JIT code has a small stack: matches that do not fit are repeated without JIT. */
static int match(const step *s, const char *text, size_t length, size_t from) {
    int code = pcre2_match(s->regex, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, s->match, s->context);
    if (code != PCRE2_ERROR_JIT_STACKLIMIT) return code;
    return pcre2_match(s->regex, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match,
                       s->context);
}

static mw_status match_error(const text_origin *origin, int code, const char *text, size_t length) {
    PCRE2_UCHAR reason[96];
    char problem[160];
    pcre2_get_error_message(code, reason, sizeof reason);
    snprintf(problem, sizeof problem, "a pattern of the pre-tokenizer failed (%s)", (const char *)reason);
    return text_error(origin, problem, text, length);
}

/* Finds the next match at or after `from` inside the piece, skipping empty matches. */
static mw_status next_match(const step *s, const text_origin *origin, const char *text, piece in, size_t from,
                            bool *found, piece *hit) {
    *found = false;
    while (from < in.end) {
        int code = match(s, text + in.begin, in.end - in.begin, from - in.begin);
        if (code == PCRE2_ERROR_NOMATCH) return MW_OK;
        if (code < 0) return match_error(origin, code, text + from, in.end - from);
        const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(s->match);
        if (ovector[1] > ovector[0]) {
            *hit = (piece){in.begin + ovector[0], in.begin + ovector[1]};
            *found = true;
            return MW_OK;
        }
        from = in.begin + ovector[1] + 1;
        while (from < in.end && ((unsigned char)text[from] & 0xc0) == 0x80) from++;
    }
    return MW_OK;
}

static mw_status split_piece(const step *s, const text_origin *origin, const char *text, piece in, pieces *out) {
    size_t done = in.begin, from = in.begin;
    for (;;) {
        bool found;
        piece hit;
        MW_TRY(next_match(s, origin, text, in, from, &found, &hit));
        if (!found) return add_piece(out, done, in.end);
        from = hit.end;
        if (s->behavior == SPLIT_WITH_PREVIOUS) {
            MW_TRY(add_piece(out, done, hit.end));
            done = hit.end;
            continue;
        }
        bool gap_kept = !(s->invert && s->behavior == SPLIT_REMOVED),
             hit_kept = s->invert || s->behavior != SPLIT_REMOVED;
        if (gap_kept) MW_TRY(add_piece(out, done, hit.begin));
        if (s->behavior == SPLIT_WITH_NEXT) {
            done = hit.begin;
            continue;
        }
        if (hit_kept) MW_TRY(add_piece(out, hit.begin, hit.end));
        done = hit.end;
    }
}

static mw_status split_all(const step *s, const text_origin *origin, const char *text, pieces *in, pieces *out) {
    out->count = 0;
    for (int64_t i = 0; i < in->count; i++) MW_TRY(split_piece(s, origin, text, in->items[i], out));
    pieces kept = *in;
    *in = *out;
    *out = kept;
    return MW_OK;
}

/* Prepends `prefix` to each piece, or only the first, unless it begins with it. */
static mw_status prefix_pieces(mw_text *text, mw_text *scratch, pieces *list, const char *prefix, bool only_first) {
    size_t n = strlen(prefix);
    scratch->length = 0;
    for (int64_t i = 0; i < list->count; i++) {
        piece *p = &list->items[i];
        size_t begin = scratch->length;
        bool has = p->end - p->begin >= n && memcmp(text->data + p->begin, prefix, n) == 0;
        if (!has && (!only_first || i == 0)) mw_text_add(scratch, prefix, n);
        mw_text_add(scratch, text->data + p->begin, p->end - p->begin);
        *p = (piece){begin, scratch->length};
    }
    mw_text_swap(text, scratch);
    return text->failed || scratch->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status mark_spaces(mw_text *text, mw_text *scratch, pieces *list) {
    scratch->length = 0;
    for (int64_t i = 0; i < list->count; i++) {
        piece *p = &list->items[i];
        size_t begin = scratch->length;
        for (size_t j = p->begin; j < p->end; j++) {
            bool space = text->data[j] == ' ';
            mw_text_add(scratch, space ? SPACE_MARK : text->data + j, space ? 3 : 1);
        }
        *p = (piece){begin, scratch->length};
    }
    mw_text_swap(text, scratch);
    return text->failed || scratch->failed ? MW_ERR_MEMORY : MW_OK;
}

static mw_status metaspace(const step *s, const text_origin *origin, bool first, mw_text *text, mw_text *scratch,
                           pieces *list, pieces *spare) {
    MW_TRY(mark_spaces(text, scratch, list));
    if (s->prefix_space && (!s->only_first || first))
        MW_TRY(prefix_pieces(text, scratch, list, SPACE_MARK, s->only_first));
    return s->split ? split_all(s, origin, text->data, list, spare) : MW_OK;
}

mw_status steps_split(const steps *list, const text_origin *origin, bool first, mw_text *text, mw_text *scratch,
                      pieces *out, pieces *spare) {
    out->count = 0;
    MW_TRY(add_piece(out, 0, text->length));
    for (int64_t i = 0; i < list->count; i++) {
        const step *s = &list->items[i];
        if (s->kind == STEP_METASPACE) {
            MW_TRY(metaspace(s, origin, first, text, scratch, out, spare));
            continue;
        }
        if (s->kind == STEP_BYTE_LEVEL && s->prefix_space) MW_TRY(prefix_pieces(text, scratch, out, " ", false));
        if (s->regex) MW_TRY(split_all(s, origin, text->data, out, spare));
    }
    return MW_OK;
}
