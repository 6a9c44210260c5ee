/* Harvest, store, discovery: correct values, equal bytes at any number of ranks, resuming, and a failure of one
 * rank. */
#include "microw/concepts.h"
#include "microw/harvest.h"
#include "store/h5_file.h"
#include "ranks.h"

#include <unistd.h>

enum { SEQUENCES = 45, SITES = 3, DOCUMENTS = 40 };

static mw_dataset *make_dataset(void);

static mw_comm *world, *self;
static mw_backend *backend;
static mw_model *model;
static char folder[] = "/tmp/microw-harvest-XXXXXX";
static const mw_site sites[SITES] = {{1, MW_RESID_POST}, {0, MW_ATTN_K}, {0, MW_LOGITS}};

/* Documents as in packed sequences: lengths other than the sequences', some empty, some longer than a sequence. */
static void put_documents(mw_dataset *d) {
    mw_free(d->documents);
    mw_free(d->document_first);
    d->n_documents = DOCUMENTS;
    d->documents = mw_calloc(DOCUMENTS, sizeof *d->documents);
    d->document_first = mw_calloc(DOCUMENTS + 1, sizeof *d->document_first);
    NEED(d->documents && d->document_first);
    for (int64_t n = 0, at = 0; n < DOCUMENTS; n++) {
        at += n % 5 == 3 ? 0 : (n * 13) % 61;
        d->document_first[n + 1] = at < d->n_ids && n < DOCUMENTS - 2 ? at : d->n_ids;
        d->documents[n].file = n % 3 == 0;
    }
    for (int64_t s = 0, n = 0; s < d->n_sequences; s++) {
        while (d->document_first[n + 1] <= d->first[s]) n++;
        d->document[s] = n;
    }
}

/* Returns the document of each row by a search of all documents; caller frees. */
static int64_t *documents_of_rows(const mw_store_tokens *t) {
    mw_dataset *d = make_dataset();
    int64_t *out = mw_alloc((size_t)t->n_rows * sizeof *out);
    NEED(out != NULL);
    for (int64_t r = 0; r < t->n_rows; r++) {
        int64_t at = d->first[t->sequence[r]] + t->position[r];
        for (int64_t n = 0; n < DOCUMENTS; n++)
            if (d->document_first[n] <= at && at < d->document_first[n + 1]) out[r] = n;
    }
    mw_dataset_free(&d);
    return out;
}

static mw_dataset *make_dataset(void) {
    static int32_t ids[SEQUENCES * 40];
    int64_t length[SEQUENCES], at = 0;
    for (int64_t s = 0; s < SEQUENCES; s++) {
        length[s] = 1 + (s * 7) % 40;
        for (int64_t i = 0; i < length[s]; i++) ids[at++] = (int32_t)((s * 31 + i * 17) % 61);
    }
    mw_dataset *d = NULL;
    NEED_OK(mw_dataset_from_ids(ids, length, SEQUENCES, &d));
    put_documents(d);
    return d;
}

static char *sub(const char *name) {
    char *path = mw_path_join(folder, name);
    NEED(path != NULL);
    return path;
}

static const char *version = "1", *commit = "abc"; /* of the build that harvests */

static mw_status harvest(const mw_comm *comm, const char *name, mw_dtype dtype, int64_t batch,
                         mw_harvest_report *report) {
    const mw_pair provenance[] = {{"model_sha256", "gpt2"},
                                  {"fingerprint", "f"},
                                  {"dataset_sha256", "aa  one.txt\nbb  two.txt"},
                                  {"microw_version", version},
                                  {"microw_git", commit}};
    mw_harvest_options options = {.sites = sites,
                                  .n_sites = SITES,
                                  .dtype = dtype,
                                  .batch = batch,
                                  .skip = MW_SKIP_NONE,
                                  .skip_positions = 1,
                                  .keep_nan = true, /* rows that a stop leaves out are uninitialized */
                                  .provenance = provenance,
                                  .n_provenance = 5};
    mw_dataset *d = make_dataset();
    char *path = sub(name);
    mw_status status = mw_harvest(model, d, NULL, comm, path, &options, report);
    mw_free(path);
    mw_dataset_free(&d);
    return status;
}

static mw_store *open_store(const char *name) {
    char *path = sub(name), *file = mw_path_join(path, "activations.h5");
    mw_store *store = NULL;
    NEED_OK(mw_store_open(file, &store));
    mw_free(path);
    mw_free(file);
    return store;
}

static void same_file(const char *a, const char *b) {
    char *pa = sub(a), *pb = sub(b), *fa = mw_path_join(pa, "activations.h5"), *fb = mw_path_join(pb, "activations.h5");
    mw_map ma, mb;
    NEED_OK(mw_map_open(fa, &ma));
    NEED_OK(mw_map_open(fb, &mb));
    CHECK(ma.length == mb.length && memcmp(ma.data, mb.data, ma.length) == 0);
    mw_map_close(&ma);
    mw_map_close(&mb);
    void *all[] = {pa, pb, fa, fb};
    for (int i = 0; i < 4; i++) mw_free(all[i]);
}

static void bytes_do_not_depend_on_ranks(void) {
    static const mw_dtype dtypes[] = {MW_F32, MW_BF16, MW_F16};
    for (int i = 0; i < 3; i++) {
        char together[16], alone[16];
        snprintf(together, sizeof together, "all-%d", i);
        snprintf(alone, sizeof alone, "one-%d", i);
        CHECK_OK(harvest(world, together, dtypes[i], 4, NULL));
        if (mw_comm_rank(world) != 0) continue;
        CHECK_OK(harvest(self, alone, dtypes[i], 4, NULL));
        same_file(together, alone);
    }
}

