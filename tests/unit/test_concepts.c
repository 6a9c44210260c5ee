/* SAE files, encoding, steering arithmetic, import and export of names, texts of tokens. */
#include "microw/concepts.h"
#include "microw/safetensors.h"
#include "report/report.h"
#include "test.h"

#include <unistd.h>

enum { N = 40, D = 6, K = 5, ROWS = 300 };

static mw_backend *backend;
static char folder[] = "/tmp/microw-concepts-XXXXXX";

static mw_sae *make_sae(void) {
    mw_sae *sae = NULL;
    NEED_OK(mw_sae_new(backend, &(mw_sae_shape){.n = N, .d = D, .k = K}, &sae));
    fill_random(sae->w_enc, N * D, 1);
    fill_random(sae->w_dec, N * D, 2);
    fill_random(sae->b_enc, N, 3);
    fill_random(sae->b_dec, D, 4);
    return sae;
}

/* Computes the ReLU of the K largest pre-activations, by a naive loop in double. */
static void naive_codes(const mw_sae *s, const float *x, double z[N]) {
    double a[N];
    for (int i = 0; i < N; i++) {
        a[i] = s->b_enc[i];
        for (int j = 0; j < D; j++) a[i] += (double)s->w_enc[i * D + j] * (x[j] - s->b_dec[j]);
    }
    for (int i = 0; i < N; i++) {
        int above = 0;
        for (int j = 0; j < N; j++) above += a[j] > a[i];
        z[i] = above < K && a[i] > 0 ? a[i] : 0;
    }
}

static void naive_decode(const mw_sae *s, const double z[N], double out[D]) {
    for (int j = 0; j < D; j++) {
        out[j] = s->b_dec[j];
        for (int i = 0; i < N; i++) out[j] += z[i] * s->w_dec[i * D + j];
    }
}

static void encode_and_decode(void) {
    mw_sae *s = make_sae();
    float x[ROWS * D], x_hat[ROWS * D];
    mw_codes codes = {0};
    fill_random(x, ROWS * D, 5);
    CHECK_OK(mw_sae_encode(s, x, ROWS, &codes));
    CHECK_OK(mw_sae_decode(s, &codes, NULL, x_hat));
    for (int r = 0; r < ROWS; r++) {
        double z[N], expected[D];
        naive_codes(s, x + r * D, z);
        naive_decode(s, z, expected);
        for (int i = 0; i < N; i++) CHECK(fabs(mw_codes_find(&codes, r, i) - z[i]) < 1e-5);
        for (int j = 0; j < D; j++) CHECK(fabs(x_hat[r * D + j] - expected[j]) < 1e-4);
    }
    s->variant = MW_BATCH_TOPK; /* outside training all latents above the threshold are active */
    s->threshold = 1.25f;
    CHECK_OK(mw_sae_encode(s, x, ROWS, &codes));
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++) {
            double a = s->b_enc[i];
            for (int j = 0; j < D; j++) a += (double)s->w_enc[i * D + j] * (x[r * D + j] - s->b_dec[j]);
            if (fabs(a - 1.25) > 1e-4) CHECK(fabs(mw_codes_find(&codes, r, i) - (a > 1.25 ? a : 0)) < 1e-4);
        }
    mw_codes_free(&codes);
    mw_sae_free(&s);
}

