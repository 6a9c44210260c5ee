/* What the page knows of latents: a table of all, and everything of a few at a time. */
#include "report/report.h"

#include <math.h>
#include <string.h>

enum { TOKEN_BYTES = 160, SHOWN_OF_FIFTH = 3, FIFTHS = 5, CATEGORIES_SHOWN = 6 };

/* ---- the table ------------------------------------------------------------------------------------------------ */

static void quote_or_null(mw_text *out, const char *text) {
    if (text)
        mw_json_quote(out, text, strlen(text));
    else
        mw_text_add(out, "null", 4);
}

static void number_or_null(mw_text *out, double value) {
    if (isfinite(value))
        mw_text_addf(out, "%.5g", value);
    else
        mw_text_add(out, "null", 4);
}

typedef void (*cell)(const report *r, int64_t latent, mw_text *out);

static void count_cell(const report *r, int64_t i, mw_text *out) {
    mw_text_addf(out, "%lld", (long long)r->discovery->count[i]);
}
static void max_cell(const report *r, int64_t i, mw_text *out) {
    const mw_discovery *d = r->discovery;
    number_or_null(out, d->count[i] ? (double)d->text_score[i * d->per] : 0);
}
static void category_cell(const report *r, int64_t i, mw_text *out) {
    mw_text_addf(out, "%d", r->discovery->count[i] ? r->discovery->category[i] : -1);
}
static void purity_cell(const report *r, int64_t i, mw_text *out) {
    number_or_null(out, (double)r->discovery->purity[i]);
}
static void precision_cell(const report *r, int64_t i, mw_text *out) {
    number_or_null(out, (double)r->discovery->precision[i]);
}
static void name_cell(const report *r, int64_t i, mw_text *out) {
    quote_or_null(out, r->names->of[i].name);
}
static void note_cell(const report *r, int64_t i, mw_text *out) {
    quote_or_null(out, r->names->of[i].note);
}
static void by_cell(const report *r, int64_t i, mw_text *out) {
    quote_or_null(out, r->names->of[i].by);
}
static void score_cell(const report *r, int64_t i, mw_text *out) {
    number_or_null(out, r->names->of[i].score);
}
/* To be found by, where the name says something else. */
static void words_cell(const report *r, int64_t i, mw_text *out) {
    mw_text words = {0};
    const mw_name *name = &r->names->of[i];
    bool known = name->name && name->by && strcmp(name->by, "tokens") == 0;
    bool made = !known && r->discovery->count[i] && mw_name_by_tokens(r->discovery, i, &words) == MW_OK;
    quote_or_null(out, made ? words.data : NULL);
    mw_text_free(&words);
}

static void write_column(const report *r, const char *name, cell write, mw_text *out) {
    mw_text_addf(out, "\"%s\":[", name);
    for (int64_t i = 0; i < r->discovery->n; i++) {
        if (i) mw_text_add(out, ",", 1);
        write(r, i, out);
    }
    mw_text_add(out, "]", 1);
}

mw_status report_table(const report *r, mw_text *out) {
    static const struct {
        const char *name;
        cell write;
        bool of_category;
    } columns[] = {{"count", count_cell, false},  {"max", max_cell, false},
                   {"name", name_cell, false},    {"note", note_cell, false},
                   {"by", by_cell, false},        {"score", score_cell, false},
                   {"words", words_cell, false},  {"category", category_cell, true},
                   {"purity", purity_cell, true}, {"precision", precision_cell, true}};
    const char *comma = "{";
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
        if (columns[c].of_category && r->discovery->n_categories == 0) continue;
        mw_text_addf(out, "%s", comma);
        write_column(r, columns[c].name, columns[c].write, out);
        comma = ",\n";
    }
    mw_text_add(out, "}", 1);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

/* ---- a shard ----------------------------------------------------------------------------------------------------- */

/* Tokens are written once a shard, and named by their place there. */
typedef struct shard {
    const mw_discovery *d;
    int32_t *place; /* [vocabulary] place + 1; 0: not used yet */
    int32_t used;
    mw_text tokens, *out;
} shard;

/* A very long token is cut, and says how long it is. */
static int32_t write_token(shard *s, const char *bytes, size_t length) {
    mw_text shown = {0};
    mw_utf8_show_cut(&shown, bytes, length, TOKEN_BYTES);
    if (length > TOKEN_BYTES) mw_text_addf(&shown, " (%zu bytes)", length);
    mw_text_add(&s->tokens, s->used ? ",\n" : "", s->used ? 2 : 0);
    mw_json_quote(&s->tokens, shown.data ? shown.data : "", shown.length);
    if (shown.failed) s->tokens.failed = true;
    mw_text_free(&shown);
    return s->used++;
}

