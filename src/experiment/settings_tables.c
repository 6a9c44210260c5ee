/* The keys of an experiment file, section by section. */
#include "experiment/settings_tables.h"
#include "concepts/discover_options.h"
#include "dataset/dataset_options.h"
#include "harvest/harvest_options.h"
#include "model/sampling_options.h"
#include "sae/train/train_options.h"

#include <string.h>

#define AT(type, member) offsetof(type, member)

const mw_field top_fields[] = {
    {"name", MW_FIELD_STRING, AT(top_settings, name), "experiment", .filled = true,
     .doc = "names the run's folders in the store"},
    {"store", MW_FIELD_STRING, AT(top_settings, store), "store", .path = MW_PATH_FILE, .filled = true,
     .doc = "folder for activations, runs and SAEs. Relative paths, here and below, begin at this file's "
            "folder; with --set at the working directory"},
    {"quota_gb", MW_FIELD_REAL, AT(top_settings, quota_gb), "0", .min = 0, .max = 1e9,
     .doc = "limit of the store's folder, in units of 10^9 bytes; a stage that would exceed it does not start; "
            "0: only the disk limits it"},
    {0}};

static const mw_choice model_dtypes[] = {
    {"auto", MODEL_DTYPE_AUTO}, {"f32", MW_F32}, {"bf16", MW_BF16}, {"f16", MW_F16}, {0}};
static const mw_field model_fields[] = {
    {"path", MW_FIELD_STRING, AT(model_settings, path), NULL, .path = MW_PATH_HUB, .filled = true,
     .doc = "a Hugging Face model folder, or a Hub id found in the local cache"},
    {"dtype", MW_FIELD_CHOICE, MW_ENUM_AT(model_settings, dtype), "auto", .choices = model_dtypes,
     .doc = "type of the weight matrices in memory; auto: as stored, f16 as f32"},
    {"device", MW_FIELD_STRING, AT(model_settings, device), "auto",
     .doc = "auto, cpu, cpu:onednn, cpu:cblas, and in builds with CUDA cuda, cuda:1"},
    {"pack_weights", MW_FIELD_BOOL, AT(model_settings, pack_weights), "true", .aside = true,
     .doc = "on a CPU, keep the matrices of used layers in the layout that products read fastest, in memory of "
            "each rank; false: read them from the mapped file, which all ranks of a node share"},
    {0}};

static const mw_field dataset_fields[] = {
    {"path", MW_FIELD_STRINGS, AT(dataset_settings, path), NULL, .path = MW_PATH_FILE, .filled = true,
     .doc = "files or globs: .txt, .jsonl, .ndjson, .json, .csv, .tsv, .npy (token ids), each also compressed "
            "as .gz or .zst; a name that exists as a file is not a glob"},
    MW_ROWS(dataset_settings, options, dataset_option_fields, "format", "pack"),
    {"batch", MW_FIELD_INT, AT(dataset_settings, batch), "64", .min = 1, .max = 1 << 20,
     .doc = "sequences in a forward pass"},
    MW_ROWS(dataset_settings, options, dataset_option_fields, "pack", NULL),
    {0}};

static const mw_choice hook_kinds[] = {{"statistics", HOOK_STATISTICS}, {"scale", HOOK_SCALE}, {"add", HOOK_ADD},
                                       {"ablate", HOOK_ABLATE},         {"stop", HOOK_STOP},   {0}};
static const mw_field hook_fields[] = {
    {"site", MW_FIELD_STRING, AT(hook_settings, site), NULL, .doc = "for instance 8.resid_post"},
    {"kind", MW_FIELD_CHOICE, MW_ENUM_AT(hook_settings, kind), NULL, .choices = hook_kinds,
     .doc = "statistics: mean, variance and norm into the run's folder; scale, add, ablate: edit; stop: end the pass"},
    {"factor", MW_FIELD_REAL, AT(hook_settings, factor), "1", .doc = "of scale"},
    {"value", MW_FIELD_REAL, AT(hook_settings, value), "0", .doc = "of add, to each column"},
    {"columns", MW_FIELD_INTS, AT(hook_settings, columns), "", .doc = "edited columns; none: all"},
    {0}};