static void steering(void) {
    mw_sae *s = make_sae();
    float x[ROWS * D], edited[ROWS * D];
    int32_t token[ROWS];
    fill_random(x, ROWS * D, 6);
    for (int r = 0; r < ROWS; r++) token[r] = r % 10;
    const mw_latent_edit edits[] = {
        {.latent = 3, .scale = 2.5}, {.latent = 17, .scale = 1, .add = 0.75}, {.latent = 39}};
    for (int keep = 0; keep < 2; keep++) {
        mw_steering steering = {.sae = s, .edits = edits, .n_edits = 3, .keep_error = keep, .untouched = 4};
        memcpy(edited, x, sizeof x);
        mw_hook_event event = {
            .site = {0, MW_RESID_POST}, .backend = backend, .x = mw_tensor_2d(MW_F32, edited, ROWS, D), .token = token};
        CHECK_OK(mw_steer(&steering, &event));
        for (int r = 0; r < ROWS; r++) {
            double z[N], before[D], after[D];
            naive_codes(s, x + r * D, z);
            naive_decode(s, z, before);
            z[3] *= 2.5;
            z[17] += 0.75;
            z[39] = 0;
            naive_decode(s, z, after);
            for (int j = 0; j < D; j++) {
                double expected = token[r] == 4 ? x[r * D + j] : after[j] + (keep ? x[r * D + j] - before[j] : 0);
                CHECK(fabs(edited[r * D + j] - expected) < 1e-4);
            }
        }
    }
    const mw_latent_edit outside = {.latent = N};
    mw_steering bad = {.sae = s, .edits = &outside, .n_edits = 1, .untouched = -1};
    mw_hook_event event = {.backend = backend, .x = mw_tensor_2d(MW_F32, edited, ROWS, D)};
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_ARG, mw_steer(&bad, &event));
    event.x.shape[1] = D - 1;
    bad.n_edits = 0;
    CHECK_FAILS(MW_ERR_ARG, mw_steer(&bad, &event));
    mw_log_quiet(false);
    mw_code_log log = {.sae = s};
    event.x = mw_tensor_2d(MW_F32, x, ROWS, D);
    CHECK_OK(mw_observe(&log, &event));
    CHECK_OK(mw_observe(&log, &event));
    CHECK(log.rows == 2 * ROWS);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++) CHECK(mw_codes_find(&log.codes, r, i) == mw_codes_find(&log.codes, r + ROWS, i));
    mw_code_log_free(&log);
    mw_sae_free(&s);
}

static void saves_and_loads(void) {
    mw_sae *s = make_sae(), *again = NULL;
    char path[128], command[256];
    snprintf(path, sizeof path, "%s/sae", folder);
    CHECK_OK(mw_sae_save(s, path));
    NEED_OK(mw_sae_load(path, backend, &again));
    CHECK(again->n == N && again->d == D && again->k == K &&
          memcmp(again->w_enc, s->w_enc, sizeof(float) * N * D) == 0);
    CHECK(memcmp(again->b_dec, s->b_dec, sizeof(float) * D) == 0);
    mw_sae_free(&again);
    static const char *const damage[] = {
        "sed -i 's/\"k\": 5/\"k\": 41/' cfg.json", "sed -i 's/\"k\": 41/\"k\": 5/; s/: 40/: 39/' cfg.json",
        "sed -i 's/: 39/: 40/; s/\"topk\"/\"vq\"/' cfg.json", "truncate -s -8 sae.safetensors", "rm sae.safetensors"};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        snprintf(command, sizeof command, "cd %s && %s", path, damage[i]);
        NEED(system(command) == 0);
        mw_log_quiet(true);
        CHECK(mw_sae_load(path, backend, &again) != MW_OK);
        mw_log_quiet(false);
    }
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_CONFIG, mw_sae_new(backend, &(mw_sae_shape){.n = 4, .d = 4, .k = 5}, &again));
    CHECK_FAILS(MW_ERR_CONFIG, mw_sae_new(backend, &(mw_sae_shape){.n = 4, .d = 4, .k = 0}, &again));
    CHECK_FAILS(MW_ERR_CONFIG, mw_sae_export(s, "gguf", path));
    mw_log_quiet(false);
    mw_sae_free(&s);
}

static void exports(void) {
    mw_sae *s = make_sae();
    char path[128], file_path[160];
    mw_safetensors *file = NULL;
    mw_tensor t;
    snprintf(path, sizeof path, "%s/saelens", folder);
    CHECK_OK(mw_sae_export(s, "saelens", path));
    snprintf(file_path, sizeof file_path, "%s/sae_weights.safetensors", path);
    NEED_OK(mw_safetensors_open(file_path, &file));
    NEED(mw_safetensors_find(file, "W_enc", &t));
    CHECK(t.shape[0] == D && t.shape[1] == N && ((float *)t.data)[1] == s->w_enc[D]);
    mw_safetensors_free(&file);
    snprintf(path, sizeof path, "%s/sparsify", folder);
    CHECK_OK(mw_sae_export(s, "sparsify", path));
    snprintf(file_path, sizeof file_path, "%s/sae.safetensors", path);
    NEED_OK(mw_safetensors_open(file_path, &file));
    NEED(mw_safetensors_find(file, "encoder.weight", &t));
    CHECK(t.shape[0] == N && t.shape[1] == D);
    mw_safetensors_free(&file);
    mw_sae_free(&s);
}

