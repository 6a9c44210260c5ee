/* Experiment files: what is read, what is refused and where. */
#include "concepts/discover_options.h"
#include "dataset/dataset_options.h"
#include "experiment/settings_tables.h"
#include "harvest/harvest_options.h"
#include "model/sampling_options.h"
#include "sae/train/train_options.h"
#include "test.h"

#include <time.h>
#include <unistd.h>

static const char good[] =
    "name: x\nmodel: {path: m}\ndataset: {path: [a.txt, b.txt]}\nharvest: {sites: [0.resid_post]}\n"
    "sae: {k: 4}\ntrain: {tokens: 1_000, lr: 1e-3}\nsteer: {prompts: hi, edits: {42: 1.5, 7: 0}}\n";

static mw_status load(const char *text, const char *set, mw_experiment **out) {
    char path[] = "/tmp/microw-config-XXXXXX";
    int fd = mkstemp(path);
    NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    const char *sets[] = {set};
    mw_status status = mw_experiment_load(path, sets, set ? 1 : 0, out);
    unlink(path);
    return status;
}

/* The message must hold `part`. Messages are held when there is more than one rank. */
static void refuses(const char *text, const char *set, const char *part) {
    mw_experiment *e = NULL;
    mw_log_setup(0, 2, MW_LOG_INFO);
    mw_status status = load(text, set, &e);
    char *message = mw_log_take_held();
    mw_log_setup(0, 1, MW_LOG_INFO);
    if (status == MW_OK || !strstr(message, part)) fprintf(stderr, "expected '%s' in '%s'\n", part, message);
    CHECK(status == MW_ERR_CONFIG && strstr(message, part) != NULL);
    mw_free(message);
    mw_experiment_free(&e);
}

static bool reads(const mw_experiment *e, const char *sites) {
    char *found = NULL;
    NEED_OK(settings_sites(e, &found));
    bool same = strcmp(found, sites) == 0;
    mw_free(found);
    return same;
}

static void good_file(void) {
    mw_experiment *e = NULL;
    NEED_OK(load(good, "train.batch=64", &e));
    CHECK(strcmp(e->top.name, "x") == 0 && e->dataset.path.count == 2 && e->sae.k == 4 && e->train.tokens == 1000);
    CHECK(e->train.options.batch == 64 && e->train.options.lr == 1e-3 && isnan(e->train.options.lr) == 0 &&
          e->train.options.aux_k == MW_AUTO_INT);
    CHECK(e->steer.edits.scale.count == 2 && e->steer.edits.scale.items[0].index == 42 &&
          e->steer.edits.scale.items[0].value == 1.5);
    CHECK(e->steer.prompts.count == 1 && settings_has(e, "steer") && !settings_has(e, "evaluate"));
    CHECK(reads(e, "0.resid_post"));
    mw_experiment_free(&e);
}

/* Every option of a floor is a key of its section. */
static void options_are_keys(void) {
    static const struct {
        const char *section;
        const mw_field *options;
    } tables[] = {{"dataset", dataset_option_fields},
                  {"harvest", harvest_option_fields},
                  {"train", train_option_fields},
                  {"discover", discover_option_fields},
                  {"steer", sampling_option_fields}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const mw_field *f = tables[i].options; f->name; f++)
            CHECK(mw_fields_have(settings_find_section(tables[i].section)->fields, f->name));
}

/* A program's defaults are those of a file without these keys. */
static void defaults_are_the_files(void) {
    static const char *const sets[] = {"sae.variant=topk", "sae.variant=relu", "train.tokens=1e9"};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        mw_experiment *e = NULL;
        mw_text file = {0}, program = {0};
        NEED_OK(load("model: {path: m}\ndataset: {path: a}\ntrain: {tokens: 1e5}\n", sets[i], &e));
        const mw_sae_shape shape = {.variant = settings_variant(e), .n = 512, .d = 64, .k = i == 1 ? 0 : 8};
        mw_train_options of_file = settings_training(e, &shape, NULL);
        mw_train_options of_program = mw_train_defaults(&shape, e->train.tokens, of_file.batch);
        mw_fields_write(&file, train_option_fields, &of_file, 0, false);
        mw_fields_write(&program, train_option_fields, &of_program, 0, false);
        CHECK(strcmp(file.data, program.data) == 0 && of_file.steps == of_program.steps);
        CHECK(of_program.aux_after == (i == 1 ? 801 : 3201));
        CHECK(of_program.aux_k == (i == 1 ? 0 : 32) && of_program.shuffle_block == 0 && of_program.shards == 1);
        CHECK(of_program.steps == (i == 2 ? 244141 : 25) && of_program.warmup_steps == (i == 2 ? 1000 : 1));
        mw_text_free(&file);
        mw_text_free(&program);
        mw_experiment_free(&e);
    }
}