/* Compares with a collector, row by row. */
static void values_are_right(void) {
    if (mw_comm_rank(world) != 0) return;
    mw_store *store = open_store("all-0");
    mw_dataset *d = make_dataset();
    mw_store_tokens tokens;
    NEED_OK(mw_store_read_tokens(store, &tokens));
    CHECK_OK(mw_store_verify(store));
    for (int i = 0; i < SITES; i++) {
        mw_collector c = {0};
        mw_hook hook = {.site = sites[i], .kind = MW_DETECTOR, .call = mw_collect, .self = &c};
        mw_hook_id id;
        mw_store_site site;
        char name[MW_SITE_TEXT];
        mw_site_format(sites[i], name);
        NEED_OK(mw_store_find(store, name, &site));
        NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
        for (int64_t s = 0; s < d->n_sequences; s += 4) {
            mw_batch batch = {.n_seq = d->n_sequences - s < 4 ? d->n_sequences - s : 4,
                              .ids = d->ids + d->first[s],
                              .length = d->length + s};
            NEED_OK(mw_model_forward(model, &batch, NULL));
        }
        mw_hooks_detach(mw_model_hooks(model), id);
        float *stored = mw_alloc((size_t)(tokens.n_rows * site.width) * sizeof *stored);
        NEED_OK(mw_store_read_range(store, &site, 0, tokens.n_rows, stored));
        double norm = 0;
        for (int64_t r = 0; r < tokens.n_rows; r++) {
            int64_t at = d->first[tokens.sequence[r]] + tokens.position[r];
            CHECK(tokens.position[r] >= 1 && tokens.ids[r] == (uint32_t)d->ids[at]);
            CHECK(memcmp(stored + r * site.width, c.data + at * site.width, (size_t)site.width * sizeof(float)) == 0);
            double square = 0;
            for (int64_t j = 0; j < site.width; j++) square += pow(stored[r * site.width + j], 2);
            norm += sqrt(square) / (double)tokens.n_rows;
        }
        CHECK(fabs(norm - site.norm_mean) < 1e-9 * norm);
        mw_free(stored);
        mw_collector_free(&c);
    }
    int64_t *document = documents_of_rows(&tokens);
    for (int64_t r = 0; r < tokens.n_rows; r++) CHECK(mw_store_span_of(&tokens, r).document == document[r]);
    mw_free(document);
    CHECK(tokens.n_documents == DOCUMENTS && tokens.n_rows == d->n_ids - SEQUENCES); /* skip_positions = 1 */
    mw_store_tokens_free(&tokens);
    mw_dataset_free(&d);
    mw_store_close(&store);
}

/* Two files as one: numbers of documents and data files continue. */
static void several_stores_are_one(void) {
    if (mw_comm_rank(world) != 0) return;
    char *a = sub("all-1/activations.h5"), *b = sub("all-0/activations.h5");
    const char *paths[] = {a, b};
    mw_store *store = NULL;
    mw_store_tokens t;
    mw_store_data_files s;
    NEED_OK(mw_store_open_many(paths, 2, &store));
    NEED_OK(mw_store_read_tokens(store, &t));
    NEED_OK(mw_store_read_data_files(store, &t, &s));
    int64_t half = t.n_rows / 2;
    CHECK(t.n_documents == 2 * DOCUMENTS && s.n == 4 && mw_store_schema(store) == MW_STORE_SCHEMA);
    for (int64_t r = 0; r < half; r++) {
        mw_store_span x = mw_store_span_of(&t, r), y = mw_store_span_of(&t, r + half);
        CHECK(x.begin <= r && r < x.end && y.begin == x.begin + half && y.end == x.end + half);
        CHECK(y.document == x.document + DOCUMENTS && s.of_document[y.document] == s.of_document[x.document] + 2);
        CHECK(s.of_document[x.document] == (x.document % 3 == 0));
    }
    mw_store_data_files_free(&s);
    mw_store_tokens_free(&t);
    mw_store_close(&store);
    mw_free(a);
    mw_free(b);
}

/* A reader keeps the file that it opened, even if its name is given to another file. */
static void a_file_that_is_replaced_is_read_to_its_end(void) {
    if (mw_comm_rank(world) != 0) return;
    char *path = sub("one-0/activations.h5"), *other = sub("one-1/activations.h5");
    mw_store *store = open_store("one-0");
    const mw_store_site *s = mw_store_site_at(store, 0);
    mw_store_tokens t;
    float *before = mw_alloc((size_t)s->width * 8), *after = before + s->width;
    NEED_OK(mw_store_read_range(store, s, 7, 1, before));
    CHECK(rename(other, path) == 0);
    NEED_OK(mw_store_read_range(store, s, 7, 1, after));
    NEED_OK(mw_store_read_tokens(store, &t));
    CHECK(memcmp(before, after, (size_t)s->width * 4) == 0 && s->dtype == MW_F32);
    CHECK_OK(mw_store_verify(store));
    mw_store_tokens_free(&t);
    mw_store_close(&store);
    mw_free(before);
    mw_free(path);
    mw_free(other);
}

typedef struct trap {
    int64_t calls, limit;
    int rank; /* the rank that fails; -1: all */
} trap;