static const mw_field hooks_fields[] = {{"list", MW_FIELD_TABLE, AT(hooks_settings, list), "", .sub = hook_fields,
                                         .sub_size = sizeof(hook_settings),
                                         .doc = "hooks that fire during the harvest, in this order"},
                                        {0}};

static const mw_field harvest_fields[] = {
    {"sites", MW_FIELD_STRINGS, AT(harvest_settings, sites), NULL,
     .doc = "LAYER.STREAM with embed, resid_pre, attn_in, attn_q, attn_k, attn_v, attn_z, attn_out, resid_mid, mlp_in, "
            "mlp_act, mlp_out, resid_post, logits"},
    MW_ROWS(harvest_settings, options, harvest_option_fields, "dtype", NULL),
    {0}};

static const mw_field sae_fields[] = {
    {"site", MW_FIELD_STRING, AT(sae_settings, site), "",
     .doc = "the site that the SAE reads; empty: the first harvested one"},
    {"sites", MW_FIELD_STRINGS, AT(sae_settings, sites), "",
     .doc = "several sites in place of site, with one dictionary for all (a crosscoder)"},
    {"target", MW_FIELD_STRING, AT(sae_settings, target), "",
     .doc = "the site that it rebuilds, if it is another one (a transcoder); empty: the one it reads"},
    {"skip", MW_FIELD_BOOL, AT(sae_settings, skip), "false",
     .doc = "with target: add a linear path from site to target"},
    {"variant", MW_FIELD_STRING, AT(sae_settings, variant), "topk",
     .doc =
         "topk: k latents per token; batch_topk: k per token on average over a batch; multi_topk: topk that "
         "also rebuilds from 4 k; matryoshka_topk, matryoshka_batch_topk: each prefix of groups rebuilds; "
         "relu: L1 penalty; relu_unit_norm: L1 penalty, unit decoder rows; jump_relu: a threshold per latent; gated"},
    {"n_latents", MW_FIELD_INT, AT(sae_settings, n_latents), "auto", .min = 1, .max = 1 << 30,
     .doc = "number of latents; auto: 8 times the site's width"},
    {"k", MW_FIELD_INT, AT(sae_settings, k), "32", .min = 1, .max = 1 << 20,
     .doc = "active latents per token, of variants with topk"},
    {"groups", MW_FIELD_INTS, AT(sae_settings, groups), "",
     .doc = "Matryoshka: latents of each group, n_latents in all; empty: n/16, n/16, n/8, n/4, n/2"},
    {"seed", MW_FIELD_INT, AT(sae_settings, seed), "0", .min = 0, .max = 1e15, .doc = "of the weights"},
    {"activations", MW_FIELD_STRINGS, AT(sae_settings, activations), "", .path = MW_PATH_NAME, .filled = true,
     .doc = "harvests to read, by name or folder; several are read as one; empty: this experiment's own"},
    {0}};

static const mw_choice shuffles[] = {{"rows", false}, {"blocks", true}, {0}};
static const mw_field train_fields[] = {
    {"tokens", MW_FIELD_INT, AT(train_settings, tokens), "10_000_000", .min = 1, .max = 1e15,
     .doc = "rows to train on; the data is read again, in another order, as often as needed"},
    MW_ROWS(train_settings, options, train_option_fields, "batch", "shuffle_block"),
    {"shuffle", MW_FIELD_BOOL, AT(train_settings, by_blocks), "rows", .choices = shuffles,
     .doc = "rows: a permutation of all rows, each read separately; blocks: of blocks of neighbouring rows, "
            "mixed in windows: for data larger than memory"},
    MW_ROWS(train_settings, options, train_option_fields, "shuffle_block", "lr"),
    {"verify", MW_FIELD_BOOL, AT(train_settings, verify), "true",
     .doc = "compare the checksums of the activations before training; the ranks share the work"},
    MW_ROWS(train_settings, options, train_option_fields, "lr", NULL),
    {0}};