static void names_round_trip(void) {
    static const char *const odd[] = {"plain", "with, comma", "a \"quoted\" one", "two\nlines", "caf\xc3\xa9"};
    static const char *const files[] = {"names.csv", "names.json", "names.neuronpedia.json"};
    for (int f = 0; f < 3; f++) {
        mw_names a, b;
        char path[128];
        mw_names_format format = f == 2 ? MW_NAMES_NEURONPEDIA : MW_NAMES_AUTO;
        snprintf(path, sizeof path, "%s/%s", folder, files[f]);
        NEED_OK(mw_names_new(9, &a));
        NEED_OK(mw_names_new(9, &b));
        for (int i = 0; i < 5; i++) {
            mw_name name = {(char *)(uintptr_t)odd[i], i == 1 ? "a \"note\", long" : NULL, i ? "me" : NULL,
                            i == 2 ? 0.75 : NAN};
            NEED_OK(mw_names_set(&a, i + 2, &name));
        }
        CHECK_OK(mw_names_save(path, format, &a, "gpt2", "8.resid_post"));
        CHECK_OK(mw_names_load(path, format, "file", &b));
        for (int i = 0; i < 5; i++) {
            const mw_name *n = &b.of[i + 2];
            CHECK(n->name && strcmp(n->name, odd[i]) == 0);
            CHECK(i == 1 ? n->note && strcmp(n->note, "a \"note\", long") == 0 : !n->note);
            CHECK(n->by && strcmp(n->by, i ? "me" : f == 2 ? "microw" : "file") == 0);
            CHECK(i == 2 ? n->score == 0.75 : isnan(n->score));
        }
        CHECK(!b.of[0].name && !b.of[8].name);
        mw_names_free(&a);
        mw_names_free(&b);
    }
}

static void names_of_others(void) {
    static const struct {
        const char *name, *text;
        mw_names_format format;
    } good[] = {{"a.csv", "3,sea\n", MW_NAMES_AUTO},
                {"a.csv", "latent,name\r\n3,\"sea\"\r\n", MW_NAMES_AUTO},
                {"a.csv", "score,latent,other,name\n,3,x,sea\n", MW_NAMES_AUTO},
                {"a.json", "{\"3\": \"sea\"}", MW_NAMES_AUTO},
                {"a.json",
                 "[{\"modelId\": \"gpt2-small\", \"layer\": \"8-res-jb\", \"index\": \"3\", \"description\": \"sea\"}]",
                 MW_NAMES_AUTO},
                {"a.jsonl", "{\"index\": 3, \"description\": \"sea\"}\n\n", MW_NAMES_AUTO}};
    static const struct {
        const char *name, *text;
    } bad[] = {{"b.csv", "latent,name\nx,y\n"},
               {"b.csv", "9,outside\n"},
               {"b.csv", "x\n"},
               {"b.csv", "latent,name,score\n3,a,high\n"},
               {"b.json", "[3]"},
               {"b.json", "7"},
               {"b.json", "{\"a\": \"b\"}"},
               {"b.json", "{\"1\": 2}"},
               {"b.json", "{"},
               {"b.json", "[{\"index\": 99, \"description\": \"a\"}]"},
               {"b.jsonl", "{\"index\": 1}\n"},
               {"b.csv", "latent,name\n1,kept?\n99,outside\n"}};
    mw_names n;
    char path[128];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, good[i].name);
        NEED_OK(mw_file_write_atomic(path, good[i].text, strlen(good[i].text)));
        NEED_OK(mw_names_new(9, &n));
        CHECK_OK(mw_names_load(path, good[i].format, NULL, &n));
        CHECK(n.of[3].name && strcmp(n.of[3].name, "sea") == 0);
        mw_names_free(&n);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, bad[i].name);
        NEED_OK(mw_file_write_atomic(path, bad[i].text, strlen(bad[i].text)));
        NEED_OK(mw_names_new(9, &n));
        mw_log_quiet(true);
        CHECK_FAILS(MW_ERR_FORMAT, mw_names_load(path, MW_NAMES_AUTO, NULL, &n));
        mw_log_quiet(false);
        for (int l = 0; l < 9; l++) CHECK(!n.of[l].name);
        mw_names_free(&n);
    }
}

