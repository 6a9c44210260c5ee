/* Second pass of discovery: the windows of tokens around the rows found, and the latent's activation on each token. It
 * takes them from the codes of the first pass, or encodes the tiles of rows that windows need. Tiles begin where those
 * of the first pass do, so activations are the same bytes. */
#include "concepts/discovery.h"

#include <stdlib.h>
#include <string.h>

/* ---- tokens of the windows -------------------------------------------------------------------------------------- */

/* Sets the rows of text `t`: its row and `around` on each side, within sequence and document. Empty for an unused
 * text. */
static void window_of(const mw_discovery *d, const mw_store_tokens *tokens, int64_t t, int64_t *begin, int64_t *end) {
    int64_t row = d->text_row[t];
    *begin = *end = 0;
    if (row < 0) return;
    mw_store_span span = mw_store_span_of(tokens, row);
    *begin = row - d->around > span.begin ? row - d->around : span.begin;
    *end = row + d->around + 1 < span.end ? row + d->around + 1 : span.end;
}

static void set_center(const mw_store_tokens *tokens, mw_discovery *d, int64_t t, int64_t begin) {
    int64_t row = d->text_row[t];
    d->text_center[t] = (int32_t)(row - begin);
    d->text_document[t] = mw_store_span_of(tokens, row).document;
    d->text_position[t] = (int32_t)tokens->position[row];
}

static mw_status make_windows(const mw_store_tokens *tokens, mw_discovery *d) {
    int64_t n = d->n * d->per, total = 0, begin, end;
    d->text_start = mw_alloc((size_t)(n + 1) * sizeof *d->text_start);
    d->text_center = mw_calloc((size_t)n, sizeof *d->text_center);
    d->text_document = mw_calloc((size_t)n, sizeof *d->text_document);
    d->text_position = mw_calloc((size_t)n, sizeof *d->text_position);
    if (!d->text_start || !d->text_center || !d->text_document || !d->text_position) return MW_ERR_MEMORY;
    for (int64_t t = 0; t < n; t++) {
        window_of(d, tokens, t, &begin, &end);
        d->text_start[t] = total;
        if (end > begin) set_center(tokens, d, t, begin);
        total += end - begin;
    }
    d->text_start[n] = total;
    d->text_id = mw_alloc((size_t)total * sizeof *d->text_id);
    d->text_value = mw_calloc((size_t)total, sizeof *d->text_value);
    if (!d->text_id || !d->text_value) return MW_ERR_MEMORY;
    for (int64_t t = 0; t < n; t++) {
        window_of(d, tokens, t, &begin, &end);
        for (int64_t r = begin; r < end; r++) d->text_id[d->text_start[t] + r - begin] = (int32_t)tokens->ids[r];
    }
    return MW_OK;
}

/* ---- activations in the windows --------------------------------------------------------------------------------- */

typedef struct window {
    int64_t begin, end; /* rows */
    int64_t text;
} window;

static int earliest_first(const void *a, const void *b) {
    const window *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->text < y->text ? -1 : 1;
}

typedef struct second_pass {
    const mw_sae *sae;
    const mw_store_view *in;
    mw_discovery *d;
    window *list; /* windows of this rank's blocks, earliest first */
    int64_t count;
    bool *wanted; /* tiles of the block that windows need */
    float *x;
    mw_codes codes;
} second_pass;

enum { RUN_TILES = 8 }; /* tiles encoded at once */

/* Sets the window's activations on the rows of `codes`, of which the first is row `first`. */
static void fill_window(second_pass *p, const window *w, const mw_codes *codes, int64_t first) {
    int64_t last = first + codes->rows, begin = w->begin > first ? w->begin : first,
            end = w->end < last ? w->end : last;
    float *value = p->d->text_value + p->d->text_start[w->text];
    for (int64_t r = begin; r < end; r++) value[r - w->begin] = mw_codes_find(codes, r - first, w->text / p->d->per);
}

static void fill_windows(second_pass *p, int64_t from, int64_t to, const mw_codes *codes, int64_t first) {
#pragma omp parallel for schedule(static)
    for (int64_t i = from; i < to; i++) fill_window(p, &p->list[i], codes, first);
}

/* Encodes rows first .. first + rows - 1 and fills windows from .. to - 1. */
static mw_status encode_run(second_pass *p, int64_t first, int64_t rows, int64_t from, int64_t to) {
    MW_TRY(mw_store_view_range(p->in, first, rows, p->x));
    MW_TRY(mw_sae_encode(p->sae, p->x, rows, &p->codes));
    fill_windows(p, from, to, &p->codes, first);
    return MW_OK;
}