static const mw_field discover_fields[] = {
    MW_ROWS(discover_settings, options, discover_option_fields, "top_texts", "seed"),
    {"logit_tokens", MW_FIELD_INT, AT(discover_settings, logit_tokens), "10", .min = 0, .max = 1000,
     .doc = "tokens that a latent promotes and suppresses, through the unembedding; 0: none, and no model is "
            "needed"},
    MW_ROWS(discover_settings, options, discover_option_fields, "seed", NULL),
    {"show", MW_FIELD_INT, AT(discover_settings, show), "5", .min = 0, .max = 1000, .aside = true,
     .doc = "latents that are printed"},
    {"categories", MW_FIELD_STRING, AT(discover_settings, categories), "", .path = MW_PATH_FILE,
     .doc = "JSON file of words in known categories, to score latents against"},
    {"names", MW_FIELD_STRING, AT(discover_settings, names), "", .path = MW_PATH_FILE,
     .doc = "CSV or JSON file of names of latents"},
    {0}};

static const mw_field naming_fields[] = {
    {"command", MW_FIELD_STRING, AT(naming_settings, command), NULL, .filled = true,
     .doc = "a shell command that reads a JSON request and writes a JSON answer, as tools/name_latents.py does"},
    {"latents", MW_FIELD_INTS, AT(naming_settings, latents), "",
     .doc = "latents to name; none: the most frequent ones"},
    {"limit", MW_FIELD_INT, AT(naming_settings, limit), "100", .min = 0, .max = 1 << 30,
     .doc = "number of most frequent latents; 0: all"},
    {"again", MW_FIELD_BOOL, AT(naming_settings, again), "false",
     .doc = "also name latents that a person or program has named"},
    {"texts", MW_FIELD_INT, AT(naming_settings, texts), "10", .min = 1, .max = 1000,
     .doc = "top texts of each latent in a request"},
    {"test_texts", MW_FIELD_INT, AT(naming_settings, test_texts), "10", .min = 0, .max = 1000,
     .doc = "texts with the latent, and as many without, that the command has not seen and must tell apart by "
            "the name; 0: no test"},
    {"batch", MW_FIELD_INT, AT(naming_settings, batch), "8", .min = 1, .max = 10000, .doc = "latents in a request"},
    {"timeout", MW_FIELD_REAL, AT(naming_settings, timeout), "600", .min = 0.1, .max = 1e6,
     .doc = "seconds to wait for an answer"},
    {0}};

static const mw_field evaluate_fields[] = {
    {"ce_recovered", MW_FIELD_BOOL, AT(evaluate_settings, ce_recovered), "true",
     .doc = "cross-entropy of the model with the SAE spliced in, against zero ablation"},
    {"tokens", MW_FIELD_INT, AT(evaluate_settings, tokens), "20_000", .min = 2, .max = 1e12,
     .doc = "tokens of the dataset to measure on"},
    {"baselines", MW_FIELD_BOOL, AT(evaluate_settings, baselines), "true",
     .doc = "measure untrained SAEs too: initial weights, random directions, PCA; not for transcoders"},
    {0}};

/* Keys of the section, and of each of its variants. */
static const mw_field edit_fields[] = {
    {"edits", MW_FIELD_LATENT_VALUES, AT(edit_settings, scale), "", .doc = "latent: factor of its activation"},
    {"add", MW_FIELD_LATENT_VALUES, AT(edit_settings, add), "",
     .doc = "latent: amount added to its activation, everywhere"},
    {"clamp", MW_FIELD_LATENT_VALUES, AT(edit_settings, clamp), "",
     .doc = "latent: new value of its activation, everywhere"},
    {"ablate", MW_FIELD_INTS, AT(edit_settings, ablate), "", .doc = "latents whose activation becomes 0"},
    {"concept", MW_FIELD_STRING, AT(edit_settings, concept), "",
     .doc = "category or name: `strength` is added to the latents that match it best"},
    {"concept_latents", MW_FIELD_INT, AT(edit_settings, concept_latents), "3", .min = 1, .max = 1000,
     .doc = "number of latents of the concept"},
    {"strength", MW_FIELD_REAL, AT(edit_settings, strength), "1", .min = -1000, .max = 1000,
     .doc = "added to each latent of the concept, in units of its largest activation"},
    {"category", MW_FIELD_STRING, AT(edit_settings, category), "",
     .doc = "category whose words are counted in the generated texts (discover.categories); empty: the "
            "concept's"},
    {0}};

