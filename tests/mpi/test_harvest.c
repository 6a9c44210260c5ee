/* Harvest, store, discovery: the right values, the same bytes at any number of ranks, resuming, and one rank failing. */
#include "microw/concepts.h"
#include "microw/harvest.h"
#include "test.h"

#include <unistd.h>

enum { SEQUENCES = 45, SITES = 3 };

static mw_comm *world, *self;
static mw_backend *backend;
static mw_model *model;
static char folder[] = "/tmp/microw-harvest-XXXXXX";
static const mw_site sites[SITES] = {{1, MW_RESID_POST}, {0, MW_ATTN_K}, {0, MW_LOGITS}};

static mw_dataset *make_dataset(void) {
    static int32_t ids[SEQUENCES * 40];
    int64_t length[SEQUENCES], at = 0;
    for (int64_t s = 0; s < SEQUENCES; s++) {
        length[s] = 1 + (s * 7) % 40;
        for (int64_t i = 0; i < length[s]; i++) ids[at++] = (int32_t)((s * 31 + i * 17) % 61);
    }
    mw_dataset *d = NULL;
    NEED_OK(mw_dataset_from_ids(ids, length, SEQUENCES, &d));
    return d;
}

static char *sub(const char *name) {
    char *path = mw_path_join(folder, name);
    NEED(path != NULL);
    return path;
}

static mw_status harvest(const mw_comm *comm, const char *name, mw_dtype dtype, int64_t batch,
                         mw_harvest_report *report) {
    static const mw_pair provenance[] = {{"model", "gpt2"}, {"fingerprint", "f"}};
    mw_harvest_options options = {.sites = sites,
                                  .n_sites = SITES,
                                  .dtype = dtype,
                                  .batch = batch,
                                  .skip = MW_SKIP_NONE,
                                  .skip_positions = 1,
                                  .provenance = provenance,
                                  .n_provenance = 2};
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

/* Against what a collector sees, row by row. */
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
    CHECK(tokens.n_rows == d->n_ids - SEQUENCES); /* the first position of each sequence was left out */
    mw_store_tokens_free(&tokens);
    mw_dataset_free(&d);
    mw_store_close(&store);
}

typedef struct trap {
    int64_t calls, limit;
    int rank; /* only this one; -1: all */
} trap;

static mw_status spring(void *self_, const mw_hook_event *event) {
    (void)event;
    trap *t = self_;
    t->calls++;
    return t->calls > t->limit && (t->rank < 0 || t->rank == mw_comm_rank(world)) ? MW_ERR_STATE : MW_OK;
}

/* A run that dies on the way is gone on with, and ends with the same bytes. */
static void resumes_after_a_failure(void) {
    trap t = {.limit = 40 / mw_comm_size(world), .rank = -1};
    mw_hook hook = {.site = {0, MW_RESID_PRE}, .kind = MW_DETECTOR, .call = spring, .self = &t};
    mw_hook_id id;
    NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_STATE, harvest(world, "broken", MW_BF16, 1, NULL));
    mw_log_quiet(false);
    mw_hooks_detach(mw_model_hooks(model), id);
    char *path = sub("broken"), *final = mw_path_join(path, "activations.h5");
    CHECK(!mw_file_exists(final));
    mw_harvest_report report;
    mw_log_setup(0, 1, MW_LOG_WARNING);
    CHECK_OK(harvest(world, "broken", MW_BF16, 1, &report));
    /* every block before the step that failed, also those after the last flush */
    CHECK(report.resumed_blocks == 40 / mw_comm_size(world) * mw_comm_size(world));
    if (mw_comm_rank(world) == 0) {
        CHECK_OK(harvest(self, "whole", MW_BF16, 1, NULL));
        same_file("broken", "whole");
    }
    mw_free(path);
    mw_free(final);
}

