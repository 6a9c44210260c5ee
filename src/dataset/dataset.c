/* Tokenizes documents in waves, each rank its share, with an allgather of the ids in document order. */
#include "dataset/documents.h"
#include "dataset/pack_sequences.h"

#include <string.h>

enum { WAVE_DOCUMENTS = 4096 };

static void stream_free(token_stream *s) {
    mw_free(s->ids);
    mw_free(s->document_length);
    *s = (token_stream){0};
}

static mw_status reserve_documents(token_stream *s, int64_t documents) {
    while (s->n_documents + documents > s->documents_capacity)
        if (!mw_grow_((void **)&s->document_length, &s->documents_capacity, sizeof *s->document_length))
            return MW_ERR_MEMORY;
    return MW_OK;
}

static mw_status reserve_ids(token_stream *s, int64_t ids) {
    while (!s->ids || s->n_ids + ids > s->ids_capacity) {
        int64_t capacity = s->ids_capacity ? s->ids_capacity * 2 : 1 << 16; /* never 0: no arithmetic on NULL */
        int32_t *moved = mw_realloc(s->ids, (size_t)s->n_ids * sizeof *moved, (size_t)capacity * sizeof *moved);
        if (!moved) return MW_ERR_MEMORY;
        s->ids = moved;
        s->ids_capacity = capacity;
    }
    return MW_OK;
}

typedef struct wave {
    int64_t begin, end;             /* all documents of the wave */
    int64_t document;               /* being read: the one that failed after an error */
    int64_t share_begin, share_end; /* documents of this rank */
    mw_ids ids;
    int64_t *length; /* [share_end - share_begin] */
} wave;

static mw_status tokenize_share(const document_files *files, read_context *r, wave *w) {
    if (!(w->length = mw_calloc((size_t)(w->share_end - w->share_begin), sizeof *w->length))) return MW_ERR_MEMORY;
    for (w->document = w->share_begin; w->document < w->share_end; w->document++) {
        int64_t before = w->ids.count;
        MW_TRY(document_read(files, w->document, r, &w->ids));
        w->length[w->document - w->share_begin] = w->ids.count - before;
    }
    return MW_OK;
}

/* Reports the first error of all ranks, independent of their number: the rank that has it reads that document again,
 * with messages enabled. Collective. */
static mw_status report_first_error(const document_files *files, read_context *r, const mw_comm *comm, wave *w,
                                    mw_status status) {
    int64_t own = status == MW_OK ? -1 : w->document, first;
    MW_TRY(mw_comm_allreduce_first(comm, own, &first));
    if (status != MW_OK && own == first) {
        mw_status repeated = w->document < w->share_end ? document_read(files, w->document, r, &w->ids) : MW_OK;
        if (repeated == MW_OK)
            mw_error(status, "dataset: document %lld: %s", (long long)w->document, mw_status_text(status));
        else
            status = repeated;
    }
    return mw_comm_agree(comm, status);
}

/* Allgather of `count` local items of `item` bytes into `out`, which has room for `total` items. Collective. */
static mw_status gather(const mw_comm *comm, const void *local, int64_t count, size_t item, int64_t total, void *out) {
    size_t bytes = (size_t)count * item, *all = mw_alloc((size_t)mw_comm_size(comm) * sizeof *all), sum = 0;
    MW_TRY(mw_comm_agree(comm, all ? MW_OK : MW_ERR_MEMORY));
    mw_status status = mw_comm_allgather(comm, &bytes, sizeof bytes, all);
    for (int r = 0; status == MW_OK && r < mw_comm_size(comm); r++) sum += all[r];
    if (status == MW_OK && sum != (size_t)total * item)
        status = mw_error(MW_ERR_COMM, "dataset: the ranks have %zu bytes, expected %zu", sum, (size_t)total * item);
    status = mw_comm_agree(comm, status); /* else only the rank that expects another sum would stop */
    if (status == MW_OK) status = mw_comm_allgatherv(comm, local, all, out);
    mw_free(all);
    return status;
}

static mw_status gather_wave(const mw_comm *comm, const wave *w, token_stream *stream) {
    int64_t total = w->ids.count, documents = w->end - w->begin;
    MW_TRY(mw_comm_allreduce_sum(comm, &total, 1));
    mw_status status = reserve_documents(stream, documents);
    if (status == MW_OK) status = reserve_ids(stream, total);
    MW_TRY(mw_comm_agree(comm, status));
    MW_TRY(gather(comm, w->length, w->share_end - w->share_begin, sizeof *w->length, documents,
                  stream->document_length + stream->n_documents));
    MW_TRY(gather(comm, w->ids.data ? (const void *)w->ids.data : "", w->ids.count, sizeof *w->ids.data, total,
                  stream->ids + stream->n_ids));
    stream->n_documents += documents;
    stream->n_ids += total;
    return MW_OK;
}