static const mw_field variant_fields[] = {
    {"name", MW_FIELD_STRING, AT(variant_settings, name), NULL, .filled = true, .doc = "name of the variant"},
    MW_ROWS(variant_settings, edits, edit_fields, "edits", NULL),
    {0}};

static const mw_field steer_fields[] = {
    {"prompts", MW_FIELD_STRINGS, AT(steer_settings, prompts), NULL, .doc = "texts to continue"},
    MW_ROWS(steer_settings, edits, edit_fields, "edits", NULL),
    {"variants", MW_FIELD_TABLE, AT(steer_settings, variants), "", .sub = variant_fields,
     .sub_size = sizeof(variant_settings), .doc = "several sets of edits, side by side"},
    {"scales", MW_FIELD_REALS, AT(steer_settings, scales), "1", .min = -1000, .max = 1000,
     .doc = "strengths of each variant: 1 as given, 0 no change, 2 twice the change"},
    {"measure_tokens", MW_FIELD_INT, AT(steer_settings, measure_tokens), "10_000", .min = 0, .max = 1e12,
     .doc = "tokens of text on which cross-entropy and KL are measured with each variant; 0: not measured"},
    {"measure_path", MW_FIELD_STRINGS, AT(steer_settings, measure_path), "", .path = MW_PATH_FILE, .filled = true,
     .doc = "files of that text, which the SAE was not trained on; none: the last sequences of the dataset"},
    {"control", MW_FIELD_BOOL, AT(steer_settings, control), "true",
     .doc = "beside each variant with a concept, the same changes of as many other latents, drawn at random, where "
            "the SAE has as many"},
    {"keep_error", MW_FIELD_BOOL, AT(steer_settings, keep_error), "true",
     .doc = "keep the SAE's error; false: the stream becomes the edited reconstruction"},
    {"samples", MW_FIELD_INT, AT(steer_settings, samples), "1", .min = 1, .max = 10000,
     .doc = "continuations of each prompt"},
    MW_ROWS(steer_settings, sampling, sampling_option_fields, "max_new_tokens", NULL),
    {0}};

static const mw_field report_fields[] = {
    {"embed_mb", MW_FIELD_REAL, AT(report_settings, embed_mb), "32", .min = 0, .max = 100000,
     .doc = "packed latents up to this size, in units of 10^6 bytes, are in the page itself, larger ones in "
            "files beside it"},
    {0}};

const settings_section settings_sections[SETTINGS_SECTIONS] = {
    {"model", model_fields, AT(mw_experiment, model), .doc = "the language model", .needed = true},
    {"dataset", dataset_fields, AT(mw_experiment, dataset), .doc = "the texts that the model reads", .needed = true},
    {"hooks", hooks_fields, AT(mw_experiment, hooks), .doc = "detectors and controllers (optional)"},
    {"harvest", harvest_fields, AT(mw_experiment, harvest), .doc = "stage: store activations"},
    {"sae", sae_fields, AT(mw_experiment, sae), .doc = "the sparse autoencoder"},
    {"train", train_fields, AT(mw_experiment, train), .doc = "stage: train the SAE"},
    {"discover", discover_fields, AT(mw_experiment, discover), .doc = "stage: find top texts and names of latents"},
    {"naming", naming_fields, AT(mw_experiment, naming), .doc = "stage: get names of latents from another program"},
    {"evaluate", evaluate_fields, AT(mw_experiment, evaluate), .doc = "stage: measure the SAE"},
    {"steer", steer_fields, AT(mw_experiment, steer), .doc = "stage: generate with and without edits of latents"},
    {"report", report_fields, AT(mw_experiment, report), .doc = "stage: write the run as an HTML page"},
};

const settings_section *settings_find_section(const char *name) {
    for (int i = 0; i < SETTINGS_SECTIONS; i++)
        if (strcmp(settings_sections[i].name, name) == 0) return &settings_sections[i];
    return NULL;
}

bool settings_has(const mw_experiment *e, const char *section) {
    return mw_node_find(e->document.root, section) != NULL;
}
