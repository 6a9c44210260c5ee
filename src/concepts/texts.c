/* Rows of a store back as text, and the concepts file. */
#include "base/json.h"
#include "microw/concepts.h"

static void add_token(const mw_store_tokens *t, int64_t row, mw_text *out) {
    uint64_t begin = t->vocabulary_offset[t->ids[row]], end = t->vocabulary_offset[t->ids[row] + 1];
    mw_text_add(out, t->vocabulary_bytes + begin, (size_t)(end - begin));
}

mw_status mw_context_text(const mw_store_tokens *t, int64_t row, int64_t around, mw_text *before, mw_text *token,
                          mw_text *after) {
    if (row < 0 || row >= t->n_rows) return mw_error(MW_ERR_ARG, "row %lld is not in the store", (long long)row);
    int64_t first = (int64_t)t->offset[t->sequence[row]], last = first + (int64_t)t->length[t->sequence[row]];
    int64_t begin = row - around > first ? row - around : first,
            end = row + around + 1 < last ? row + around + 1 : last;
    before->length = token->length = after->length = 0;
    mw_text_add(before, "", 0);
    mw_text_add(token, "", 0);
    mw_text_add(after, "", 0);
    for (int64_t r = begin; r < row; r++) add_token(t, r, before);
    add_token(t, row, token);
    for (int64_t r = row + 1; r < end; r++) add_token(t, r, after);
    return before->failed || token->failed || after->failed ? MW_ERR_MEMORY : MW_OK;
}

typedef struct page {
    const mw_discovery *d;
    const mw_store_tokens *tokens;
    const mw_categories *categories;
    const mw_names *names;
    int64_t around;
    mw_text out, before, token, after;
} page;

static void quoted(page *p, const char *key, const mw_text *text) {
    mw_text_addf(&p->out, "\"%s\": ", key);
    mw_json_quote(&p->out, text->data, text->length);
}

static mw_status write_top(page *p, mw_top top) {
    const mw_store_tokens *t = p->tokens;
    MW_TRY(mw_context_text(t, top.row, p->around, &p->before, &p->token, &p->after));
    uint32_t sequence = t->sequence[top.row];
    mw_text_addf(&p->out, "{\"score\": %.6g, \"row\": %lld, \"sequence\": %u, \"position\": %u, \"document\": %llu, ",
                 (double)top.score, (long long)top.row, sequence, t->position[top.row],
                 (unsigned long long)t->document[sequence]);
    quoted(p, "before", &p->before);
    mw_text_addf(&p->out, ", ");
    quoted(p, "token", &p->token);
    mw_text_addf(&p->out, ", ");
    quoted(p, "after", &p->after);
    mw_text_addf(&p->out, "}");
    return MW_OK;
}

static void write_category(page *p, int64_t latent) {
    double purity;
    int32_t best = mw_best_category(p->d, p->tokens, p->categories, latent, &purity);
    if (best < 0) return;
    int64_t hits = p->d->by_category ? p->d->by_category[latent * p->d->n_categories + best] : 0;
    mw_text_addf(&p->out, "\"category\": ");
    mw_json_quote(&p->out, p->categories->names[best], __builtin_strlen(p->categories->names[best]));
    mw_text_addf(&p->out, ", \"purity\": %.4g, \"precision\": %.4g, ", purity,
                 p->d->count[latent] ? (double)hits / (double)p->d->count[latent] : 0);
}

static mw_status write_latent(page *p, int64_t latent) {
    const mw_discovery *d = p->d;
    const mw_top *top = d->top + latent * d->top_k;
    mw_text_addf(&p->out, "{\"latent\": %lld, ", (long long)latent);
    if (p->names && p->names->name[latent]) {
        mw_text_addf(&p->out, "\"name\": ");
        mw_json_quote(&p->out, p->names->name[latent], __builtin_strlen(p->names->name[latent]));
        mw_text_addf(&p->out, ", ");
    }
    mw_text_addf(&p->out, "\"frequency\": %.6g, \"max\": %.6g, ", (double)d->count[latent] / (double)d->rows,
                 (double)top[0].score);
    if (p->categories) write_category(p, latent);
    mw_text_addf(&p->out, "\"top_texts\": [");
    for (int64_t i = 0; i < d->top_k && top[i].row >= 0; i++) {
        mw_text_addf(&p->out, i ? ",\n   " : "\n   ");
        MW_TRY(write_top(p, top[i]));
    }
    mw_text_addf(&p->out, "]}");
    return MW_OK;
}

mw_status mw_concepts_save(const char *path, const mw_discovery *d, const mw_store_tokens *tokens,
                           const mw_categories *categories, const mw_names *names, int64_t around) {
    page p = {.d = d, .tokens = tokens, .categories = categories, .names = names, .around = around};
    mw_status status = MW_OK;
    bool first = true;
    mw_text_addf(&p.out, "{\"n_latents\": %lld, \"rows\": %lld, \"latents\": [", (long long)d->n, (long long)d->rows);
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
