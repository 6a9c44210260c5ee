/* Pre-tokenizers: split a text into pieces that the token model encodes one by one. */
#include "model/tokenizer/split.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

const char *const split_behavior_names[SPLIT_BEHAVIORS] = {"Isolated", "Removed", "MergedWithPrevious",
                                                           "MergedWithNext", "Contiguous"};

static mw_status add_piece(pieces *out, size_t begin, size_t end, bool matched) {
    if (!MW_GROW(out->items, out->count, out->capacity)) return MW_ERR_MEMORY;
    out->items[out->count++] = (piece){begin, end, matched};
    return MW_OK;
}

static mw_status add_word(pieces *out, size_t begin, size_t end) {
    return begin < end ? add_piece(out, begin, end, false) : MW_OK;
}

mw_status splitters_apply(const splitters *list, const text_origin *origin, split_text *t) {
    t->items.count = 0;
    MW_TRY(add_word(&t->items, 0, t->text->length));
    for (int64_t i = 0; i < list->count; i++) {
        MW_TRY(list->items[i].apply(&list->items[i], origin, t));
        if (t->text->failed || t->scratch->failed) return MW_ERR_MEMORY;
    }
    return MW_OK;
}

void splitters_free(splitters *list) {
    for (int64_t i = 0; i < list->count; i++) pattern_free(list->items[i].pattern);
    mw_free(list->items);
    *list = (splitters){0};
}

void split_text_free(split_text *t) {
    mw_free(t->items.items);
    mw_free(t->spare.items);
    mw_free(t->matches.items);
}

/* ---- splitting at matches -------------------------------------------------------------------------------- */

/* Splits one piece; appends the new pieces to `out`. */
typedef mw_status piece_call(const splitter *s, const text_origin *origin, split_text *t, piece in, pieces *out);

static mw_status split_each(const splitter *s, const text_origin *origin, split_text *t, piece_call *split) {
    t->spare.count = 0;
    for (int64_t i = 0; i < t->items.count; i++) MW_TRY(split(s, origin, t, t->items.items[i], &t->spare));
    pieces kept = t->items;
    t->items = t->spare;
    t->spare = kept;
    return MW_OK;
}

/* Lists the matches in a piece and the text between them. */
static mw_status list_pattern_matches(const splitter *s, const text_origin *origin, const char *text, piece in,
                                      pieces *out) {
    size_t done = 0, begin, end, length = in.end - in.begin;
    bool found;
    pattern_search search;
    MW_TRY(pattern_search_begin(s->pattern, origin, text + in.begin, length, &search));
    for (;;) {
        MW_TRY(pattern_search_next(&search, &found, &begin, &end));
        if (!found) break;
        if (begin > done) MW_TRY(add_piece(out, in.begin + done, in.begin + begin, false));
        MW_TRY(add_piece(out, in.begin + begin, in.begin + end, true));
        done = end;
    }
    return done < length ? add_piece(out, in.begin + done, in.end, false) : MW_OK;
}

static mw_status list_character_matches(const splitter *s, const char *text, piece in, pieces *out) {
    size_t done = in.begin;
    for (size_t i = in.begin, n; i < in.end; i += n) {
        if (!s->is_match(s, unicode_read(text + i, &n))) continue;
        if (i > done) MW_TRY(add_piece(out, done, i, false));
        MW_TRY(add_piece(out, i, i + n, true));
        done = i + n;
    }
    return done < in.end ? add_piece(out, done, in.end, false) : MW_OK;
}

/* A match extends the piece before it, unless that ends with a match. */
static mw_status join_with_previous(const pieces *matches, pieces *out) {
    int64_t first = out->count;
    bool before = false;
    for (int64_t i = 0; i < matches->count; i++) {
        piece m = matches->items[i];
        if (m.matched && !before && out->count > first)
            out->items[out->count - 1].end = m.end;
        else
            MW_TRY(add_piece(out, m.begin, m.end, false));
        before = m.matched;
    }
    return MW_OK;
}

/* A match extends the piece behind it, unless that begins with a match. */
static mw_status join_with_next(const pieces *matches, pieces *out) {
    for (int64_t i = 0; i < matches->count; i++) {
        piece m = matches->items[i];
        bool joined = m.matched && i + 1 < matches->count && !matches->items[i + 1].matched;
        if (!joined) {
            MW_TRY(add_piece(out, m.begin, m.end, false));
            continue;
        }
        MW_TRY(add_piece(out, m.begin, matches->items[++i].end, false));
    }
    return MW_OK;
}