/* The effective file, read again, is itself. */
static void effective_file_is_stable(void) {
    mw_experiment *e = NULL, *again = NULL;
    mw_text first = {0}, second = {0};
    NEED_OK(load(good, NULL, &e));
    NEED_OK(mw_experiment_describe(e, false, &first));
    NEED_OK(load(first.data, NULL, &again));
    NEED_OK(mw_experiment_describe(again, false, &second));
    CHECK(strcmp(first.data, second.data) == 0);
    mw_text_free(&first);
    mw_text_free(&second);
    mw_experiment_free(&e);
    mw_experiment_free(&again);
}

/* The commented reference is a file that loads. */
static void reference_loads(void) {
    mw_text text = {0};
    mw_experiment *e = NULL;
    NEED_OK(mw_experiment_describe(NULL, true, &text));
    CHECK_OK(load(text.data, NULL, &e));
    char *committed;
    NEED_OK(mw_file_read(MICROW_SOURCE "/configs/reference.yaml", &committed, NULL));
    const char *body = strstr(committed, "\n\n");
    CHECK(body && strcmp(body + 2, text.data) == 0); /* else: see its first lines */
    mw_free(committed);
    mw_text_free(&text);
    mw_experiment_free(&e);
}

static void bad_files(void) {
    refuses("model: {path: m}\ndataset: {path: a}\ntrian: {}\n", NULL,
            ":3: unknown section 'trian'; did you mean 'train'");
    refuses("model: {path: m}\ndataset: {path: a, contxt: 3}\n", NULL,
            ":2: unknown key 'contxt' in 'dataset'; did you mean 'context'");
    refuses("model: {path: m}\n", NULL, "section 'dataset' is missing");
    refuses("model: {}\ndataset: {path: a}\n", NULL, "'model.path' is missing");
    refuses("model: {path: m}\ndataset: {path: a, context: 1}\n", NULL, "expected whole number from 2");
    refuses("model: {path: m}\ndataset: {path: a, pack: maybe}\n", NULL, "expected true or false, found 'maybe'");
    refuses("model: {path: m, dtype: f8}\ndataset: {path: a}\n", NULL, "expected one of auto|f32|bf16|f16, found 'f8'");
    refuses("model: {path: m}\ndataset: {path: a}\nsae: {n_latents: 4, k: 5}\n", NULL,
            "sae.k = 5 is larger than sae.n_latents = 4");
    refuses("model: {path: m}\nmodel: {path: n}\ndataset: {path: a}\n", NULL, "given twice, first on line 1");
    refuses("model: [\n", NULL, "YAML");
    refuses("model: {path: m}\ndataset: {path: a}\n---\nname: b\n", NULL, ":3: a second YAML document begins here");
    refuses("model: {path: m}\ndataset: {path: a}\n...\n---\n", NULL, ":4: a second YAML document begins here");
    refuses("model: {path: m}\ndataset: {path: a}\n...\nname: b\n", NULL, ":4: YAML: did not find expected <document");
    refuses("model: {path: \"m\\0n\"}\ndataset: {path: a}\n", NULL, ":1: a text with a NUL inside");
    refuses(good, "name=a\n---\nb", "--set:2: a second YAML document");
    refuses("- a\n", NULL, "expected a map of keys at the top");
    refuses("model: &x {path: m}\ndataset: *x\n", NULL, "anchors and aliases");
    refuses("name: ../x\nmodel: {path: m}\ndataset: {path: a}\n", NULL, "cannot be the name of a folder");
    refuses(good, "train.batch", "expected KEY=VALUE");
    refuses(good, "trian.lr=3", "--set: unknown section 'trian'; did you mean 'train'");
    refuses(good, "train.bach=3", "--set: unknown key 'bach' in 'train'; did you mean 'batch'");
    refuses(good, "train.batch=x", "--set: train.batch: expected whole number");
    refuses(good, "name.x=3", "has no keys below it");
    refuses("model: {path: m}\ndataset: {path: a}\nsteer: {prompts: p, edits: {x: 1}}\n", NULL,
            "map of latent: number, found 'x: 1'");
    refuses(good, "discover.categories=[1]", "found a list");
    refuses(good, "hooks.list=[{kind: scale}]", "--set: 'hooks.list.site' is missing");
}