static mw_status run_wave(const document_files *files, read_context *r, const mw_comm *comm, int64_t begin, int64_t end,
                          token_stream *stream) {
    wave w = {.begin = begin, .end = end};
    mw_comm_share(mw_comm_rank(comm), mw_comm_size(comm), end - begin, 1, &w.share_begin, &w.share_end);
    w.share_begin += begin;
    w.share_end += begin;
    mw_log_quiet(true);
    mw_status status = tokenize_share(files, r, &w);
    mw_log_quiet(false);
    status = report_first_error(files, r, comm, &w, status);
    if (status == MW_OK) status = gather_wave(comm, &w, stream);
    mw_ids_free(&w.ids);
    mw_free(w.length);
    return status;
}

static mw_status tokenize(const document_files *files, read_context *r, const mw_comm *comm, token_stream *stream) {
    const mw_dataset_options *options = r->options;
    int64_t overhead = pack_overhead(options, r->tokenizer);
    mw_progress progress;
    mw_progress_begin(&progress, "tokenize", "documents", files->n_documents, mw_comm_rank(comm) == 0);
    for (int64_t begin = 0; begin < files->n_documents; begin += WAVE_DOCUMENTS) {
        int64_t end = begin + WAVE_DOCUMENTS < files->n_documents ? begin + WAVE_DOCUMENTS : files->n_documents;
        MW_TRY(run_wave(files, r, comm, begin, end, stream));
        mw_progress_update(&progress, end, NULL);
        bool limit_reached = options->limit_tokens > 0 && (options->pack || !options->truncate) &&
                             stream->n_ids + overhead * stream->n_documents >= options->limit_tokens;
        if (limit_reached) break;
    }
    return MW_OK;
}

/* Checks that all ranks see the same files, since they share the documents. Collective. */
static mw_status same_files(const document_files *files, const mw_comm *comm) {
    mw_text text = {0};
    mw_text_add(&text, "", 0);
    for (int64_t i = 0; i < files->n_files; i++) {
        const document_file *f = &files->items[i];
        mw_text_addf(&text, "%s, %zu bytes, hash %016llx\n", mw_path_basename(f->path), f->length,
                     (unsigned long long)mw_xxh64(f->data, f->length));
    }
    mw_status status = mw_comm_agree(comm, text.failed ? MW_ERR_MEMORY : MW_OK);
    if (status == MW_OK) status = mw_comm_require_same(comm, "the dataset's files", text.data);
    mw_text_free(&text);
    return status;
}

/* Warns once about the records of all ranks that were skipped or repaired. Collective. */
static mw_status report_counts(const mw_comm *comm, const document_files *files, const read_context *r) {
    int64_t counts[] = {r->skipped, r->surrogates, r->invalid_utf8};
    MW_TRY(mw_comm_allreduce_sum(comm, counts, 3));
    counts[1] += files->surrogates; /* every rank has read the JSON arrays */
    if (counts[0])
        mw_log(MW_LOG_WARNING, "dataset: skipped records without a text in field '%s': %lld", r->options->text_field,
               (long long)counts[0]);
    if (counts[1])
        mw_log(MW_LOG_WARNING, "dataset: unpaired surrogates, each read as U+FFFD: %lld", (long long)counts[1]);
    if (counts[2])
        mw_log(MW_LOG_WARNING, "dataset: texts with invalid UTF-8, which is read as U+FFFD: %lld",
               (long long)counts[2]);
    return MW_OK;
}

/* Moves the list of documents and the paths to the dataset. */
static mw_status move_files(document_files *files, mw_dataset *d, int64_t n_documents) {
    if (!(d->files = mw_calloc((size_t)files->n_files, sizeof *d->files))) return MW_ERR_MEMORY;
    for (int64_t i = 0; i < files->n_files; i++) {
        d->files[i] = files->items[i].path;
        files->items[i].path = NULL;
    }
    d->n_files = files->n_files;
    d->documents = files->documents;
    d->n_documents = n_documents;
    files->documents = NULL;
    return MW_OK;
}