/* Encodes the tiles of a block that windows from .. to - 1 need. Windows are within one block, since sequences are. */
static mw_status encode_block(second_pass *p, int64_t begin, int64_t end, int64_t from, int64_t to) {
    int64_t tiles = (end - begin + MW_ROW_TILE - 1) / MW_ROW_TILE;
    memset(p->wanted, 0, (size_t)tiles * sizeof *p->wanted);
    for (int64_t i = from; i < to; i++)
        for (int64_t t = (p->list[i].begin - begin) / MW_ROW_TILE; t <= (p->list[i].end - 1 - begin) / MW_ROW_TILE; t++)
            p->wanted[t] = true;
    for (int64_t t = 0, n; t < tiles; t += n) {
        for (n = 0; n < RUN_TILES && t + n < tiles && p->wanted[t + n];) n++;
        int64_t first = begin + t * MW_ROW_TILE, last = first + n * MW_ROW_TILE;
        if (n)
            MW_TRY(encode_run(p, first, (last < end ? last : end) - first, from, to));
        else
            n = 1;
    }
    return MW_OK;
}

static mw_status prepare(second_pass *p, const mw_store_tokens *tokens, const uint64_t *row, int64_t begin,
                         int64_t end) {
    int64_t n = p->d->n * p->d->per, largest = 0;
    p->list = mw_alloc((size_t)n * sizeof *p->list);
    for (int64_t b = begin; b < end; b++)
        if ((int64_t)(row[b + 1] - row[b]) > largest) largest = (int64_t)(row[b + 1] - row[b]);
    p->wanted = mw_alloc((size_t)(largest / MW_ROW_TILE + 1) * sizeof *p->wanted);
    p->x = mw_alloc((size_t)(RUN_TILES * MW_ROW_TILE * p->sae->d) * sizeof *p->x);
    if (!p->list || !p->wanted || !p->x) return MW_ERR_MEMORY;
    for (int64_t t = 0; t < n; t++) {
        window w = {.text = t};
        int64_t center = p->d->text_row[t];
        if (center < (int64_t)row[begin] || center >= (int64_t)row[end]) continue;
        window_of(p->d, tokens, t, &w.begin, &w.end);
        p->list[p->count++] = w;
    }
    qsort(p->list, (size_t)p->count, sizeof *p->list, earliest_first);
    return MW_OK;
}

static mw_status encode_share(second_pass *p, const uint64_t *row, int64_t begin, int64_t end, bool shown) {
    mw_progress progress;
    mw_progress_begin(&progress, "texts", "rows", (int64_t)(row[end] - row[begin]), shown);
    for (int64_t b = begin, from = 0, to; b < end; b++, from = to) {
        for (to = from; to < p->count && p->list[to].begin < (int64_t)row[b + 1];) to++;
        MW_TRY(encode_block(p, (int64_t)row[b], (int64_t)row[b + 1], from, to));
        mw_progress_update(&progress, (int64_t)(row[b + 1] - row[begin]), NULL);
    }
    return MW_OK;
}

mw_status find_texts(const mw_sae *sae, const mw_store_view *in, const mw_store_tokens *tokens, const kept_codes *kept,
                     const mw_comm *comm, mw_discovery *d) {
    int64_t begin = 0, end = 0;
    uint64_t *row = NULL;
    second_pass p = {.sae = sae, .in = in, .d = d};
    mw_status status = make_windows(tokens, d);
    if (status == MW_OK) status = share_blocks(in->store, comm, &row, &begin, &end);
    if (status == MW_OK) status = prepare(&p, tokens, row, begin, end);
    if (status == MW_OK && kept->dropped) status = encode_share(&p, row, begin, end, mw_comm_rank(comm) == 0);
    if (status == MW_OK && !kept->dropped) fill_windows(&p, 0, p.count, &kept->codes, kept->first);
    mw_free(row);
    mw_free(p.list);
    mw_free(p.wanted);
    mw_free(p.x);
    mw_codes_free(&p.codes);
    MW_TRY(mw_comm_agree(comm, status));
    return mw_comm_allreduce_or(comm, d->text_value, (size_t)d->text_start[d->n * d->per] * sizeof *d->text_value);
}

/* ---- texts to show ---------------------------------------------------------------------------------------------- */

const char *mw_discovery_token(const mw_discovery *d, int64_t id, size_t *length) {
    *length = (size_t)(d->vocabulary_offset[id + 1] - d->vocabulary_offset[id]);
    return d->vocabulary_bytes + d->vocabulary_offset[id];
}

const char *mw_discovery_category(const mw_discovery *d, int64_t latent) {
    bool known = d->n_categories && d->count[latent] && d->category[latent] >= 0;
    return known ? d->category_name[d->category[latent]] : NULL;
}