static mw_status spring(void *self_, const mw_hook_event *event) {
    (void)event;
    trap *t = self_;
    t->calls++;
    return t->calls > t->limit && (t->rank < 0 || t->rank == mw_comm_rank(world)) ? MW_ERR_STATE : MW_OK;
}

static void harvest_until_failure(const char *name) {
    trap t = {.limit = 40 / mw_comm_size(world), .rank = -1};
    mw_hook hook = {.site = {0, MW_RESID_PRE}, .kind = MW_DETECTOR, .call = spring, .self = &t};
    mw_hook_id id;
    NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_STATE, harvest(world, name, MW_BF16, 1, NULL));
    mw_log_quiet(false);
    mw_hooks_detach(mw_model_hooks(model), id);
    mw_log_setup(0, 1, MW_LOG_WARNING);
}

/* A failed run is resumed, by another build of the same version too, and ends with the same bytes. */
static void resumes_after_a_failure(void) {
    mw_harvest_report report;
    harvest_until_failure("broken");
    char *path = sub("broken"), *final = mw_path_join(path, "activations.h5");
    CHECK(!mw_file_exists(final));
    commit = "def";
    CHECK_OK(harvest(world, "broken", MW_BF16, 1, &report));
    /* every block before the failed step, also those after the last flush */
    CHECK(report.resumed_blocks == 40 / mw_comm_size(world) * mw_comm_size(world));
    commit = "abc"; /* the file names the build that began it */
    if (mw_comm_rank(world) == 0) {
        CHECK_OK(harvest(self, "whole", MW_BF16, 1, NULL));
        same_file("broken", "whole");
    }
    mw_free(path);
    mw_free(final);
}

static void another_version_starts_again(void) {
    mw_harvest_report report;
    harvest_until_failure("older");
    version = "2";
    CHECK_OK(harvest(world, "older", MW_BF16, 1, &report));
    CHECK(report.resumed_blocks == 0);
    version = "1";
}

static void one_rank_fails_alone(void) {
    trap t = {.limit = 2, .rank = mw_comm_size(world) - 1};
    mw_hook hook = {.site = {0, MW_RESID_PRE}, .kind = MW_DETECTOR, .call = spring, .self = &t};
    mw_hook_id id;
    NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_STATE, harvest(world, "alone", MW_F32, 1, NULL)); /* all ranks fail; none hangs */
    mw_log_quiet(false);
    mw_hooks_detach(mw_model_hooks(model), id);
}

static void refusals(void) {
    static const mw_site twice[] = {{1, MW_RESID_POST}, {1, MW_RESID_POST}}, missing[] = {{2, MW_RESID_POST}};
    mw_dataset *d = make_dataset();
    mw_harvest_options options = {.sites = twice, .n_sites = 2, .batch = 4, .skip = MW_SKIP_NONE};
    char *path = sub("refused");
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_CONFIG, mw_harvest(model, d, NULL, world, path, &options, NULL));
    options.sites = missing;
    options.n_sites = 1;
    CHECK_FAILS(MW_ERR_CONFIG, mw_harvest(model, d, NULL, world, path, &options, NULL));
    options.sites = sites;
    options.skip_positions = 1000;
    CHECK_FAILS(MW_ERR_CONFIG, mw_harvest(model, d, NULL, world, path, &options, NULL));
    mw_log_quiet(false);
    mw_free(path);
    mw_dataset_free(&d);
}

static mw_status stop_here(void *self_, const mw_hook_event *event) {
    (void)event;
    int64_t *left = self_;
    return (*left)-- > 0 ? MW_OK : MW_STOP;
}

/* A pass that ends before a stored site, on the last rank in its first or a later block, is an error on all ranks. */
static void stops_are_noticed(void) {
    for (int64_t later = 0; later < 2; later++) {
        int64_t left = mw_comm_rank(world) == mw_comm_size(world) - 1 ? later * 2 : 1000;
        mw_hook hook = {
            .site = {0, MW_RESID_POST}, .kind = MW_DETECTOR, .call = stop_here, .self = &left, .name = "early"};
        mw_hook_id id;
        NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
        mw_log_quiet(true);
        CHECK_FAILS(MW_ERR_STATE, harvest(world, "stopped", MW_F32, 4, NULL));
        mw_log_quiet(false);
        mw_hooks_detach(mw_model_hooks(model), id);
        mw_site site;
        const char *name;
        if (left < 100) CHECK(mw_hooks_stopped(mw_model_hooks(model), &site, &name) && strcmp(name, "early") == 0);
    }
}

/* ---- discovery against brute force ---------------------------------------------------------------------- */

typedef struct hit {
    float score;
    int64_t row;
} hit;

static int by_score(const void *a, const void *b) {
    const hit *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->row < y->row ? -1 : 1;
}

enum { N_FOUND = 50, TOP = 4, SAMPLES = 6, AROUND = 3, NEAR = 5, FEW_ROWS = 40 };

/* The expected data of a discovery: the codes of all rows, encoded at once. */
typedef struct known {
    mw_store_tokens tokens;
    mw_codes codes;
    mw_sae *sae;
    mw_discovery *found;
    int64_t *document; /* [rows] */
} known;

static bool same_span(const known *k, int64_t a, int64_t b) {
    return k->tokens.sequence[a] == k->tokens.sequence[b] && k->document[a] == k->document[b];
}