static mw_status join_neighbours(const pieces *matches, pieces *out) {
    int64_t first = out->count;
    bool before = false;
    for (int64_t i = 0; i < matches->count; i++) {
        piece m = matches->items[i];
        if (m.matched == before && out->count > first)
            out->items[out->count - 1].end = m.end;
        else
            MW_TRY(add_piece(out, m.begin, m.end, false));
        before = m.matched;
    }
    return MW_OK;
}

static void drop_empty(pieces *list, int64_t first) {
    int64_t kept = first;
    for (int64_t i = first; i < list->count; i++)
        if (list->items[i].begin < list->items[i].end) list->items[kept++] = list->items[i];
    list->count = kept;
}

static mw_status split_piece(const splitter *s, const text_origin *origin, split_text *t, piece in, pieces *out) {
    int64_t first = out->count;
    pieces *matches = &t->matches;
    matches->count = 0;
    if (s->pattern)
        MW_TRY(list_pattern_matches(s, origin, t->text->data, in, matches));
    else
        MW_TRY(list_character_matches(s, t->text->data, in, matches));
    for (int64_t i = 0; s->invert && i < matches->count; i++) matches->items[i].matched = !matches->items[i].matched;
    if (s->behavior == SPLIT_WITH_PREVIOUS)
        MW_TRY(join_with_previous(matches, out));
    else if (s->behavior == SPLIT_WITH_NEXT)
        MW_TRY(join_with_next(matches, out));
    else if (s->behavior == SPLIT_CONTIGUOUS)
        MW_TRY(join_neighbours(matches, out));
    else
        for (int64_t i = 0; i < matches->count; i++)
            if (s->behavior == SPLIT_ISOLATED || !matches->items[i].matched)
                MW_TRY(add_piece(out, matches->items[i].begin, matches->items[i].end, false));
    drop_empty(out, first);
    return MW_OK;
}

mw_status split_by_match(const splitter *s, const text_origin *origin, split_text *t) {
    return split_each(s, origin, t, split_piece);
}

bool is_space_match(const splitter *s, uint32_t code) {
    (void)s;
    return unicode_is_space(code);
}

bool is_punctuation_match(const splitter *s, uint32_t code) {
    (void)s;
    return unicode_facts(code) & FACT_PUNCTUATION;
}

bool is_numeric_match(const splitter *s, uint32_t code) {
    (void)s;
    return unicode_facts(code) & FACT_NUMERIC;
}

bool is_code_match(const splitter *s, uint32_t code) {
    return code == s->code;
}

mw_status split_bert(const splitter *s, const text_origin *origin, split_text *t) {
    (void)s;
    static const splitter spaces = {.is_match = is_space_match, .behavior = SPLIT_REMOVED},
                          punctuation = {.is_match = is_punctuation_match, .behavior = SPLIT_ISOLATED};
    MW_TRY(split_by_match(&spaces, origin, t));
    return split_by_match(&punctuation, origin, t);
}

/* ---- other rules ------------------------------------------------------------------------------------------- */

/* Runs of word characters, and runs of others that are no spaces. */
static mw_status split_words(const splitter *s, const text_origin *origin, split_text *t, piece in, pieces *out) {
    (void)s, (void)origin;
    enum { NONE, SPACE, WORD, OTHER } kind = NONE;
    size_t begin = in.begin;
    for (size_t i = in.begin, n; i < in.end; i += n) {
        uint32_t code = unicode_read(t->text->data + i, &n);
        int next = unicode_is_space(code) ? SPACE : unicode_facts(code) & FACT_REGEX_WORD ? WORD : OTHER;
        if (next == (int)kind) continue;
        if (kind != SPACE) MW_TRY(add_word(out, begin, i));
        begin = i;
        kind = next;
    }
    return kind != SPACE ? add_word(out, begin, in.end) : MW_OK;
}

mw_status split_whitespace(const splitter *s, const text_origin *origin, split_text *t) {
    return split_each(s, origin, t, split_words);
}

static mw_status split_lengths(const splitter *s, const text_origin *origin, split_text *t, piece in, pieces *out) {
    (void)origin;
    int64_t characters = 0;
    size_t begin = in.begin;
    for (size_t i = in.begin, n; i < in.end; i += n) {
        if (characters++ == s->length) {
            MW_TRY(add_word(out, begin, i));
            begin = i;
            characters = 1;
        }
        unicode_read(t->text->data + i, &n);
    }
    return add_word(out, begin, in.end);
}