static int32_t place_of(shard *s, int64_t id) {
    size_t length;
    const char *bytes = mw_discovery_token(s->d, id, &length);
    if (s->place[id] == 0) s->place[id] = write_token(s, bytes, length) + 1;
    return s->place[id] - 1;
}

static int32_t place_of_piece(shard *s, int64_t i, int64_t end) {
    mw_text text = {0};
    mw_discovery_piece(s->d, i, end, &text);
    if (text.failed) s->tokens.failed = true;
    int32_t place = write_token(s, text.data ? text.data : "", text.length);
    mw_text_free(&text);
    return place;
}

/* What a text's tokens become on the page: one piece each, or one for several that share characters. */
typedef struct pieces {
    mw_text place, value, parts;
    int64_t n, valued, center;
} pieces;

static double shown_value(const mw_discovery *d, int64_t i) {
    return isfinite(d->text_value[i]) ? (double)d->text_value[i] : 0;
}

/* Tokens i .. end share characters: the page shows the largest of their values, or that of the row itself, and tells all of them. */
static double add_parts(const mw_discovery *d, int64_t i, int64_t end, int64_t center, pieces *p) {
    double most = 0;
    mw_text line = {0};
    for (int64_t j = i; j < end; j++) {
        mw_text_addf(&line, "%s", j > i ? ", " : "");
        mw_discovery_show(d, d->text_id[j], &line);
        mw_text_addf(&line, " %.4g", shown_value(d, j));
        if (shown_value(d, j) > most) most = shown_value(d, j);
    }
    mw_text_addf(&p->parts, "%s\"%lld\":", p->parts.length ? "," : "", (long long)p->n);
    mw_json_quote(&p->parts, line.data ? line.data : "", line.length);
    if (line.failed) p->parts.failed = true;
    mw_text_free(&line);
    return i <= center && center < end ? shown_value(d, center) : most;
}

static void add_piece(shard *s, int64_t i, int64_t end, int64_t center, pieces *p) {
    const mw_discovery *d = s->d;
    double value = end > i + 1 ? add_parts(d, i, end, center, p) : shown_value(d, i);
    int32_t place = end > i + 1 ? place_of_piece(s, i, end) : place_of(s, d->text_id[i]);
    if (i <= center && center < end) p->center = p->n;
    mw_text_addf(&p->place, "%s%d", p->n ? "," : "", place);
    if (value > 0) { /* values behind the last that is not 0 are left out */
        for (; p->valued < p->n; p->valued++) mw_text_addf(&p->value, "%s0", p->valued ? "," : "");
        mw_text_addf(&p->value, "%s%.4g", p->valued++ ? "," : "", value);
    }
    p->n++;
}

static void write_text(shard *s, int64_t t) {
    const mw_discovery *d = s->d;
    int64_t begin = d->text_start[t], end = d->text_start[t + 1], center = begin + d->text_center[t];
    pieces p = {.center = 0};
    for (int64_t i = begin, next; i < end; i = next) {
        next = mw_discovery_piece(d, i, end, NULL);
        add_piece(s, i, next, center, &p);
    }
    mw_text_addf(s->out, "{\"c\":%lld,\"d\":%lld,\"p\":%d,\"t\":[%s],\"v\":[%s]", (long long)p.center,
                 (long long)d->text_document[t], d->text_position[t], p.place.data ? p.place.data : "",
                 p.value.data ? p.value.data : "");
    if (p.parts.length) mw_text_addf(s->out, ",\"g\":{%s}", p.parts.data);
    mw_text_addf(s->out, "}");
    mw_text *all[] = {&p.place, &p.value, &p.parts};
    for (int i = 0; i < 3; i++) {
        if (all[i]->failed) s->out->failed = true;
        mw_text_free(all[i]);
    }
}

static void write_texts(shard *s, const char *name, int64_t begin, int64_t end) {
    const char *comma = "";
    mw_text_addf(s->out, "%s[", name);
    for (int64_t t = begin; t < end && s->d->text_row[t] >= 0; t++, comma = ",") {
        mw_text_addf(s->out, "%s", comma);
        write_text(s, t);
    }
    mw_text_addf(s->out, "]");
}