static void check_top(const known *k, int64_t latent, const hit *hits, int64_t n) {
    const mw_discovery *d = k->found;
    int64_t rank = 0, first = latent * d->per;
    for (int64_t h = 0; h < n && rank < TOP; h++) { /* the best row of each span */
        bool seen = false;
        for (int64_t p = 0; p < h; p++) seen = seen || same_span(k, hits[p].row, hits[h].row);
        if (seen) continue;
        CHECK(d->text_row[first + rank] == hits[h].row);
        /* encoding in other chunks may round differently in the last place */
        CHECK(fabs(d->text_score[first + rank] - hits[h].score) < 1e-5);
        rank++;
    }
    for (; rank < TOP; rank++) CHECK(d->text_row[first + rank] == -1);
}

/* The samples are the active rows with the largest random numbers. */
static void check_samples(const known *k, int64_t latent, const hit *hits, int64_t n) {
    const mw_discovery *d = k->found;
    int64_t first = latent * d->per + TOP, kept = n < SAMPLES ? n : SAMPLES;
    for (int64_t i = 0; i < SAMPLES; i++) CHECK((d->text_row[first + i] >= 0) == (i < kept));
    for (int64_t i = 1; i < kept; i++) CHECK(d->text_score[first + i - 1] >= d->text_score[first + i]);
    for (int64_t h = 0; h < n; h++) {
        uint32_t bits[4];
        int64_t larger = 0;
        bool chosen = false;
        mw_philox(9, (uint64_t)latent, (uint64_t)hits[h].row, bits);
        uint64_t own = (uint64_t)bits[0] << 32 | bits[1];
        for (int64_t o = 0; o < n; o++) {
            mw_philox(9, (uint64_t)latent, (uint64_t)hits[o].row, bits);
            larger += ((uint64_t)bits[0] << 32 | bits[1]) > own;
        }
        for (int64_t i = 0; i < kept; i++) chosen = chosen || d->text_row[first + i] == hits[h].row;
        CHECK(chosen == (larger < SAMPLES));
    }
}

static void check_histogram(const known *k, int64_t latent, const hit *hits, int64_t n) {
    const mw_discovery *d = k->found;
    int64_t bin[MW_BINS] = {0}, difference = 0;
    if (n == 0) return;
    double width = ldexp(1, d->bin_exponent[latent]);
    CHECK(hits[0].score >= 32 * width && hits[0].score < 64 * width);
    for (int64_t h = 0; h < n; h++) bin[(int)(hits[h].score / width)]++;
    for (int b = 0; b < MW_BINS; b++) difference += llabs(bin[b] - d->bin[latent * MW_BINS + b]);
    CHECK(difference <= 2); /* a value at the edge of a bin may round into the next */
}

static void check_windows(const known *k, int64_t latent) {
    const mw_discovery *d = k->found;
    for (int64_t t = latent * d->per; t < (latent + 1) * d->per; t++) {
        int64_t row = d->text_row[t], begin = d->text_start[t], length = d->text_start[t + 1] - begin;
        if (row < 0) {
            CHECK(length == 0);
            continue;
        }
        int64_t first = row - d->text_center[t], begin_row = row, end_row = row + 1;
        while (begin_row > 0 && row - begin_row < AROUND && same_span(k, begin_row - 1, row)) begin_row--;
        while (end_row < d->rows && end_row - row <= AROUND && same_span(k, end_row, row)) end_row++;
        CHECK(first == begin_row && first + length == end_row);
        CHECK(d->text_value[begin + d->text_center[t]] == d->text_score[t]);
        CHECK(d->text_document[t] == k->document[row] && d->text_position[t] == (int32_t)k->tokens.position[row]);
        for (int64_t i = 0; i < length; i++) {
            CHECK(d->text_id[begin + i] == (int32_t)k->tokens.ids[first + i]);
            CHECK(fabs(d->text_value[begin + i] - mw_codes_find(&k->codes, first + i, latent)) < 1e-5);
        }
    }
}

/* Jaccard indices of all pairs over the sampled rows; the list is sorted by value, then by index. */
static void check_coactivation(const known *k, int64_t latent) {
    const mw_discovery *d = k->found;
    double jaccard[N_FOUND], last = 2;
    for (int64_t o = 0; o < N_FOUND; o++) {
        int64_t both = 0, either = 0;
        for (int64_t r = 0; r < d->rows; r++) {
            if (mw_permute(9, 0, (uint64_t)d->rows, (uint64_t)r) >= FEW_ROWS) continue;
            bool a = mw_codes_find(&k->codes, r, latent) > 0, b = mw_codes_find(&k->codes, r, o) > 0;
            both += a && b;
            either += a || b;
        }
        jaccard[o] = both && o != latent ? (double)both / (double)either : 0;
    }
    for (int64_t i = latent * NEAR; i < (latent + 1) * NEAR; i++) {
        int64_t better = 0, other = d->coactive.index[i];
        if (other < 0) break;
        CHECK(fabs(jaccard[other] - d->coactive.value[i]) < 1e-6 && d->coactive.value[i] <= last);
        for (int64_t o = 0; o < N_FOUND; o++)
            better += jaccard[o] > jaccard[other] || (jaccard[o] == jaccard[other] && o < other);
        CHECK(better == i - latent * NEAR);
        last = d->coactive.value[i];
    }
    for (int64_t o = 0, n = 0; o < N_FOUND; o++) {
        n += jaccard[o] > 0;
        if (o == N_FOUND - 1) CHECK((d->coactive.index[(latent + 1) * NEAR - 1] >= 0) == (n >= NEAR));
    }
    CHECK(d->coactive_rows == FEW_ROWS);
}