/* ---- texts of tokens -------------------------------------------------------------------------------- */

/* Makes a discovery whose vocabulary has whole words and parts of characters. Latent 0 has one text of all of them;
 * latents 1 and 2 peak on single bytes. */
enum { SHOWN_TOKENS = 12 };
static mw_discovery parts_of_characters(void) {
    static char bytes[] = "ab\xe2\x9c\x93 c\xe2\x82\xac x\xf0\x9f\x98\x80\xff   ";
    /*                      ab  e2  9c  93+" c"+e2  82ac+" x"  f0 9f 98 80  ff  two spaces, one, "" */
    static uint64_t offset[] = {0, 2, 3, 4, 8, 12, 13, 14, 15, 16, 17, 19, 20, 20};
    static int64_t count[] = {1, 1, 1, 1, 1}, row[] = {0, 1, 2, 3, 4}, start[] = {0, 10, 11, 12, 13, 14}, document[5];
    static int32_t center[] = {2, 0, 0, 0, 0}, position[5], id[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 10, 12};
    static float score[] = {1, 1, 1, 1, 1}, value[14] = {0, 3, 1, 2};
    return (mw_discovery){.n = 5,
                          .rows = 5,
                          .top_texts = 1,
                          .per = 1,
                          .around = 20,
                          .count = count,
                          .text_row = row,
                          .text_score = score,
                          .text_start = start,
                          .text_center = center,
                          .text_document = document,
                          .text_position = position,
                          .text_id = id,
                          .text_value = value,
                          .n_vocabulary = SHOWN_TOKENS + 1,
                          .vocabulary_offset = offset,
                          .vocabulary_bytes = bytes};
}

static void parts_of_characters_are_shown(void) {
    mw_discovery d = parts_of_characters();
    mw_text a = {0}, b = {0}, c = {0};
    static const char *const names[] = {"<0x9C>", "<0xE2>", "<0x9C>", "\u2423\u2423", "token 12"};
    NEED_OK(mw_discovery_text(&d, 0, 20, &a, &b, &c)); /* the whole character, with those that share tokens with it */
    CHECK(strcmp(a.data, "ab") == 0 && strcmp(b.data, "\u2713 c\u20ac x") == 0 &&
          strcmp(c.data, "\U0001f600<0xFF>") == 0);
    NEED_OK(mw_discovery_text(&d, 0, 0, &a, &b, &c)); /* also if its other tokens are further away */
    CHECK(a.length == 0 && strcmp(b.data, "\u2713 c\u20ac x") == 0 && c.length == 0);
    NEED_OK(mw_discovery_text(&d, 0, 3, &a, &b, &c));
    CHECK(strcmp(a.data, "ab") == 0 && strcmp(c.data, "\U0001f600") == 0);
    NEED_OK(mw_discovery_text(&d, 1, 20, &a, &b, &c)); /* but not if they are outside the window */
    CHECK(strcmp(b.data, "<0xE2>") == 0);
    NEED_OK(mw_discovery_line(&d, 0, 20, &a));
    CHECK(strcmp(a.data, "ab[\u2713 c\u20ac x]\U0001f600<0xFF>") == 0);
    CHECK(mw_discovery_piece(&d, 0, 10, &a) == 1 && mw_discovery_piece(&d, 1, 10, &a) == 5 &&
          mw_discovery_piece(&d, 5, 8, &a) == 6 && strcmp(a.data, "<0xF0>") == 0 &&
          mw_discovery_piece(&d, 5, 9, &a) == 9 && strcmp(a.data, "\U0001f600") == 0);
    for (int64_t i = 0; i < 5; i++) {
        NEED_OK(mw_name_by_tokens(&d, i, &a));
        CHECK(strcmp(a.data, names[i]) == 0);
    }
    mw_text_free(&a);
    mw_text_free(&b);
    mw_text_free(&c);
}