static void one_rank_fails_alone(void) {
    trap t = {.limit = 2, .rank = mw_comm_size(world) - 1};
    mw_hook hook = {.site = {0, MW_RESID_PRE}, .kind = MW_DETECTOR, .call = spring, .self = &t};
    mw_hook_id id;
    NEED_OK(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_STATE, harvest(world, "alone", MW_F32, 1, NULL)); /* all see it; nobody hangs */
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

static void top_texts_are_exact(void) {
    enum { N = 50, K = 5, TOP = 4 };
    mw_store *store = open_store("all-1");
    mw_store_view site;
    mw_store_tokens tokens;
    mw_sae *sae = NULL;
    mw_discovery found;
    NEED_OK(mw_store_view_open(store, "1.resid_post", &site));
    NEED_OK(mw_store_read_tokens(store, &tokens));
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = site.width, .k = K}, &sae));
    fill_random(sae->w_enc, N * site.width, 1);
    int32_t category[61];
    for (int i = 0; i < 61; i++) category[i] = i % 3;
    NEED_OK(mw_discover(sae, &site, world, TOP, category, 3, &found));
    int64_t rows = tokens.n_rows, total = 0;
    float *x = mw_alloc((size_t)(rows * site.width) * 4);
    mw_codes codes = {0};
    hit *hits = mw_alloc((size_t)rows * sizeof *hits);
    NEED_OK(mw_store_view_range(&site, 0, rows, x));
    NEED_OK(mw_sae_encode(sae, x, rows, &codes));
    for (int64_t i = 0; i < N; i++) {
        int64_t n = 0, by_category[3] = {0}, place = 0;
        for (int64_t r = 0; r < rows; r++) {
            float value = mw_codes_find(&codes, r, i);
            if (!(value > 0)) continue;
            hits[n++] = (hit){value, r};
            by_category[tokens.ids[r] % 3]++;
        }
        qsort(hits, (size_t)n, sizeof *hits, by_score);
        for (int64_t h = 0; h < n && place < TOP; h++) { /* the best row of each sequence */
            bool seen = false;
            for (int64_t p = 0; p < h; p++) seen = seen || tokens.sequence[hits[p].row] == tokens.sequence[hits[h].row];
            if (seen) continue;
            CHECK(found.top[i * TOP + place].row == hits[h].row);
            /* encoding in other chunks may round differently in the last place */
            CHECK(fabs(found.top[i * TOP + place].score - hits[h].score) < 1e-5);
            place++;
        }
        for (; place < TOP; place++) CHECK(found.top[i * TOP + place].row == -1);
        CHECK(found.count[i] == n && memcmp(found.by_category + i * 3, by_category, sizeof by_category) == 0);
        total += n;
    }
    CHECK(total > rows); /* the SAE was active at all */
    mw_codes_free(&codes);
    mw_free(x);
    mw_free(hits);
    mw_discovery_free(&found);
    mw_sae_free(&sae);
    mw_store_tokens_free(&tokens);
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
    NEED_OK(mw_sae_measure(sae, &site, NULL, world, &m));
    NEED_OK(mw_sae_measure(sae, &site, NULL, self, &alone));
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

/* A skip transcoder from one site to another, and a crosscoder over both: FVU of what is rebuilt, site by site. */
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
                              .n_parts = cross ? 2 : 0,
                              .part = widths};
        NEED_OK(mw_sae_new(backend, &shape, &sae));
        fill_random(sae->w_enc, N * sae->d, 1);
        fill_random(sae->w_dec, N * sae->d_out, 2);
        if (sae->w_skip) fill_random(sae->w_skip, sae->d * sae->d_out, 3);
        NEED_OK(mw_sae_measure(sae, in, cross ? NULL : out, world, &m));
        NEED_OK(mw_sae_measure(sae, in, cross ? NULL : out, self, &alone));
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
        for (int p = 0; p <= cross; p++) CHECK(fabs(m.part_fvu[p] - e2[p] / spread[p]) < 1e-5 * m.part_fvu[p]);
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

/* ---- texts, in shares --------------------------------------------------------------------------------- */

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
    RUN(resumes_after_a_failure);
    RUN(one_rank_fails_alone);
    RUN(refusals);
    RUN(top_texts_are_exact);
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
    int64_t failed = test_failures;
    NEED_OK(mw_comm_sum_i64(world, &failed, 1));
    test_failures = (int)failed;
    mw_comm_free(&world);
    return test_end();
}