static void check_cosines(const known *k, int64_t latent) {
    const mw_discovery *d = k->found;
    const float *w = k->sae->w_dec;
    int64_t width = k->sae->d_out;
    double cosine[N_FOUND];
    for (int64_t o = 0; o < N_FOUND; o++) {
        double dot = 0, a = 0, b = 0;
        for (int64_t j = 0; j < width; j++) {
            dot += (double)w[latent * width + j] * w[o * width + j];
            a += (double)w[latent * width + j] * w[latent * width + j];
            b += (double)w[o * width + j] * w[o * width + j];
        }
        cosine[o] = dot / sqrt(a * b);
    }
    for (int64_t i = 0; i < NEAR; i++) {
        int64_t better = 0, other = d->cosine.index[latent * NEAR + i];
        NEED(other >= 0 && other != latent);
        CHECK(fabs(cosine[other] - d->cosine.value[latent * NEAR + i]) < 1e-5);
        for (int64_t o = 0; o < N_FOUND; o++) better += o != latent && cosine[o] > cosine[other] + 1e-5;
        CHECK(better <= i);
    }
}

/* ---- categories: the token ids modulo 3 ------------------------------------------------------------------- */

static void check_category(const known *k, int64_t latent, const int64_t hits[3]) {
    double best = 0, all[3] = {0};
    int which = -1;
    for (int64_t r = 0; r < k->tokens.n_rows; r++) all[k->tokens.ids[r] % 3]++;
    for (int c = 0; c < 3; c++) {
        double precision = hits[c] / (double)k->found->count[latent], recall = hits[c] / all[c];
        double f1 = hits[c] ? 2 * precision * recall / (precision + recall) : 0;
        CHECK(all[c] == (double)k->found->category_rows[c]);
        if (f1 > best + 1e-12) best = f1, which = c;
    }
    CHECK(k->found->category[latent] == which && fabs((double)k->found->f1[latent] - best) < 1e-6);
    if (which < 0) return;
    CHECK(fabs(k->found->precision[latent] - hits[which] / (double)k->found->count[latent]) < 1e-6);
    CHECK(fabs(k->found->recall[latent] - hits[which] / all[which]) < 1e-6);
}

/* F1 of a latent as a detector of a category, on the first rows of documents whose number is even, or odd. */
static double f1_naive(const known *k, int64_t rows, int64_t parity, int64_t latent, uint32_t category) {
    double hits = 0, misses = 0;
    for (int64_t r = 0; r < rows; r++) {
        if (k->document[r] % 2 != parity) continue;
        bool is = k->tokens.ids[r] % 3 == category, says = mw_codes_find(&k->codes, r, latent) > 0;
        hits += is && says;
        misses += is != says;
    }
    return hits > 0 ? 2 * hits / (2 * hits + misses) : 0;
}

static void check_scores(const known *k, const mw_store_view *site, const mw_discover_options *options) {
    const mw_sae *both[] = {k->sae, k->sae};
    const char *names[] = {"same", "other"};
    int64_t rows = (int64_t)k->tokens.document_row[k->tokens.n_documents / 2], measured = 0;
    mw_discover_options some = *options;
    double sum = 0;
    some.baseline_rows = rows + 1; /* the next document is not whole */
    NEED(k->tokens.document_row[k->tokens.n_documents / 2 + 1] > (uint64_t)rows + 1);
    NEED_OK(mw_discover_scores(both, names, 2, site, world, &some, k->found));
    for (int64_t r = 0; r < rows; r++) measured += k->document[r] % 2;
    for (uint32_t c = 0; c < 3; c++) {
        int64_t best = 0;
        for (int64_t i = 1; i < N_FOUND; i++)
            if (f1_naive(k, rows, 0, i, c) > f1_naive(k, rows, 0, best, c) + 1e-12) best = i;
        double f1 = f1_naive(k, rows, 1, best, c);
        CHECK(fabs(k->found->scored_f1[c] - f1) < 1e-6 && k->found->scored_f1[3 + c] == k->found->scored_f1[c]);
        sum += f1;
    }
    const float *mean = k->found->score + MW_SCORE_F1 * 3, *lead = k->found->score + (MW_SCORES + MW_SCORE_F1_LEAD) * 3;
    CHECK(k->found->scored_counts[0] == 3 && k->found->scored_counts[1] == measured);
    CHECK(fabs(mean[0] - sum / 3) < 1e-6 && mean[1] <= mean[0] && mean[2] >= mean[0]);
    CHECK(lead[0] == 0 && lead[1] == 0 && lead[2] == 0);
}