void mw_discovery_show(const mw_discovery *d, int64_t id, mw_text *out) {
    size_t length;
    const char *bytes = mw_discovery_token(d, id, &length);
    mw_utf8_show(out, bytes, length);
}

enum { CHARACTER_BYTES = 4 }; /* at most, in UTF-8 */

/* Returns how many bytes at the end begin a character that they do not complete. */
static size_t incomplete_tail(const char *bytes, size_t length) {
    for (size_t n = 1; n < CHARACTER_BYTES && n <= length; n++) {
        unsigned char c = (unsigned char)bytes[length - n];
        if ((c & 0xc0) == 0x80) continue;
        size_t wanted = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return wanted > n ? n : 0;
    }
    return 0;
}

/* Returns the index after the tokens that complete the character begun at the end of shown token `i`; i + 1 if the
 * token begins none, or the tokens up to `end` do not complete it. */
static int64_t completed_by(const mw_discovery *d, int64_t i, int64_t end) {
    char character[CHARACTER_BYTES];
    size_t length;
    const char *bytes = mw_discovery_token(d, d->text_id[i], &length);
    size_t have = incomplete_tail(bytes, length);
    if (have == 0) return i + 1;
    memcpy(character, bytes + length - have, have);
    for (int64_t next = i + 1; next < end && have < CHARACTER_BYTES; next++) {
        bytes = mw_discovery_token(d, d->text_id[next], &length);
        size_t more = length < CHARACTER_BYTES - have ? length : CHARACTER_BYTES - have;
        memcpy(character + have, bytes, more);
        have += more;
        if (mw_utf8_length(character, have)) return next + 1;
    }
    return i + 1;
}

int64_t mw_discovery_piece(const mw_discovery *d, int64_t i, int64_t end, mw_text *text) {
    int64_t until = completed_by(d, i, end);
    for (int64_t last = i; until > last + 1; until = completed_by(d, last, end)) last = until - 1;
    if (!text) return until;
    text->length = 0;
    mw_text_add(text, "", 0);
    if (until == i + 1) {
        mw_discovery_show(d, d->text_id[i], text);
        return until;
    }
    mw_text raw = {0};
    for (; i < until; i++) {
        size_t length;
        const char *bytes = mw_discovery_token(d, d->text_id[i], &length);
        mw_text_add(&raw, bytes, length);
    }
    if (raw.data) mw_utf8_show(text, raw.data, raw.length);
    if (raw.failed) text->failed = true;
    mw_text_free(&raw);
    return until;
}

mw_status mw_discovery_text(const mw_discovery *d, int64_t t, int64_t around, mw_text *before, mw_text *token,
                            mw_text *after) {
    if (t < 0 || t >= d->n * d->per || d->text_row[t] < 0)
        return mw_error(MW_ERR_ARG, "text %lld: out of range, or unused", (long long)t);
    int64_t begin = d->text_start[t], end = d->text_start[t + 1], center = begin + d->text_center[t];
    mw_text *const parts[3] = {before, token, after};
    mw_text piece = {0};
    for (int p = 0; p < 3; p++) {
        parts[p]->length = 0;
        mw_text_add(parts[p], "", 0);
    }
    for (int64_t i = begin, next; i < end; i = next) {
        bool shown = i <= center + around; /* pieces that overlap the range are shown whole */
        next = mw_discovery_piece(d, i, end, shown ? &piece : NULL);
        if (!shown || next <= center - around) continue;
        mw_text_add(parts[next <= center ? 0 : i <= center ? 1 : 2], piece.data, piece.length);
    }
    bool failed = piece.failed || before->failed || token->failed || after->failed;
    mw_text_free(&piece);
    return failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status mw_discovery_line(const mw_discovery *d, int64_t t, int64_t around, mw_text *line) {
    static const char *const suffix[3] = {"[", "]", ""};
    mw_text pieces[3] = {{0}};
    mw_status status = mw_discovery_text(d, t, around, &pieces[0], &pieces[1], &pieces[2]);
    line->length = 0;
    for (int i = 0; i < 3 && status == MW_OK; i++) {
        mw_text_add_visible(line, pieces[i].data, pieces[i].length);
        mw_text_addf(line, "%s", suffix[i]);
    }
    for (int i = 0; i < 3; i++) mw_text_free(&pieces[i]);
    return status == MW_OK && line->failed ? MW_ERR_MEMORY : status;
}

int64_t mw_discovery_quantile(const mw_discovery *d, int64_t latent, int64_t q, int64_t of) {
    int64_t first = latent * d->per + d->top_texts, n = 0;
    while (n < d->samples && d->text_row[first + n] >= 0) n++;
    return n > q && q < of ? first + (2 * q + 1) * n / (2 * of) : -1;
}
