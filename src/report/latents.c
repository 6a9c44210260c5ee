/* Latents as JSON for the page: a table of all latents, and shards with all details of a few. */
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
static void f1_cell(const report *r, int64_t i, mw_text *out) {
    number_or_null(out, (double)r->discovery->f1[i]);
}
static void precision_cell(const report *r, int64_t i, mw_text *out) {
    number_or_null(out, (double)r->discovery->precision[i]);
}
static void recall_cell(const report *r, int64_t i, mw_text *out) {
    number_or_null(out, (double)r->discovery->recall[i]);
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
/* Writes the provisional name, for the search, unless it is the name. */
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
    } columns[] = {{"count", count_cell, false}, {"max", max_cell, false},
                   {"name", name_cell, false},   {"note", note_cell, false},
                   {"by", by_cell, false},       {"score", score_cell, false},
                   {"words", words_cell, false}, {"category", category_cell, true},
                   {"f1", f1_cell, true},        {"precision", precision_cell, true},
                   {"recall", recall_cell, true}};
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

/* ---- a shard ---------------------------------------------------------------------------------------------------- */

/* Each token is written once per shard, and referenced by its index in the shard. */
typedef struct shard {
    const mw_discovery *d;
    int32_t *index; /* [vocabulary] index in the shard + 1; 0: not written yet */
    int32_t count;  /* tokens and pieces written */
    mw_text tokens, *out;
} shard;

/* Writes a text to the list of tokens and returns its index. A very long one is cut, and its length added. */
static int32_t write_token(shard *s, const char *bytes, size_t length) {
    mw_text shown = {0};
    mw_utf8_show_cut(&shown, bytes, length, TOKEN_BYTES);
    if (length > TOKEN_BYTES) mw_text_addf(&shown, " (%zu bytes)", length);
    mw_text_add(&s->tokens, s->count ? ",\n" : "", s->count ? 2 : 0);
    mw_json_quote(&s->tokens, shown.data ? shown.data : "", shown.length);
    if (shown.failed) s->tokens.failed = true;
    mw_text_free(&shown);
    return s->count++;
}

static int32_t token_index(shard *s, int64_t id) {
    size_t length;
    const char *bytes = mw_discovery_token(s->d, id, &length);
    if (s->index[id] == 0) s->index[id] = write_token(s, bytes, length) + 1;
    return s->index[id] - 1;
}

static int32_t write_piece(shard *s, int64_t i, int64_t end) {
    mw_text text = {0};
    mw_discovery_piece(s->d, i, end, &text);
    if (text.failed) s->tokens.failed = true;
    int32_t index = write_token(s, text.data ? text.data : "", text.length);
    mw_text_free(&text);
    return index;
}

/* A text as pieces, each one token or several that share characters: lists of JSON. */
typedef struct pieces {
    mw_text token; /* index of each piece in the shard's tokens */
    mw_text value; /* activations, up to the last that is not 0 */
    mw_text parts; /* tokens and activations of pieces of several tokens */
    int64_t n, n_values, center;
} pieces;

static double shown_value(const mw_discovery *d, int64_t i) {
    return isfinite(d->text_value[i]) ? (double)d->text_value[i] : 0;
}

/* Adds tokens i .. end - 1, which share characters. Returns the value to show: of the text's row if it is among them,
 * else the largest. */
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
    int32_t token = end > i + 1 ? write_piece(s, i, end) : token_index(s, d->text_id[i]);
    if (i <= center && center < end) p->center = p->n;
    mw_text_addf(&p->token, "%s%d", p->n ? "," : "", token);
    if (value > 0) { /* zeros after the last value are left out */
        for (; p->n_values < p->n; p->n_values++) mw_text_addf(&p->value, "%s0", p->n_values ? "," : "");
        mw_text_addf(&p->value, "%s%.4g", p->n_values++ ? "," : "", value);
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
                 (long long)d->text_document[t], d->text_position[t], p.token.data ? p.token.data : "",
                 p.value.data ? p.value.data : "");
    if (p.parts.length) mw_text_addf(s->out, ",\"g\":{%s}", p.parts.data);
    mw_text_addf(s->out, "}");
    mw_text *all[] = {&p.token, &p.value, &p.parts};
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

static void write_nearest(shard *s, const char *name, const mw_nearest *nearest, int64_t latent, bool tokens) {
    const char *comma = "";
    mw_text_addf(s->out, ",\"%s\":[", name);
    for (int64_t i = latent * nearest->m; i < (latent + 1) * nearest->m && nearest->index[i] >= 0; i++, comma = ",")
        mw_text_addf(s->out, "%s[%d,%.4g]", comma, tokens ? token_index(s, nearest->index[i]) : nearest->index[i],
                     (double)nearest->value[i]);
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

/* Writes the commonest categories, up to CATEGORIES_SHOWN. */
static void write_categories(shard *s, int64_t latent) {
    const mw_discovery *d = s->d;
    const int64_t *count = d->by_category + latent * d->n_categories;
    if (d->n_categories == 0) return;
    mw_text_addf(s->out, ",\"categories\":[");
    int64_t last_count = INT64_MAX, last = -1; /* written last; next: a smaller count, or the same and a later one */
    for (int shown = 0; shown < CATEGORIES_SHOWN; shown++) {
        int64_t best = -1;
        for (int64_t c = 0; c < d->n_categories; c++) {
            bool next = count[c] > 0 && (count[c] < last_count || (count[c] == last_count && c > last));
            if (next && (best < 0 || count[c] > count[best])) best = c;
        }
        if (best < 0) break;
        mw_text_addf(s->out, "%s[%lld,%lld]", shown ? "," : "", (long long)best, (long long)count[best]);
        last_count = count[best];
        last = best;
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
    shard s = {.d = d, .out = out, .index = mw_calloc((size_t)d->n_vocabulary, sizeof *s.index)};
    if (!s.index) return MW_ERR_MEMORY;
    mw_text_addf(out, "{\"latents\":[");
    for (int64_t i = first; i < first + REPORT_SHARD && i < d->n; i++) {
        if (i > first) mw_text_addf(out, ",\n");
        write_latent(&s, i);
    }
    mw_text_addf(out, "],\n\"tokens\":[");
    mw_text_add(out, s.tokens.data ? s.tokens.data : "", s.tokens.length);
    mw_text_addf(out, "]}");
    bool failed = s.tokens.failed || out->failed;
    mw_free(s.index);
    mw_text_free(&s.tokens);
    return failed ? MW_ERR_MEMORY : MW_OK;
}