static void round_trip(const mw_discovery *d) {
    mw_discovery again;
    char path[256], *mark = NULL;
    snprintf(path, sizeof path, "%s/discovery-%d.h5", folder, mw_comm_rank(world));
    NEED_OK(mw_discovery_save(d, path, "abc", "def"));
    NEED_OK(mw_discovery_load(path, &again, &mark));
    CHECK(strcmp(mark, "abc") == 0 && again.n == d->n && again.per == d->per && again.rows == d->rows);
    size_t texts = (size_t)(d->n * d->per), tokens = (size_t)d->text_start[texts];
    CHECK(memcmp(again.text_row, d->text_row, texts * 8) == 0 &&
          memcmp(again.text_value, d->text_value, tokens * 4) == 0);
    CHECK(memcmp(again.bin, d->bin, (size_t)d->n * MW_BINS * 8) == 0 && again.n_sources == d->n_sources);
    CHECK(memcmp(again.cosine.index, d->cosine.index, (size_t)(d->n * NEAR) * 4) == 0 && again.promoted.m == 0);
    CHECK(again.n_categories == 3 && strcmp(again.category_name[2], "two") == 0);
    CHECK(memcmp(again.f1, d->f1, (size_t)d->n * 4) == 0 && memcmp(again.category_rows, d->category_rows, 3 * 8) == 0);
    CHECK(again.n_scored == 2 && strcmp(again.scored[1], "other") == 0 &&
          memcmp(again.score, d->score, 2 * MW_SCORES * 3 * 4) == 0);
    mw_discovery_free(&again);
    mw_free(mark);
    for (int version = 1; version <= 4; version++) { /* earlier ones are read without categories, a future one is not */
        char kind[] = "microw discovery N";
        hid_t file = -1;
        kind[strlen(kind) - 1] = (char)('0' + version);
        NEED_OK(h5_open(path, NULL, true, &file));
        NEED(H5Adelete(file, "kind") >= 0);
        NEED_OK(h5_close(file, path, h5_put_text(file, path, "kind", kind)));
        mw_log_quiet(true);
        CHECK(mw_discovery_load(path, &again, NULL) == (version < 4 ? MW_OK : MW_ERR_FORMAT));
        mw_log_quiet(false);
        if (version == 4) continue;
        CHECK(again.n_categories == (version == 3 ? 3 : 0) && (version == 3 || again.category[0] == -1));
        mw_discovery_free(&again);
    }
    mw_log_quiet(true);
    d->text_id[tokens - 1] = (int32_t)d->n_vocabulary; /* one past the end */
    NEED_OK(mw_discovery_save(d, path, "abc", "def"));
    CHECK_FAILS(MW_ERR_FORMAT, mw_discovery_load(path, &again, NULL));
    mw_log_quiet(false);
}

static void discovery_is_exact(void) {
    mw_store *store = open_store("all-1");
    mw_store_view site;
    mw_discovery found;
    known k = {.found = &found};
    NEED_OK(mw_store_view_open(store, "1.resid_post", &site));
    NEED_OK(mw_store_read_tokens(store, &k.tokens));
    k.document = documents_of_rows(&k.tokens);
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = N_FOUND, .d = site.width, .k = 5}, &k.sae));
    fill_random(k.sae->w_enc, N_FOUND * site.width, 1);
    fill_random(k.sae->w_dec, N_FOUND * site.width, 2);
    int32_t category[61];
    char *names[] = {"zero", "one", "two"};
    for (int i = 0; i < 61; i++) category[i] = i % 3;
    mw_categories categories = {names, 3, category, 61};
    mw_discover_options options = {.top_texts = TOP,
                                   .samples = SAMPLES,
                                   .around = AROUND,
                                   .neighbours = NEAR,
                                   .coactive_rows = FEW_ROWS,
                                   .seed = 9,
                                   .categories = &categories};
    NEED_OK(mw_discover(k.sae, &site, world, &options, &found));
    int64_t rows = k.tokens.n_rows, total = 0;
    float *x = mw_alloc((size_t)(rows * site.width) * 4);
    hit *hits = mw_alloc((size_t)rows * sizeof *hits);
    NEED_OK(mw_store_view_range(&site, 0, rows, x));
    NEED_OK(mw_sae_encode(k.sae, x, rows, &k.codes));
    for (int64_t i = 0; i < N_FOUND; i++) {
        int64_t n = 0, by_category[3] = {0}, by_source[2] = {0};
        for (int64_t r = 0; r < rows; r++) {
            float value = mw_codes_find(&k.codes, r, i);
            if (!(value > 0)) continue;
            hits[n++] = (hit){value, r};
            by_category[k.tokens.ids[r] % 3]++;
            by_source[k.document[r] % 3 == 0]++;
        }
        qsort(hits, (size_t)n, sizeof *hits, by_score);
        CHECK(found.count[i] == n && memcmp(found.by_category + i * 3, by_category, sizeof by_category) == 0);
        CHECK(found.n_sources == 2 && memcmp(found.by_source + i * 2, by_source, sizeof by_source) == 0);
        CHECK(found.source_rows[0] + found.source_rows[1] == rows && found.source_rows[1] > rows / 5);
        check_top(&k, i, hits, n);
        check_samples(&k, i, hits, n);
        check_histogram(&k, i, hits, n);
        check_windows(&k, i);
        check_coactivation(&k, i);
        check_cosines(&k, i);
        check_category(&k, i, by_category);
        total += n;
    }
    CHECK(total > rows); /* the SAE was active at all */
    check_scores(&k, &site, &options);
    round_trip(&found);
    mw_codes_free(&k.codes);
    mw_free(k.document);
    mw_free(x);
    mw_free(hits);
    mw_discovery_free(&found);
    mw_sae_free(&k.sae);
    mw_store_tokens_free(&k.tokens);
    mw_store_close(&store);
}

/* ---- metrics against brute force ------------------------------------------------------------------------ */

