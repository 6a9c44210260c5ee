/* Cuts documents of token ids into sequences. */
#include "dataset/pack_sequences.h"

#include <string.h>

typedef struct packer {
    const mw_dataset_options *options;
    mw_dataset *out;
    int64_t ids_capacity, sequences_capacity;
    int32_t bos, eos; /* -1: not added */
    bool bos_each_context;
    bool own_bos; /* the next token is a bos that begins a document */
    int64_t open; /* index of the sequence being filled; -1: none */
    bool full;    /* limit_tokens is reached */
} packer;

static mw_status reserve_sequence(packer *p) {
    mw_dataset *d = p->out;
    if (d->n_sequences < p->sequences_capacity) return MW_OK;
    int64_t **arrays[] = {&d->first, &d->length, &d->document}, capacity = p->sequences_capacity;
    for (int i = 0; i < 3; i++) {
        capacity = p->sequences_capacity;
        if (!mw_grow_((void **)arrays[i], &capacity, sizeof(int64_t))) return MW_ERR_MEMORY;
    }
    p->sequences_capacity = capacity;
    return MW_OK;
}

static mw_status append_token(packer *p, int32_t id) {
    mw_dataset *d = p->out;
    if (!MW_GROW(d->ids, d->n_ids, p->ids_capacity)) return MW_ERR_MEMORY;
    d->ids[d->n_ids++] = id;
    d->length[p->open]++;
    return MW_OK;
}

static mw_status begin_sequence(packer *p, int64_t document, bool with_bos) {
    mw_dataset *d = p->out;
    MW_TRY(reserve_sequence(p));
    p->open = d->n_sequences++;
    d->first[p->open] = d->n_ids;
    d->length[p->open] = 0;
    d->document[p->open] = document;
    return with_bos && p->bos >= 0 ? append_token(p, p->bos) : MW_OK;
}

static bool limit_reached(const packer *p) {
    return p->options->limit_tokens > 0 && p->out->n_ids >= p->options->limit_tokens;
}

/* Appends one token of the concatenated documents; begins a new sequence after `context` tokens. */
static mw_status append_packed_token(packer *p, int64_t document, int32_t id) {
    if ((p->full = limit_reached(p))) return MW_OK;
    if (p->open >= 0 && p->out->length[p->open] >= p->options->context) p->open = -1;
    if (p->open < 0) MW_TRY(begin_sequence(p, document, p->bos_each_context && !p->own_bos));
    return append_token(p, id);
}

static mw_status pack_document(packer *p, int64_t document, const int32_t *ids, int64_t n) {
    if (p->bos >= 0 && !p->bos_each_context) MW_TRY(append_packed_token(p, document, p->bos));
    for (int64_t i = 0; i < n && !p->full; i++) {
        p->own_bos = i == 0 && ids[0] == p->bos;
        MW_TRY(append_packed_token(p, document, ids[i]));
    }
    p->own_bos = false;
    return p->eos >= 0 && !p->full ? append_packed_token(p, document, p->eos) : MW_OK;
}

static mw_status split_document(packer *p, int64_t document, const int32_t *ids, int64_t n) {
    bool eos = p->eos >= 0;
    for (int64_t at = 0; at < n || eos;) {
        if ((p->full = limit_reached(p))) return MW_OK;
        MW_TRY(begin_sequence(p, document, true));
        int64_t room = p->options->context - p->out->length[p->open];
        for (; room > 0 && at < n; room--) MW_TRY(append_token(p, ids[at++]));
        if (at == n && eos && room > 0) {
            MW_TRY(append_token(p, p->eos));
            eos = false;
        }
        if (p->options->truncate) return MW_OK;
    }
    return MW_OK;
}

static bool adds_bos(const mw_dataset_options *options, const mw_tokenizer *tokenizer) {
    return options->bos != MW_BOS_NONE && tokenizer && mw_tokenizer_bos(tokenizer) >= 0;
}

int64_t pack_overhead(const mw_dataset_options *options, const mw_tokenizer *tokenizer) {
    return (adds_bos(options, tokenizer) && options->bos != MW_BOS_CONTEXT) +
           (options->eos && tokenizer && mw_tokenizer_eos(tokenizer) >= 0);
}

static mw_status check_options(const mw_dataset_options *options, const mw_tokenizer *tokenizer) {
    if (options->context < 2)
        return mw_error(MW_ERR_CONFIG, "dataset.context is %lld: expected at least 2", (long long)options->context);
    if ((options->bos == MW_BOS_DOCUMENT || options->bos == MW_BOS_CONTEXT) &&
        (!tokenizer || mw_tokenizer_bos(tokenizer) < 0))
        return mw_error(MW_ERR_CONFIG, "dataset.bos requires a token that the tokenizer does not have");
    if (options->eos && (!tokenizer || mw_tokenizer_eos(tokenizer) < 0))
        return mw_error(MW_ERR_CONFIG, "dataset.eos requires a token that the tokenizer does not have");
    return MW_OK;
}

mw_status pack_sequences(const mw_dataset_options *options, const mw_tokenizer *tokenizer, const token_stream *stream,
                         mw_dataset *out) {
    MW_TRY(check_options(options, tokenizer));
    packer p = {.options = options, .out = out, .open = -1, .bos = -1, .eos = -1};
    if (adds_bos(options, tokenizer)) p.bos = mw_tokenizer_bos(tokenizer);
    if (options->eos) p.eos = mw_tokenizer_eos(tokenizer);
    p.bos_each_context = options->bos == MW_BOS_CONTEXT;
    const int32_t *ids = stream->ids;
    if (!(out->document_first = mw_alloc((size_t)(stream->n_documents + 1) * sizeof *out->document_first)))
        return MW_ERR_MEMORY;
    for (int64_t d = 0; d < stream->n_documents; ids += stream->document_length[d++]) {
        int64_t n = stream->document_length[d];
        out->document_first[d] = out->n_ids;
        if (n == 0 || p.full) continue;
        MW_TRY(options->pack ? pack_document(&p, d, ids, n) : split_document(&p, d, ids, n));
    }
    out->document_first[stream->n_documents] = out->n_ids;
    return out->n_sequences
               ? MW_OK
               : mw_error(MW_ERR_FORMAT, "dataset: no tokens in %lld documents", (long long)stream->n_documents);
}
