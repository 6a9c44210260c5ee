/* Writer of concepts.json: a discovery with texts, for programs and people. */
#include "base/json.h"
#include "microw/concepts.h"

#include <math.h>
#include <string.h>

enum { QUANTILES = 5 };

typedef struct writer {
    const mw_discovery *d;
    const mw_names *names;
    mw_text out, before, token, after;
} writer;

static void write_string(writer *p, const char *key, const char *text, size_t length) {
    mw_text_addf(&p->out, "\"%s\": ", key);
    mw_json_quote(&p->out, text, length);
}

static mw_status write_text(writer *p, int64_t t) {
    MW_TRY(mw_discovery_text(p->d, t, p->d->around, &p->before, &p->token, &p->after));
    mw_text_addf(&p->out, "\n   {\"score\": ");
    mw_json_add_real(&p->out, 6, (double)p->d->text_score[t]);
    mw_text_addf(&p->out, ", \"row\": %lld, \"document\": %lld, \"position\": %d, \"token_id\": %d, ",
                 (long long)p->d->text_row[t], (long long)p->d->text_document[t], p->d->text_position[t],
                 p->d->text_id[p->d->text_start[t] + p->d->text_center[t]]);
    write_string(p, "before", p->before.data, p->before.length);
    mw_text_addf(&p->out, ", ");
    write_string(p, "token", p->token.data, p->token.length);
    mw_text_addf(&p->out, ", ");
    write_string(p, "after", p->after.data, p->after.length);
    mw_text_addf(&p->out, "}");
    return MW_OK;
}

static mw_status write_top(writer *p, int64_t latent) {
    const mw_discovery *d = p->d;
    mw_text_addf(&p->out, "\"top_texts\": [");
    for (int64_t i = 0; i < d->top_texts && d->text_row[latent * d->per + i] >= 0; i++) {
        if (i) mw_text_addf(&p->out, ",");
        MW_TRY(write_text(p, latent * d->per + i));
    }
    mw_text_addf(&p->out, "]");
    return MW_OK;
}

/* Writes one text from each fifth of the active rows, strongest fifth first. */
static mw_status write_quantiles(writer *p, int64_t latent) {
    const char *comma = "";
    mw_text_addf(&p->out, ", \"quantile_texts\": [");
    for (int64_t q = 0; q < QUANTILES; q++) {
        int64_t t = mw_discovery_quantile(p->d, latent, q, QUANTILES);
        if (t < 0) continue;
        mw_text_addf(&p->out, "%s", comma);
        MW_TRY(write_text(p, t));
        comma = ",";
    }
    mw_text_addf(&p->out, "]");
    return MW_OK;
}

static void write_latents(writer *p, const char *key, const mw_nearest *nearest, int64_t latent) {
    if (nearest->m == 0) return;
    mw_text_addf(&p->out, ", \"%s\": [", key);
    for (int64_t i = 0; i < nearest->m && nearest->index[latent * nearest->m + i] >= 0; i++) {
        mw_text_addf(&p->out, "%s[%d, ", i ? ", " : "", nearest->index[latent * nearest->m + i]);
        mw_json_add_real(&p->out, 4, (double)nearest->value[latent * nearest->m + i]);
        mw_text_addf(&p->out, "]");
    }
    mw_text_addf(&p->out, "]");
}

static void write_tokens(writer *p, const char *key, const mw_nearest *nearest, int64_t latent) {
    if (nearest->m == 0) return;
    mw_text_addf(&p->out, ", \"%s\": [", key);
    for (int64_t i = 0; i < nearest->m && nearest->index[latent * nearest->m + i] >= 0; i++) {
        int32_t id = nearest->index[latent * nearest->m + i];
        p->token.length = 0;
        mw_text_add(&p->token, "", 0);
        mw_discovery_show(p->d, id, &p->token);
        mw_text_addf(&p->out, "%s[", i ? ", " : "");
        mw_json_quote(&p->out, p->token.data ? p->token.data : "", p->token.length);
        mw_text_addf(&p->out, ", ");
        mw_json_add_real(&p->out, 4, (double)nearest->value[latent * nearest->m + i]);
        mw_text_addf(&p->out, ", %d]", id);
    }
    mw_text_addf(&p->out, "]");
}

static void write_name(writer *p, const mw_name *name) {
    const struct {
        const char *key, *text;
    } parts[] = {{"name", name->name}, {"note", name->note}, {"named_by", name->by}};
    for (int i = 0; i < 3 && name->name; i++) {
        if (!parts[i].text) continue;
        write_string(p, parts[i].key, parts[i].text, strlen(parts[i].text));
        mw_text_addf(&p->out, ", ");
    }
    if (name->name && isfinite(name->score)) mw_text_addf(&p->out, "\"detection\": %.4g, ", name->score);
}