static void metrics_are_exact(void) {
    enum { N = 50, K = 5 };
    mw_store *store = open_store("all-0");
    mw_store_view site;
    mw_store_tokens tokens;
    mw_sae *sae = NULL;
    mw_sae_metrics m, alone;
    NEED_OK(mw_store_view_open(store, "1.resid_post", &site));
    NEED_OK(mw_store_read_tokens(store, &tokens));
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = site.width, .k = K}, &sae));
    fill_random(sae->w_enc, N * site.width, 1);
    fill_random(sae->w_dec, N * site.width, 2);
    for (int i = 0; i < N; i++) sae->b_enc[i] = i % 3 ? -2.0f : 0.0f; /* not every row has K active latents */
    NEED_OK(mw_sae_measure(sae, &site, NULL, MW_NAN_STOP, world, &m));
    NEED_OK(mw_sae_measure(sae, &site, NULL, MW_NAN_STOP, self, &alone));
    CHECK(memcmp(&m, &alone, sizeof m) == 0);
    int64_t rows = tokens.n_rows, d = site.width, fired[N] = {0}, dead = 0, dense = 0;
    float *x = mw_alloc((size_t)(rows * d) * 4), *y = mw_alloc((size_t)(rows * d) * 4);
    mw_codes codes = {0};
    NEED_OK(mw_store_view_range(&site, 0, rows, x));
    NEED_OK(mw_sae_encode(sae, x, rows, &codes));
    NEED_OK(mw_sae_decode(sae, &codes, NULL, y));
    double e2 = 0, spread = 0, cosine = 0, l0 = 0, l1 = 0, error_spread = 0, late_e2 = 0, late_spread = 0;
    for (int64_t j = 0; j < d; j++) {
        double mean = 0, error = 0;
        for (int64_t r = 0; r < rows; r++) {
            mean += x[r * d + j] / (double)rows;
            error += (x[r * d + j] - y[r * d + j]) / (double)rows;
        }
        for (int64_t r = 0; r < rows; r++) {
            double e = x[r * d + j] - y[r * d + j], away = x[r * d + j] - mean;
            e2 += e * e;
            spread += away * away;
            error_spread += (e - error) * (e - error);
            if (tokens.position[r] >= 15 && tokens.position[r] <= 30) late_e2 += e * e, late_spread += away * away;
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        double dot = 0, xx = 0, yy = 0;
        for (int64_t j = 0; j < d; j++) {
            dot += (double)x[r * d + j] * y[r * d + j];
            xx += (double)x[r * d + j] * x[r * d + j];
            yy += (double)y[r * d + j] * y[r * d + j];
        }
        if (xx > 0 && yy > 0) cosine += dot / sqrt(xx * yy) / (double)rows;
        for (int64_t e = codes.start[r]; e < codes.start[r + 1]; e++) {
            l0 += 1 / (double)rows;
            l1 += codes.value[e] / (double)rows;
            fired[codes.index[e]]++;
        }
    }
    for (int i = 0; i < N; i++) {
        dead += fired[i] == 0;
        dense += (double)fired[i] > 0.1 * (double)rows;
    }
    /* encoding in other chunks may round differently in the last place */
    CHECK(fabs(m.fvu - e2 / spread) < 1e-5 * m.fvu && fabs(m.mse - e2 / (double)(rows * d)) < 1e-5 * m.mse);
    CHECK(fabs(m.explained_variance - (1 - error_spread / spread)) < 1e-5 * fabs(m.explained_variance));
    CHECK(fabs(m.cosine - cosine) < 1e-5 && fabs(m.l1 - l1) < 1e-4 * l1);
    CHECK(fabs(m.l0 - l0) < 1e-9 && m.dead == dead && m.dense == dense && m.rows == rows && l0 < K);
    CHECK(fabs(m.position_fvu[4] - late_e2 / late_spread) < 1e-5 * m.position_fvu[4]);
    CHECK(m.l0_quantile[0] <= m.l0_quantile[2] && m.l0_quantile[2] <= m.l0_quantile[4] && m.l0_quantile[4] == K);
    int64_t binned = 0;
    for (int i = 0; i < MW_FREQUENCY_BINS; i++) binned += m.frequency_bin[i];
    CHECK(binned == N - dead && m.frequency_bin[0] == dense);
    mw_codes_free(&codes);
    mw_free(x);
    mw_free(y);
    mw_sae_free(&sae);
    mw_store_tokens_free(&tokens);
    mw_store_close(&store);
}