/* Options of steering variants and of training, each by its name. */
static void bad_variants(void) {
    refuses(good, "sae.variant=topkk", "sae.variant 'topkk': expected one of topk, batch_topk, multi_topk");
    refuses(good, "sae.k=-4", "expected whole number from 1");
    refuses(good, "sae={variant: matryoshka_topk, n_latents: 10, k: 4, groups: [3, 3]}",
            "sae.groups sum to 6: expected the 10 latents");
    refuses(good, "sae={variant: matryoshka_topk, n_latents: 10, k: 4, groups: [3, 0, 7]}", "0 as group 2");
    refuses(good, "sae={variant: matryoshka_topk, n_latents: 10, k: 4, groups: [3, -3, 10]}", "-3 as group 2");
    refuses(good, "sae={variant: matryoshka_topk, n_latents: 10, k: 4, groups: [9, 9]}", "9 as group 2");
    refuses(good, "sae.groups=[3, 3]", "sae.groups: only the matryoshka variants have groups");
    refuses(good, "sae.skip=true", "only a transcoder (sae.target)");
    refuses(good, "sae={site: 1.mlp_out, target: 1.mlp_out}", "sae.target: equals sae.site");
    refuses(good, "sae={site: 1.mlp_out, sites: [1.mlp_out, 2.mlp_out]}", "sae.sites: sae.site is given too");
    refuses(good, "train.sparsity=3", "train.sparsity: this variant has no penalty");
    refuses(good, "train.sparsity=-3", "expected number from 0");
    refuses(good, "train.l0_target=16", "apply to sae.variant jump_relu only");
    refuses(good, "train.bandwidth=0", "train.bandwidth: expected number from 1e-12");
    refuses(good, "train.threshold_init=-1", "train.threshold_init: expected number from 1e-12");
    refuses(good, "train={k_anneal: 100, k_start: 3}", "train.k_start: smaller than sae.k");
    refuses(good, "train.schedule=square", "expected one of linear|cosine|constant");
    refuses(good, "train.normalize=layer", "expected one of norm|standard|none");
    refuses(good, "train.init=zeros", "expected one of auto|scaled|tied|data");
    refuses(good, "train.ema=1", "train.ema: expected number");
    refuses(good, "train.patience=-1", "expected whole number from 0");
    refuses(good, "train.resample_every=-1", "expected whole number from 0");
    refuses(good, "train.clip_norm=-1", "expected number from 0");
    static const char jump[] =
        "model: {path: m}\ndataset: {path: a}\nsae: {variant: jump_relu}\ntrain: {penalty: tanh}\n";
    refuses(jump, "train.l0_target=16", "requires penalty l0");
    refuses(jump, "train.k_anneal=16", "train.k_anneal: this variant has no k");
    refuses(jump, "sae.variant=gated", "apply to sae.variant jump_relu only");
    static const char relu[] = "model: {path: m}\ndataset: {path: a}\nsae: {variant: relu}\ntrain: {}\n";
    refuses(relu, "train.aux_k=16", "train.aux_k: dead latents");
    mw_experiment *e = NULL;
    NEED_OK(load(jump, "sae={variant: jump_relu, sites: [1.mlp_out, 2.mlp_out], target: 3.mlp_out, skip: true}", &e));
    CHECK(reads(e, "1.mlp_out,2.mlp_out") && settings_variant(e) == MW_JUMP_RELU);
    mw_experiment_free(&e);
}

/* Text that may surround the one document. */
static void one_document(void) {
    static const char *const texts[] = {"---\nmodel: {path: m}\ndataset: {path: a}\n",
                                        "model: {path: m}\ndataset: {path: a}\n...\n",
                                        "\xef\xbb\xbf# c\nmodel: {path: m}\ndataset: {path: a}\n...\n# the end\n\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        mw_experiment *e = NULL;
        CHECK_OK(load(texts[i], NULL, &e));
        mw_experiment_free(&e);
    }
}

/* Time is linear in the number of keys: with a search for each it would be minutes. */
static void many_keys(void) {
    enum { KEYS = 200000 };
    mw_text text = {0};
    mw_experiment *e = NULL;
    mw_text_addf(&text, "model: {path: m}\ndataset: {path: a}\nsteer:\n  prompts: p\n  edits:\n");
    for (int i = 0; i < KEYS; i++) mw_text_addf(&text, "    %d: 1\n", i);
    clock_t begin = clock();
    NEED_OK(load(text.data, NULL, &e));
    CHECK(e->steer.edits.scale.count == KEYS);
    CHECK((double)(clock() - begin) / CLOCKS_PER_SEC < 15);
    mw_experiment_free(&e);
    mw_text_addf(&text, "    77: 2\n");
    refuses(text.data, NULL, ":200006: key '77' is given twice, first on line 83");
    mw_text_free(&text);
}

int main(void) {
    RUN(one_document);
    RUN(many_keys);
    RUN(good_file);
    RUN(options_are_keys);
    RUN(defaults_are_the_files);
    RUN(effective_file_is_stable);
    RUN(reference_loads);
    RUN(bad_files);
    RUN(bad_variants);
    return test_end();
}