static void write_samples(shard *s, int64_t latent) {
    const mw_discovery *d = s->d;
    int64_t first = latent * d->per + d->top_texts, n = 0;
    while (n < d->samples && d->text_row[first + n] >= 0) n++;
    mw_text_addf(s->out, ",\"samples\":[");
    for (int64_t q = 0; q < FIFTHS; q++) {
        int64_t begin = first + q * n / FIFTHS, end = first + (q + 1) * n / FIFTHS;
        if (end > begin + SHOWN_OF_FIFTH) end = begin + SHOWN_OF_FIFTH;
        write_texts(s, q ? "," : "", begin, end);
    }
    mw_text_addf(s->out, "]");
}

static void write_nearest(shard *s, const char *name, const mw_nearest *near, int64_t latent, bool tokens) {
    const char *comma = "";
    mw_text_addf(s->out, ",\"%s\":[", name);
    for (int64_t i = latent * near->m; i < (latent + 1) * near->m && near->index[i] >= 0; i++, comma = ",")
        mw_text_addf(s->out, "%s[%d,%.4g]", comma, tokens ? place_of(s, near->index[i]) : near->index[i],
                     (double)near->value[i]);
    mw_text_addf(s->out, "]");
}

static void write_bins(shard *s, int64_t latent) {
    const int64_t *bin = s->d->bin + latent * MW_BINS;
    int last = MW_BINS;
    while (last > 0 && bin[last - 1] == 0) last--;
    mw_text_addf(s->out, "{\"width\":%.9g,\"bins\":[", last ? ldexp(1, s->d->bin_exponent[latent]) : 1);
    for (int b = 0; b < last; b++) mw_text_addf(s->out, "%s%lld", b ? "," : "", (long long)bin[b]);
    mw_text_addf(s->out, "]");
}

static void write_sources(shard *s, int64_t latent) {
    const mw_discovery *d = s->d;
    mw_text_addf(s->out, ",\"sources\":[");
    for (int64_t i = 0; i < d->n_sources; i++)
        mw_text_addf(s->out, "%s%lld", i ? "," : "", (long long)d->by_source[latent * d->n_sources + i]);
    mw_text_addf(s->out, "]");
}

/* The commonest few. */
static void write_categories(shard *s, int64_t latent) {
    const mw_discovery *d = s->d;
    const int64_t *count = d->by_category + latent * d->n_categories;
    if (d->n_categories == 0) return;
    mw_text_addf(s->out, ",\"categories\":[");
    int64_t bound = INT64_MAX,
            bound_place = -1; /* what was written last: fewer, or as many and further on, come next */
    for (int shown = 0; shown < CATEGORIES_SHOWN; shown++) {
        int64_t best = -1;
        for (int64_t c = 0; c < d->n_categories; c++) {
            bool next = count[c] > 0 && (count[c] < bound || (count[c] == bound && c > bound_place));
            if (next && (best < 0 || count[c] > count[best])) best = c;
        }
        if (best < 0) break;
        mw_text_addf(s->out, "%s[%lld,%lld]", shown ? "," : "", (long long)best, (long long)count[best]);
        bound = count[best];
        bound_place = best;
    }
    mw_text_addf(s->out, "]");
}

static void write_latent(shard *s, int64_t latent) {
    const mw_discovery *d = s->d;
    if (!d->count[latent]) {
        mw_text_addf(s->out, "null");
        return;
    }
    write_bins(s, latent);
    write_texts(s, ",\"top\":", latent * d->per, latent * d->per + d->top_texts);
    write_samples(s, latent);
    write_nearest(s, "promoted", &d->promoted, latent, true);
    write_nearest(s, "suppressed", &d->suppressed, latent, true);
    write_nearest(s, "alike", &d->cosine, latent, false);
    write_nearest(s, "together", &d->coactive, latent, false);
    write_sources(s, latent);
    write_categories(s, latent);
    mw_text_addf(s->out, "}");
}

mw_status report_shard(const report *r, int64_t first, mw_text *out) {
    const mw_discovery *d = r->discovery;
    shard s = {.d = d, .out = out, .place = mw_calloc((size_t)d->n_vocabulary, sizeof *s.place)};
    if (!s.place) return MW_ERR_MEMORY;
    mw_text_addf(out, "{\"latents\":[");
    for (int64_t i = first; i < first + REPORT_SHARD && i < d->n; i++) {
        if (i > first) mw_text_addf(out, ",\n");
        write_latent(&s, i);
    }
    mw_text_addf(out, "],\n\"tokens\":[");
    mw_text_add(out, s.tokens.data ? s.tokens.data : "", s.tokens.length);
    mw_text_addf(out, "]}");
    bool failed = s.tokens.failed || out->failed;
    mw_free(s.place);
    mw_text_free(&s.tokens);
    return failed ? MW_ERR_MEMORY : MW_OK;
}
