/* Makes the row plan of a harvest: rows, sequences, documents, blocks and vocabulary. */
#include "harvest/row_plan.h"

#include <string.h>

void row_plan_free(row_plan *p) {
    void *all[] = {p->ids,          p->sequence,  p->position,          p->document, p->offset, p->length,
                   p->document_row, p->block_row, p->vocabulary_offset, p->widths,   p->keep};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    mw_text_free(&p->vocabulary);
    *p = (row_plan){0};
}

static bool is_kept(const mw_tokenizer *tokenizer, const mw_harvest_options *options, int32_t id, int64_t position) {
    if (position < options->skip_positions) return false;
    if (!tokenizer || options->skip == MW_SKIP_NONE) return true;
    if (options->skip == MW_SKIP_BOS) return id != mw_tokenizer_bos(tokenizer);
    return !mw_tokenizer_is_special(tokenizer, id) && id != mw_tokenizer_bos(tokenizer);
}

static int64_t mark_rows(const mw_dataset *d, const mw_tokenizer *tokenizer, const mw_harvest_options *options,
                         bool *keep) {
    int64_t rows = 0;
    for (int64_t s = 0; s < d->n_sequences; s++)
        for (int64_t i = 0; i < d->length[s]; i++) {
            int64_t at = d->first[s] + i;
            keep[at] = is_kept(tokenizer, options, d->ids[at], i);
            rows += keep[at];
        }
    return rows;
}

static void fill_rows(const mw_dataset *d, int64_t batch, row_plan *p) {
    int64_t row = 0;
    for (int64_t s = 0; s < d->n_sequences; s++) {
        if (s % batch == 0) p->block_row[s / batch] = (uint64_t)row;
        p->document[s] = (uint64_t)d->document[s];
        p->offset[s] = (uint64_t)row;
        for (int64_t i = 0; i < d->length[s]; i++) {
            if (!p->keep[d->first[s] + i]) continue;
            p->ids[row] = (uint32_t)d->ids[d->first[s] + i];
            p->sequence[row] = (uint32_t)s;
            p->position[row] = (uint32_t)i;
            row++;
        }
        p->length[s] = (uint64_t)row - p->offset[s];
    }
    p->block_row[p->layout.n_blocks] = (uint64_t)row;
}

/* Documents are contiguous in the dataset, so their rows are too. */
static void fill_documents(const mw_dataset *d, row_plan *p) {
    uint64_t row = 0;
    for (int64_t n = 0, at = 0; n <= d->n_documents; n++) {
        for (; at < d->document_first[n]; at++) row += p->keep[at];
        p->document_row[n] = row;
    }
}

/* The text of every id of the model, so that a store can be read without tokenizer and model. */
static mw_status fill_vocabulary(const mw_tokenizer *tokenizer, int64_t vocab, row_plan *p) {
    if (!(p->vocabulary_offset = mw_alloc((size_t)(vocab + 1) * sizeof *p->vocabulary_offset))) return MW_ERR_MEMORY;
    mw_text_add(&p->vocabulary, "", 0);
    for (int64_t id = 0; id < vocab; id++) {
        size_t length = 0;
        const char *text = tokenizer ? mw_tokenizer_token(tokenizer, (int32_t)id, &length) : "";
        p->vocabulary_offset[id] = p->vocabulary.length;
        mw_text_add(&p->vocabulary, text, length);
    }
    if (p->vocabulary.length == 0) mw_text_add(&p->vocabulary, "", 1); /* HDF5 requires at least one byte */
    p->vocabulary_offset[vocab] = p->vocabulary.length;
    return p->vocabulary.failed ? MW_ERR_MEMORY : MW_OK;
}

/* Refuses tokens that the model does not have. A tokenizer may have more than the model if no text contains them. */
static mw_status check_ids(const mw_dataset *d, const mw_tokenizer *tokenizer, int64_t vocab) {
    for (int64_t s = 0; s < d->n_sequences; s++)
        for (int64_t i = d->first[s]; i < d->first[s] + d->length[s]; i++)
            if (d->ids[i] < 0 || d->ids[i] >= vocab)
                return mw_error(MW_ERR_CONFIG,
                                "token %d occurs, but the model has %lld tokens (the tokenizer has %lld): they do not "
                                "belong together",
                                (int)d->ids[i], (long long)vocab,
                                (long long)(tokenizer ? mw_tokenizer_size(tokenizer) : 0));
    return MW_OK;
}