mw_status split_fixed_length(const splitter *s, const text_origin *origin, split_text *t) {
    return split_each(s, origin, t, split_lengths);
}

/* Runs of one script. As in the reference library, characters of any script in front of the first one are dropped. */
static mw_status split_script_runs(const splitter *s, const text_origin *origin, split_text *t, piece in, pieces *out) {
    (void)s, (void)origin;
    int before = 0;
    size_t begin = in.end;
    for (size_t i = in.begin, n; i < in.end; i += n) {
        int class = unicode_script_class(unicode_read(t->text->data + i, &n));
        if (class == 0 || class == before) continue;
        if (before) MW_TRY(add_word(out, begin, i));
        begin = i;
        before = class;
    }
    return add_word(out, begin, in.end);
}

mw_status split_scripts(const splitter *s, const text_origin *origin, split_text *t) {
    return split_each(s, origin, t, split_script_runs);
}

/* ---- rules that change the text ---------------------------------------------------------------------------- */

/* Appends the new text of some bytes of a piece. */
typedef void rewrite_call(const char *bytes, size_t length, const char *mark, mw_text *out);

static void write_marks(const char *bytes, size_t length, const char *mark, mw_text *out) {
    for (size_t i = 0; i < length; i++) {
        bool space = bytes[i] == ' ';
        mw_text_add(out, space ? mark : bytes + i, space ? strlen(mark) : 1);
    }
}

static void write_bytes(const char *bytes, size_t length, const char *mark, mw_text *out) {
    (void)mark;
    byte_level_write(out, bytes, length);
}

/* Rewrites the characters of all pieces; what is in no piece is dropped. */
static void rewrite_pieces(split_text *t, rewrite_call *rewrite, const char *mark) {
    size_t lead = 0;
    t->scratch->length = 0;
    for (int64_t i = 0; i < t->items.count; i++) {
        piece *p = &t->items.items[i];
        size_t begin = t->scratch->length, leading = p->begin < t->lead ? t->lead - p->begin : 0;
        if (leading > p->end - p->begin) leading = p->end - p->begin;
        rewrite(t->text->data + p->begin, leading, mark, t->scratch);
        if (leading > 0) lead = t->scratch->length;
        rewrite(t->text->data + p->begin + leading, p->end - p->begin - leading, mark, t->scratch);
        *p = (piece){begin, t->scratch->length, false};
    }
    t->lead = lead;
    mw_text_swap(t->text, t->scratch);
}

/* Puts `mark` before pieces that do not begin with it: all, or those that begin where the input does. */
static void prefix_pieces(split_text *t, const char *mark, bool only_first) {
    size_t n = strlen(mark), lead = 0;
    t->scratch->length = 0;
    for (int64_t i = 0; i < t->items.count; i++) {
        piece *p = &t->items.items[i];
        size_t begin = t->scratch->length, length = p->end - p->begin;
        bool leads = p->begin < t->lead;
        bool has = length >= n && memcmp(t->text->data + p->begin, mark, n) == 0;
        if (!has && (leads || !only_first)) mw_text_add(t->scratch, mark, n);
        if (leads) lead = t->scratch->length + (t->lead - p->begin < length ? t->lead - p->begin : length);
        mw_text_add(t->scratch, t->text->data + p->begin, length);
        *p = (piece){begin, t->scratch->length, false};
    }
    t->lead = lead;
    mw_text_swap(t->text, t->scratch);
}

mw_status split_metaspace(const splitter *s, const text_origin *origin, split_text *t) {
    char mark[5] = "";
    mark[unicode_write(s->code, mark)] = '\0';
    rewrite_pieces(t, write_marks, mark);
    if (s->prefix != PREFIX_NEVER) prefix_pieces(t, mark, s->prefix == PREFIX_FIRST);
    return s->split ? split_by_match(s, origin, t) : MW_OK;
}

mw_status split_byte_level(const splitter *s, const text_origin *origin, split_text *t) {
    if (s->prefix == PREFIX_ALWAYS) prefix_pieces(t, " ", false);
    if (s->pattern) MW_TRY(split_by_match(s, origin, t));
    if (s->writes_bytes) rewrite_pieces(t, write_bytes, NULL);
    return MW_OK;
}