mw_status mw_dataset_load(const mw_dataset_options *options, mw_tokenizer *tokenizer, const mw_comm *comm,
                          mw_dataset **out) {
    document_files files = {0};
    read_context r = {.options = options, .tokenizer = tokenizer};
    token_stream stream = {0};
    mw_dataset *d = mw_calloc(1, sizeof *d);
    mw_status status = mw_comm_agree(comm, d ? document_files_open(options, &files) : MW_ERR_MEMORY);
    if (status == MW_OK && mw_comm_size(comm) > 1) status = same_files(&files, comm);
    if (status == MW_OK) status = tokenize(&files, &r, comm, &stream);
    if (status == MW_OK) status = report_counts(comm, &files, &r);
    if (status == MW_OK) status = pack_sequences(options, tokenizer, &stream, d);
    if (status == MW_OK) status = move_files(&files, d, stream.n_documents);
    status = mw_comm_agree(comm, status);
    stream_free(&stream);
    document_files_close(&files);
    if (status != MW_OK)
        mw_dataset_free(&d);
    else
        *out = d;
    return status;
}

static mw_status stream_texts(const char *const *texts, int64_t n, mw_tokenizer *tokenizer, token_stream *stream) {
    mw_ids ids = {0};
    mw_status status = reserve_documents(stream, n);
    for (int64_t i = 0; status == MW_OK && i < n; i++) {
        int64_t before = ids.count;
        status = mw_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), &ids);
        stream->document_length[i] = ids.count - before;
    }
    stream->n_documents = n;
    stream->n_ids = ids.count;
    stream->ids = ids.data; /* moved */
    return status;
}

mw_status mw_dataset_from_texts(const char *const *texts, int64_t n, const mw_dataset_options *options,
                                mw_tokenizer *tokenizer, mw_dataset **out) {
    token_stream stream = {0};
    mw_dataset *d = mw_calloc(1, sizeof *d);
    mw_status status = d ? stream_texts(texts, n, tokenizer, &stream) : MW_ERR_MEMORY;
    if (status == MW_OK) status = pack_sequences(options, tokenizer, &stream, d);
    if (status == MW_OK && !(d->documents = mw_calloc((size_t)n, sizeof *d->documents))) status = MW_ERR_MEMORY;
    for (int64_t i = 0; status == MW_OK && i < n; i++)
        d->documents[i] = (mw_document_span){-1, i, (int64_t)strlen(texts[i])};
    stream_free(&stream);
    if (status != MW_OK) {
        mw_dataset_free(&d);
        return status;
    }
    d->n_documents = n;
    *out = d;
    return MW_OK;
}

mw_status mw_dataset_from_ids(const int32_t *ids, const int64_t *length, int64_t n, mw_dataset **out) {
    mw_dataset *d = mw_calloc(1, sizeof *d);
    if (!d) return MW_ERR_MEMORY;
    int64_t total = 0;
    for (int64_t s = 0; s < n; s++) total += length[s];
    d->ids = mw_alloc((size_t)total * sizeof *d->ids);
    d->first = mw_alloc((size_t)n * sizeof *d->first);
    d->length = mw_alloc((size_t)n * sizeof *d->length);
    d->document = mw_alloc((size_t)n * sizeof *d->document);
    d->documents = mw_alloc((size_t)n * sizeof *d->documents);
    d->document_first = mw_alloc((size_t)(n + 1) * sizeof *d->document_first);
    if (!d->ids || !d->first || !d->length || !d->document || !d->documents || !d->document_first) {
        mw_dataset_free(&d);
        return MW_ERR_MEMORY;
    }
    memcpy(d->ids, ids, (size_t)total * sizeof *ids);
    for (int64_t s = 0, at = 0; s < n; at += length[s++]) {
        d->first[s] = d->document_first[s] = at;
        d->length[s] = length[s];
        d->document[s] = s;
        d->documents[s] = (mw_document_span){-1, s, 0};
    }
    d->n_ids = d->document_first[n] = total;
    d->n_sequences = d->n_documents = n;
    *out = d;
    return MW_OK;
}

void mw_dataset_free(mw_dataset **slot) {
    mw_dataset *d = *slot;
    if (!d) return;
    for (int64_t i = 0; i < d->n_files; i++) mw_free(d->files[i]);
    void *all[] = {d->files, d->ids, d->first, d->length, d->document, d->documents, d->document_first, d};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mw_free(all[i]);
    *slot = NULL;
}