/* A skip transcoder from one site to another, and a crosscoder over both: FVU of the reconstruction per site. */
static void several_sites_are_measured(void) {
    enum { N = 50, K = 5 };
    mw_store *store = open_store("all-0");
    mw_store_view from, to, both;
    NEED_OK(mw_store_view_open(store, "0.attn_k", &from));
    NEED_OK(mw_store_view_open(store, "1.resid_post", &to));
    NEED_OK(mw_store_view_open(store, "0.attn_k,1.resid_post", &both));
    CHECK(both.width == from.width + to.width);
    int64_t rows = mw_store_rows(store), widths[2] = {from.width, to.width};
    for (int cross = 0; cross < 2; cross++) {
        mw_sae *sae = NULL;
        mw_sae_metrics m, alone;
        mw_codes codes = {0};
        const mw_store_view *in = cross ? &both : &from, *out = cross ? &both : &to;
        mw_sae_shape shape = {.n = N,
                              .d = in->width,
                              .k = K,
                              .d_out = cross ? 0 : to.width,
                              .skip = !cross,
                              .n_targets = cross ? 2 : 0,
                              .target_width = widths};
        NEED_OK(mw_sae_new(backend, &shape, &sae));
        fill_random(sae->w_enc, N * sae->d, 1);
        fill_random(sae->w_dec, N * sae->d_out, 2);
        if (sae->w_skip) fill_random(sae->w_skip, sae->d * sae->d_out, 3);
        NEED_OK(mw_sae_measure(sae, in, cross ? NULL : out, MW_NAN_STOP, world, &m));
        NEED_OK(mw_sae_measure(sae, in, cross ? NULL : out, MW_NAN_STOP, self, &alone));
        CHECK(memcmp(&m, &alone, sizeof m) == 0);
        float *x = mw_alloc((size_t)(rows * in->width) * 4), *y = mw_alloc((size_t)(rows * out->width) * 4);
        float *made = mw_alloc((size_t)(rows * out->width) * 4);
        NEED_OK(mw_store_view_range(in, 0, rows, x));
        NEED_OK(mw_store_view_range(out, 0, rows, y));
        NEED_OK(mw_sae_encode(sae, x, rows, &codes));
        NEED_OK(mw_sae_decode(sae, &codes, x, made));
        double e2[2] = {0}, spread[2] = {0};
        for (int64_t j = 0; j < out->width; j++) {
            double mean = 0;
            int part = cross && j >= from.width;
            for (int64_t r = 0; r < rows; r++) mean += y[r * out->width + j] / (double)rows;
            for (int64_t r = 0; r < rows; r++) {
                e2[part] += pow(y[r * out->width + j] - made[r * out->width + j], 2);
                spread[part] += pow(y[r * out->width + j] - mean, 2);
            }
        }
        CHECK(fabs(m.fvu - (e2[0] + e2[1]) / (spread[0] + spread[1])) < 1e-5 * m.fvu);
        for (int p = 0; p <= cross; p++) CHECK(fabs(m.target_fvu[p] - e2[p] / spread[p]) < 1e-5 * m.target_fvu[p]);
        mw_codes_free(&codes);
        mw_sae_free(&sae);
        void *all[] = {x, y, made};
        for (int i = 0; i < 3; i++) mw_free(all[i]);
    }
    mw_log_quiet(true);
    CHECK(mw_store_view_open(store, "0.attn_k,0.attn_k", &both) == MW_ERR_CONFIG);
    CHECK(mw_store_view_open(store, "0.attn_k,", &both) != MW_OK);
    mw_log_quiet(false);
    mw_store_close(&store);
}

/* ---- datasets --------------------------------------------------------------------------------- */

static void datasets_do_not_depend_on_ranks(void) {
    char *path = sub("texts.jsonl");
    if (mw_comm_rank(world) == 0) {
        mw_text text = {0};
        for (int i = 0; i < 57; i++)
            mw_text_addf(
                &text, i % 2 ? "{\"text\": \"Story %d of the little dragon.\", \"n\": 1}\n" : "\"plain %d \\u00e9\"\n",
                i);
        NEED_OK(mw_file_write_atomic(path, text.data, text.length));
        mw_text_free(&text);
    }
    NEED_OK(mw_comm_barrier(world));
    mw_tokenizer *t = NULL;
    NEED_OK(mw_tokenizer_open(MICROW_GOLDEN "/tokenizers/gpt2.json", &t));
    for (int variant = 0; variant < 6; variant++) {
        const char *paths[] = {path};
        mw_dataset_options o = {.paths = paths,
                                .n_paths = 1,
                                .text_field = "text",
                                .context = 16,
                                .pack = variant % 2,
                                .truncate = variant == 2,
                                .bos = variant == 5 ? MW_BOS_NONE : MW_BOS_AUTO,
                                .limit_tokens = variant == 3 ? 100 : 0,
                                .limit_documents = variant == 4 ? 9 : 0};
        mw_dataset *a = NULL, *b = NULL;
        NEED_OK(mw_dataset_load(&o, t, world, &a));
        NEED_OK(mw_dataset_load(&o, t, self, &b));
        CHECK(a->n_ids == b->n_ids && a->n_sequences == b->n_sequences);
        CHECK(memcmp(a->ids, b->ids, (size_t)a->n_ids * sizeof *a->ids) == 0);
        CHECK(memcmp(a->document, b->document, (size_t)a->n_sequences * sizeof *a->document) == 0);
        if (variant == 3) CHECK(a->n_ids == 100);
        mw_dataset_free(&a);
        mw_dataset_free(&b);
    }
    mw_tokenizer_free(&t);
    mw_free(path);
}

static void prepare(void) {
    if (mw_comm_rank(world) == 0) NEED(mkdtemp(folder) != NULL);
    NEED_OK(mw_comm_broadcast(world, folder, sizeof folder, 0));
    NEED_OK(mw_comm_self(&self));
    NEED_OK(mw_backend_open("cpu", &backend));
    NEED_OK(mw_model_open(MICROW_GOLDEN "/models/gpt2", "f32", backend, &model));
}

int main(int argc, char **argv) {
    NEED_OK(mw_comm_world(&argc, &argv, &world));
    prepare();
    RUN(bytes_do_not_depend_on_ranks);
    RUN(values_are_right);
    RUN(several_stores_are_one);
    RUN(a_file_that_is_replaced_is_read_to_its_end);
    RUN(resumes_after_a_failure);
    RUN(another_version_starts_again);
    RUN(one_rank_fails_alone);
    RUN(refusals);
    RUN(stops_are_noticed);
    RUN(discovery_is_exact);
    RUN(metrics_are_exact);
    RUN(several_sites_are_measured);
    RUN(datasets_do_not_depend_on_ranks);
    NEED_OK(mw_comm_barrier(world));
    if (mw_comm_rank(world) == 0) {
        char command[96];
        snprintf(command, sizeof command, "rm -r %s", folder);
        CHECK(system(command) == 0);
    }
    mw_model_free(&model);
    mw_backend_close(&backend);
    mw_comm_free(&self);
    return test_end_of_ranks(&world);
}