static mw_status check_inputs(const mw_model *model, const mw_dataset *d, const mw_tokenizer *tokenizer,
                              const mw_harvest_options *options, row_plan *p) {
    const mw_model_info *about = mw_model_about(model);
    if (options->n_sites < 1) return mw_error(MW_ERR_CONFIG, "harvest.sites is empty: nothing to store");
    MW_TRY(check_ids(d, tokenizer, about->vocab));
    if (d->n_sequences > UINT32_MAX)
        return mw_error(MW_ERR_UNSUPPORTED, "the dataset has %lld sequences; a store numbers them up to 2^32",
                        (long long)d->n_sequences);
    for (int64_t s = 0; s < d->n_sequences; s++)
        if (d->length[s] > about->context)
            return mw_error(MW_ERR_CONFIG, "a sequence has %lld tokens, the model takes %lld: lower dataset.context",
                            (long long)d->length[s], (long long)about->context);
        else if (d->length[s] > INT32_MAX)
            return mw_error(MW_ERR_UNSUPPORTED, "a sequence has %lld tokens; positions are counted up to 2^31",
                            (long long)d->length[s]);
    for (int64_t i = 0; i < options->n_sites; i++) {
        char name[MW_SITE_TEXT];
        mw_site_format(options->sites[i], name);
        p->widths[i] = mw_model_site_width(model, options->sites[i]);
        if (p->widths[i] == 0)
            return mw_error(MW_ERR_CONFIG,
                            "site %s is not in this model (%s, %lld layers); `microw layers` lists its sites", name,
                            about->family, (long long)about->n_layers);
        for (int64_t j = 0; j < i; j++)
            if (mw_site_order(options->sites[i]) == mw_site_order(options->sites[j]))
                return mw_error(MW_ERR_CONFIG, "site %s is listed twice in harvest.sites", name);
    }
    return MW_OK;
}

static mw_status fill_plan(const mw_model *model, const mw_dataset *d, const mw_tokenizer *tokenizer,
                           const mw_harvest_options *options, row_plan *p) {
    if (!(p->widths = mw_calloc((size_t)options->n_sites, sizeof *p->widths))) return MW_ERR_MEMORY;
    MW_TRY(check_inputs(model, d, tokenizer, options, p));
    if (!(p->keep = mw_calloc((size_t)d->n_ids, sizeof *p->keep))) return MW_ERR_MEMORY;
    int64_t rows = mark_rows(d, tokenizer, options, p->keep),
            blocks = (d->n_sequences + options->batch - 1) / options->batch;
    if (rows == 0) return mw_error(MW_ERR_CONFIG, "every token of the dataset is skipped: nothing to store");
    p->ids = mw_alloc((size_t)rows * sizeof *p->ids);
    p->sequence = mw_alloc((size_t)rows * sizeof *p->sequence);
    p->position = mw_alloc((size_t)rows * sizeof *p->position);
    p->document = mw_alloc((size_t)d->n_sequences * sizeof *p->document);
    p->offset = mw_alloc((size_t)d->n_sequences * sizeof *p->offset);
    p->length = mw_alloc((size_t)d->n_sequences * sizeof *p->length);
    p->block_row = mw_alloc((size_t)(blocks + 1) * sizeof *p->block_row);
    p->document_row = mw_alloc((size_t)(d->n_documents + 1) * sizeof *p->document_row);
    if (!p->ids || !p->sequence || !p->position || !p->document || !p->offset || !p->length || !p->block_row ||
        !p->document_row)
        return MW_ERR_MEMORY;
    MW_TRY(fill_vocabulary(tokenizer, mw_model_about(model)->vocab, p));
    p->layout = (mw_store_layout){.n_rows = rows,
                                  .n_sequences = d->n_sequences,
                                  .n_blocks = blocks,
                                  .n_sites = options->n_sites,
                                  .ids = p->ids,
                                  .sequence = p->sequence,
                                  .position = p->position,
                                  .document = p->document,
                                  .offset = p->offset,
                                  .length = p->length,
                                  .documents = d->documents,
                                  .document_row = p->document_row,
                                  .n_documents = d->n_documents,
                                  .block_row = p->block_row,
                                  .sites = options->sites,
                                  .widths = p->widths,
                                  .dtype = options->dtype,
                                  .vocabulary_offset = p->vocabulary_offset,
                                  .vocabulary_bytes = p->vocabulary.data,
                                  .n_vocabulary = mw_model_about(model)->vocab,
                                  .keep_nan = options->keep_nan,
                                  .restart = options->restart,
                                  .lock = options->lock,
                                  .allowed_bytes = options->allowed_bytes,
                                  .provenance = options->provenance,
                                  .n_provenance = options->n_provenance};
    fill_rows(d, options->batch, p);
    fill_documents(d, p);
    return MW_OK;
}

mw_status row_plan_make(const mw_model *model, const mw_dataset *dataset, const mw_tokenizer *tokenizer,
                        const mw_harvest_options *options, row_plan *out) {
    row_plan plan = {0};
    mw_status status = fill_plan(model, dataset, tokenizer, options, &plan);
    if (status != MW_OK)
        row_plan_free(&plan);
    else
        *out = plan;
    return status;
}