static void write_number(writer *p, const char *key, double value, int digits) {
    mw_text_addf(&p->out, "\"%s\": ", key);
    mw_json_add_real(&p->out, digits, value);
    mw_text_addf(&p->out, ", ");
}

static void write_groups(writer *p, int64_t latent) {
    const mw_discovery *d = p->d;
    const char *category = mw_discovery_category(d, latent);
    if (category) {
        write_string(p, "category", category, strlen(category));
        mw_text_addf(&p->out, ", ");
        write_number(p, "precision", (double)d->precision[latent], 4);
        write_number(p, "recall", (double)d->recall[latent], 4);
        write_number(p, "f1", (double)d->f1[latent], 4);
    }
    if (d->n_sources < 2) return;
    mw_text_addf(&p->out, "\"frequency_by_source\": [");
    for (int64_t s = 0; s < d->n_sources; s++) { /* null for a source without rows */
        mw_text_addf(&p->out, s ? ", " : "");
        mw_json_add_real(&p->out, 4, (double)d->by_source[latent * d->n_sources + s] / (double)d->source_rows[s]);
    }
    mw_text_addf(&p->out, "], ");
}

static mw_status write_latent(writer *p, int64_t latent) {
    const mw_discovery *d = p->d;
    mw_text_addf(&p->out, "{\"latent\": %lld, ", (long long)latent);
    if (p->names) write_name(p, &p->names->of[latent]);
    write_number(p, "frequency", (double)d->count[latent] / (double)d->rows, 6);
    write_number(p, "max", (double)d->text_score[latent * d->per], 6);
    write_groups(p, latent);
    MW_TRY(write_top(p, latent));
    if (d->samples) MW_TRY(write_quantiles(p, latent));
    write_tokens(p, "promoted", &d->promoted, latent);
    write_tokens(p, "suppressed", &d->suppressed, latent);
    write_latents(p, "alike", &d->cosine, latent);
    write_latents(p, "together", &d->coactive, latent);
    mw_text_addf(&p->out, "}");
    return MW_OK;
}

static void write_sources(writer *p) {
    if (p->d->n_sources < 2) return;
    mw_text_addf(&p->out, "\"sources\": [");
    for (int64_t s = 0; s < p->d->n_sources; s++) {
        if (s) mw_text_addf(&p->out, ", ");
        mw_json_quote(&p->out, p->d->source[s], strlen(p->d->source[s]));
    }
    mw_text_addf(&p->out, "], ");
}

/* Writes the best latent of each category that has one. */
static void write_categories(writer *p) {
    const mw_discovery *d = p->d;
    const char *comma = "";
    if (d->n_categories == 0) return;
    mw_text_addf(&p->out, "\"categories\": [");
    for (int64_t c = 0; c < d->n_categories; c++) {
        mw_category_score score;
        int64_t latent = mw_discovery_best(d, c, &score);
        if (latent < 0) continue;
        mw_text_addf(&p->out, "%s\n  {", comma);
        write_string(p, "category", d->category_name[c], strlen(d->category_name[c]));
        mw_text_addf(&p->out, ", ");
        write_number(p, "frequency", (double)d->category_rows[c] / (double)d->rows, 4);
        write_number(p, "precision", score.precision, 4);
        write_number(p, "recall", score.recall, 4);
        write_number(p, "f1", score.f1, 4);
        write_number(p, "chance", mw_category_chance((double)d->category_rows[c] / (double)d->rows), 4);
        mw_text_addf(&p->out, "\"latent\": %lld}", (long long)latent);
        comma = ",";
    }
    mw_text_addf(&p->out, "\n], ");
}

mw_status mw_concepts_save(const char *path, const mw_discovery *d, const mw_names *names) {
    writer p = {.d = d, .names = names};
    mw_status status = MW_OK;
    bool first = true;
    mw_text_addf(&p.out, "{\"n_latents\": %lld, \"rows\": %lld, ", (long long)d->n, (long long)d->rows);
    write_sources(&p);
    write_categories(&p);
    mw_text_addf(&p.out, "\"latents\": [");
    for (int64_t i = 0; i < d->n && status == MW_OK; i++) {
        if (!d->count[i]) continue;
        mw_text_addf(&p.out, first ? "\n  " : ",\n  ");
        status = write_latent(&p, i);
        first = false;
    }
    mw_text_addf(&p.out, "\n]}\n");
    if (status == MW_OK) status = p.out.failed ? MW_ERR_MEMORY : mw_file_write_atomic(path, p.out.data, p.out.length);
    mw_text_free(&p.out);
    mw_text_free(&p.before);
    mw_text_free(&p.token);
    mw_text_free(&p.after);
    return status;
}