static void concepts_keep_every_token(void) {
    mw_discovery d = parts_of_characters();
    char path[] = "/tmp/microw-concepts-XXXXXX", *text;
    int32_t promoted[] = {1, 2, 1, 2, 1};
    float value[5] = {0.5f};
    close(mkstemp(path));
    d.promoted = (mw_nearest){1, promoted, value};
    NEED_OK(mw_concepts_save(path, &d, NULL));
    NEED_OK(mw_file_read(path, &text, NULL));
    CHECK(strstr(text, "\"token_id\": 2, \"before\": \"ab\", \"token\": \"\u2713 c\u20ac x\"") != NULL);
    CHECK(strstr(text, "\"promoted\": [[\"<0xE2>\", 0.5, 1]]") != NULL);
    CHECK(strstr(text, "ufffd") == NULL && strstr(text, "\ufffd") == NULL);
    mw_free(text);
    unlink(path);
}

static void page_shows_whole_characters(void) {
    mw_discovery d = parts_of_characters();
    int64_t bin[5 * MW_BINS] = {0};
    int32_t exponent[5] = {0};
    mw_text out = {0};
    d.bin = bin;
    d.bin_exponent = exponent;
    const report r = {.discovery = &d};
    NEED_OK(report_shard(&r, 0, &out));
    /* "ab", the piece of four tokens with the value of the text's row, the emoji of four tokens, a byte */
    CHECK(strstr(out.data, "\"c\":1,\"d\":0,\"p\":0,\"t\":[0,1,2,3],\"v\":[0,1],\"g\":{\"1\":\"<0xE2> 3, <0x9C> 1, ") !=
          NULL);
    CHECK(strstr(out.data, "\"tokens\":[\"ab\",\n\"\u2713 c\u20ac x\",\n\"\U0001f600\",\n\"<0xFF>\"") != NULL);
    mw_text_free(&out);
}

static mw_status load_csv(const char *text, size_t length) {
    mw_names n;
    char path[128];
    snprintf(path, sizeof path, "%s/c.csv", folder);
    NEED_OK(mw_file_write_atomic(path, text, length));
    NEED_OK(mw_names_new(9, &n));
    mw_status status = mw_names_load(path, MW_NAMES_AUTO, NULL, &n);
    for (int l = 0; status != MW_OK && l < 9; l++) CHECK(!n.of[l].name);
    if (status == MW_OK) CHECK(n.of[3].name && strcmp(n.of[3].name, "a\nb") == 0);
    mw_names_free(&n);
    return status;
}

/* Malformed CSV fails, since a row or one of two names would be lost without notice. */
static void broken_csv(void) {
    static const char twice[] = "latent,name\n3,\"x\ny\"\n4,z\n3,other\n",
                      open[] = "latent,name\n1,a\n2,\"b\n3,c\n4,d\n";
    static const char behind[] = "latent,name\n1,\"a\" b\n", zero[] = "latent,name\n1,a\0b\n";
    static const char good[] = "\xef\xbb\xbflatent,name\r\n\r\n3,\"a\nb\"\r\n4,\"\"\r\n";
    CHECK_OK(load_csv(good, sizeof good - 1));
    CHECK_SAYS(MW_ERR_FORMAT, "c.csv:5: latent 3 is already named on line 2", load_csv(twice, sizeof twice - 1));
    CHECK_SAYS(MW_ERR_FORMAT, "c.csv:2: latent 3 is already named on line 1", load_csv("3,a\n03,\n", 8));
    CHECK_SAYS(MW_ERR_FORMAT, "c.csv:3: the quote that opens here is never closed", load_csv(open, sizeof open - 1));
    CHECK_SAYS(MW_ERR_FORMAT, "c.csv:2: text behind the quote", load_csv(behind, sizeof behind - 1));
    CHECK_SAYS(MW_ERR_FORMAT, "c.csv:2: a NUL byte", load_csv(zero, sizeof zero - 1));
}

int main(void) {
    NEED(mkdtemp(folder) != NULL);
    NEED_OK(mw_backend_open("cpu", &backend));
    RUN(encode_and_decode);
    RUN(steering);
    RUN(saves_and_loads);
    RUN(exports);
    RUN(names_round_trip);
    RUN(names_of_others);
    RUN(parts_of_characters_are_shown);
    RUN(concepts_keep_every_token);
    RUN(page_shows_whole_characters);
    RUN(broken_csv);
    mw_backend_close(&backend);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return test_end();
}
