#include "experiment/settings.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define AT(type, member) offsetof(type, member)

static const mw_field top_fields[] = {
    {"name", MW_FIELD_STRING, AT(top_settings, name), "experiment", .filled = true,
     .doc = "names the run's folders in the store"},
    {"store", MW_FIELD_STRING, AT(top_settings, store), "store", .path = MW_PATH_FILE, .filled = true,
     .doc =
         "folder for activations, runs and SAEs. Relative paths, here and below, begin at this file's folder; with --set at the "
         "working directory"},
    {"quota_gb", MW_FIELD_REAL, AT(top_settings, quota_gb), "0", .min = 0, .max = 1e9,
     .doc =
         "what the store's folder may hold, in units of 10^9 bytes; a stage that would pass it does not start; 0: what "
         "the disk has"},
    {0}};

static const mw_field model_fields[] = {
    {"path", MW_FIELD_STRING, AT(model_settings, path), NULL, .path = MW_PATH_HUB, .filled = true,
     .doc = "a Hugging Face model folder, or a Hub id found in the local cache"},
    {"dtype", MW_FIELD_CHOICE, AT(model_settings, dtype), "auto", .choices = "auto|f32|bf16|f16",
     .doc = "type of the weight matrices in memory; auto: as stored, f16 as f32"},
    {"device", MW_FIELD_STRING, AT(model_settings, device), "auto",
     .doc = "auto, cpu, cpu:onednn, cpu:cblas, and in builds with CUDA cuda, cuda:1"},
    {"pack_weights", MW_FIELD_BOOL, AT(model_settings, pack_weights), "true", .aside = true,
     .doc =
         "on a CPU, keep the matrices of layers that are used in the layout that products read fastest: memory of each rank's own; "
         "false: read them from the mapped file, which all ranks of a node share"},
    {0}};

static const mw_field dataset_fields[] = {
    {"path", MW_FIELD_STRINGS, AT(dataset_settings, path), NULL, .path = MW_PATH_FILE, .filled = true,
     .doc = "files or globs: .txt, .jsonl, .ndjson, .json, .csv, .tsv, .npy (token ids), each also with .gz or .zst "
            "behind; a file that has this very name is no glob"},
    {"format", MW_FIELD_CHOICE, AT(dataset_settings, format), "auto", .choices = "auto|text|jsonl|json|csv|tsv|npy",
     .doc = "what these files and those of steer.measure_path are, whatever their ending says; auto: by the ending"},
    {"text_field", MW_FIELD_STRING, AT(dataset_settings, text_field), "text", .doc = "of JSON objects; column of CSV"},
    {"on_missing", MW_FIELD_CHOICE, AT(dataset_settings, on_missing), "error", .choices = "error|skip",
     .doc = "a record whose text is absent, null, empty or no text; skip: left out, and counted in one message"},
    {"split", MW_FIELD_CHOICE, AT(dataset_settings, split), "file", .choices = "file|line|separator",
     .doc = "what a document of a .txt file is"},
    {"separator", MW_FIELD_STRING, AT(dataset_settings, separator), "<|endoftext|>",
     .doc = "between documents, with split: separator"},
    {"context", MW_FIELD_INT, AT(dataset_settings, context), "128", .min = 2, .max = 1 << 24,
     .doc = "tokens in a sequence at most"},
    {"batch", MW_FIELD_INT, AT(dataset_settings, batch), "64", .min = 1, .max = 1 << 20,
     .doc = "sequences in a forward pass"},
    {"pack", MW_FIELD_BOOL, AT(dataset_settings, pack), "true",
     .doc = "documents one after another, cut every `context` tokens; false: each starts a sequence"},
    {"truncate", MW_FIELD_BOOL, AT(dataset_settings, truncate), "false",
     .doc = "without pack: drop the rest of a long document instead of going on in a new sequence"},
    {"bos", MW_FIELD_CHOICE, AT(dataset_settings, bos), "auto", .choices = "auto|document|context|none",
     .doc = "where a beginning-of-sequence token is put; auto: before each document, if the tokenizer has one"},
    {"eos", MW_FIELD_BOOL, AT(dataset_settings, eos), "false", .doc = "an end-of-sequence token after each document"},
    {"limit_tokens", MW_FIELD_INT, AT(dataset_settings, limit_tokens), "0", .min = 0, .max = 1e15,
     .doc = "stop after this many tokens; 0: none"},
    {"limit_documents", MW_FIELD_INT, AT(dataset_settings, limit_documents), "0", .min = 0, .max = 1e15,
     .doc = "stop after this many documents, skipped records included; 0: none"},
    {0}};

static const mw_field hook_fields[] = {
    {"site", MW_FIELD_STRING, AT(hook_settings, site), NULL, .doc = "for instance 8.resid_post"},
    {"kind", MW_FIELD_CHOICE, AT(hook_settings, kind), NULL, .choices = "statistics|scale|add|ablate|stop",
     .doc = "statistics: mean, variance and norm into the run's folder; scale, add, ablate: edit; stop: end the pass"},
    {"factor", MW_FIELD_REAL, AT(hook_settings, factor), "1", .doc = "of scale"},
    {"value", MW_FIELD_REAL, AT(hook_settings, value), "0", .doc = "of add, to each column"},
    {"columns", MW_FIELD_INTS, AT(hook_settings, columns), "", .doc = "edited columns; none: all"},
    {0}};
static const mw_field hooks_fields[] = {{"list", MW_FIELD_TABLE, AT(hooks_settings, list), "", .sub = hook_fields,
                                         .sub_size = sizeof(hook_settings),
                                         .doc = "hooks at work during harvest, in firing order"},
                                        {0}};

static const mw_field harvest_fields[] = {
    {"sites", MW_FIELD_STRINGS, AT(harvest_settings, sites), NULL,
     .doc =
         "LAYER.STREAM with embed, resid_pre, attn_q, attn_k, attn_v, attn_z, attn_out, resid_mid, mlp_act, mlp_out, "
         "resid_post, logits"},
    {"dtype", MW_FIELD_CHOICE, AT(harvest_settings, dtype), "bf16", .choices = "f32|bf16|f16", .doc = "in the store"},
    {"skip", MW_FIELD_CHOICE, AT(harvest_settings, skip), "special", .choices = "special|bos|none",
     .doc = "tokens whose rows are not stored"},
    {"skip_positions", MW_FIELD_INT, AT(harvest_settings, skip_positions), "0", .min = 0, .max = 1 << 24,
     .doc = "rows of the first positions of a sequence that are not stored"},
    {"nan", MW_FIELD_CHOICE, AT(harvest_settings, nan), "stop", .choices = "stop|keep",
     .doc =
         "a value that is not finite in the stored type ends the run with its place; keep: it is stored, and left out of "
         "the means"},
    {0}};

static const mw_field sae_fields[] = {
    {"site", MW_FIELD_STRING, AT(sae_settings, site), "", .doc = "what the SAE reads; empty: the first harvested site"},
    {"sites", MW_FIELD_STRINGS, AT(sae_settings, sites), "",
     .doc = "in place of site: several, one dictionary for all (a crosscoder)"},
    {"target", MW_FIELD_STRING, AT(sae_settings, target), "",
     .doc = "what it rebuilds, if that is another site (a transcoder); empty: what it reads"},
    {"skip", MW_FIELD_BOOL, AT(sae_settings, skip), "false",
     .doc = "of a transcoder: a linear path from site to target"},
    {"variant", MW_FIELD_STRING, AT(sae_settings, variant), "topk",
     .doc =
         "topk: k latents a token; batch_topk: k a token in the mean over a batch; multi_topk: topk that also rebuilds "
         "from 4 k; matryoshka_topk, matryoshka_batch_topk: each prefix of groups rebuilds; relu: L1; jump_relu: a "
         "threshold a latent; gated"},
    {"n_latents", MW_FIELD_INT, AT(sae_settings, n_latents), "auto", .min = 1, .max = 1 << 30,
     .doc = "latents; auto: 8 times the site's width"},
    {"k", MW_FIELD_INT, AT(sae_settings, k), "32", .min = 1, .max = 1 << 20,
     .doc = "active latents a token, for variants with topk"},
    {"groups", MW_FIELD_INTS, AT(sae_settings, groups), "",
     .doc = "Matryoshka: latents of each group, n_latents together; empty: n/16, n/16, n/8, n/4, n/2"},
    {"seed", MW_FIELD_INT, AT(sae_settings, seed), "0", .min = 0, .max = 1e15, .doc = "of the weights"},
    {"activations", MW_FIELD_STRINGS, AT(sae_settings, activations), "", .path = MW_PATH_NAME, .filled = true,
     .doc = "harvests it reads, by name or folder; several are read as one; empty: this experiment's own"},
    {0}};

static const mw_field train_fields[] = {
    {"tokens", MW_FIELD_INT, AT(train_settings, tokens), "10_000_000", .min = 1, .max = 1e15,
     .doc = "rows to train on; the data is gone through again, in another order, as often as needed"},
    {"batch", MW_FIELD_INT, AT(train_settings, batch), "4096", .min = 1, .max = 1 << 24,
     .doc = "rows in a step, over all ranks"},
    {"order", MW_FIELD_INT, AT(train_settings, order), "0", .min = 0, .max = 1e15, .doc = "seed of the order of rows"},
    {"shuffle", MW_FIELD_CHOICE, AT(train_settings, shuffle), "rows", .choices = "rows|blocks",
     .doc =
         "rows: a permutation of all rows, each read by itself; blocks: of blocks of neighbouring rows, mixed in windows: for "
         "data that is larger than memory"},
    {"shuffle_block", MW_FIELD_INT, AT(train_settings, shuffle_block), "16", .min = 1, .max = 1 << 20,
     .doc = "rows of a block"},
    {"shuffle_window", MW_FIELD_INT, AT(train_settings, shuffle_window), "128", .min = 1, .max = 1 << 20,
     .doc = "blocks that are mixed; each 128 rows of a batch have a window of their own in memory"},
    {"nan", MW_FIELD_CHOICE, AT(train_settings, nan), "stop", .choices = "stop|skip",
     .doc = "a row that is not finite ends the run with its number; skip: the row behind it takes its place"},
    {"verify", MW_FIELD_BOOL, AT(train_settings, verify), "true",
     .doc = "compare the checksums of the activations first, the ranks sharing the work"},
    {"lr", MW_FIELD_REAL, AT(train_settings, lr), "auto", .min = 0, .max = 10,
     .doc = "learning rate; auto: 2e-4 / sqrt(n_latents / 16384)"},
    {"beta1", MW_FIELD_REAL, AT(train_settings, beta1), "0.9", .min = 0, .max = 0.999999, .doc = "of Adam"},
    {"beta2", MW_FIELD_REAL, AT(train_settings, beta2), "0.999", .min = 0, .max = 0.999999, .doc = "of Adam"},
    {"eps", MW_FIELD_REAL, AT(train_settings, eps), "6.25e-10", .min = 0, .max = 1, .doc = "of Adam"},
    {"warmup", MW_FIELD_INT, AT(train_settings, warmup), "auto", .min = 0, .max = 1e12,
     .doc = "steps in which the learning rate rises; auto: 1000, or a twentieth of a short run"},
    {"schedule", MW_FIELD_CHOICE, AT(train_settings, schedule), "linear", .choices = "linear|cosine|constant",
     .doc = "how the learning rate falls in the last part of the run"},
    {"decay", MW_FIELD_REAL, AT(train_settings, decay), "0.2", .min = 0, .max = 1,
     .doc = "last part of the run, in which the learning rate falls to 0"},
    {"clip_norm", MW_FIELD_REAL, AT(train_settings, clip_norm), "1", .min = 0, .max = 1e9,
     .doc = "limit of the gradient's norm, of the squared error summed over dimensions; 0: none"},
    {"ema", MW_FIELD_REAL, AT(train_settings, ema), "0", .min = 0, .max = 0.9999999,
     .doc = "decay of the running mean of the weights that is saved in their place; 0: the weights of the last step"},
    {"sparsity", MW_FIELD_REAL, AT(train_settings, sparsity), "auto", .min = 0, .max = 1e12,
     .doc = "coefficient of the penalty, beside the squared error on normalized data; auto: relu 5, gated 2, jump_relu "
            "6e-4 times the width, with l0_target the width"},
    {"sparsity_warmup", MW_FIELD_INT, AT(train_settings, sparsity_warmup), "auto", .min = 0, .max = 1e12,
     .doc = "steps in which it rises from 0; auto: a twentieth of the run"},
    {"penalty", MW_FIELD_CHOICE, AT(train_settings, penalty), "l0", .choices = "l0|tanh",
     .doc = "of jump_relu: the number of active latents, or the sum of tanh(4 z)"},
    {"l0_target", MW_FIELD_REAL, AT(train_settings, l0_target), "0", .min = 0, .max = 1e9,
     .doc = "of jump_relu: the penalty becomes (L0 / l0_target - 1)^2; 0: L0"},
    {"bandwidth", MW_FIELD_REAL, AT(train_settings, bandwidth), "auto", .min = 1e-12, .max = 1e6,
     .doc = "of jump_relu: width of the kernel through which thresholds learn; auto: 0.05, with tanh 2"},
    {"threshold_init", MW_FIELD_REAL, AT(train_settings, threshold_init), "auto", .min = 1e-12, .max = 1e6,
     .doc = "of jump_relu: first value of the thresholds; auto: 0.01, with tanh 0.1"},
    {"threshold_batches", MW_FIELD_INT, AT(train_settings, threshold_batches), "16", .min = 0, .max = 1e9,
     .doc = "of batch_topk: batches after training that set the threshold; 0: the running mean of training is kept"},
    {"k_anneal", MW_FIELD_INT, AT(train_settings, k_anneal), "0", .min = 0, .max = 1e12,
     .doc = "steps in which k falls from k_start to its value"},
    {"k_start", MW_FIELD_INT, AT(train_settings, k_start), "auto", .min = 1, .max = 1 << 20,
     .doc = "auto: half the site's width"},
    {"aux_k", MW_FIELD_INT, AT(train_settings, aux_k), "auto", .min = 0, .max = 1 << 20,
     .doc = "dead latents that rebuild the residual (AuxK); 0: off; auto: half the site's width with topk, else 0"},
    {"aux_coefficient", MW_FIELD_REAL, AT(train_settings, aux_coefficient), "0.03125", .min = 0, .max = 1e6,
     .doc = "weight of the AuxK loss"},
    {"dead_after", MW_FIELD_INT, AT(train_settings, dead_after), "auto", .min = 1, .max = 1e15,
     .doc = "rows without firing after which a latent is dead; auto: 10 million, or a tenth of a shorter run"},
    {"resample_every", MW_FIELD_INT, AT(train_settings, resample_every), "0", .min = 0, .max = 1e12,
     .doc = "steps after which dead latents start anew from badly rebuilt rows; 0: never"},
    {"patience", MW_FIELD_INT, AT(train_settings, patience), "0", .min = 0, .max = 1e12,
     .doc = "steps without a better loss after which training ends; 0: all tokens are used"},
    {"min_gain", MW_FIELD_REAL, AT(train_settings, min_gain), "0.001", .min = 0, .max = 1,
     .doc = "part by which a loss must be lower to be better"},
    {"shards", MW_FIELD_INT, AT(train_settings, shards), "1", .min = 1, .max = 1 << 16, .aside = true,
     .doc =
         "groups of ranks that the latents are spread over, for an SAE too large for one device; the ranks of a group "
         "share out the rows. Changes nothing in the result"},
    {"precision", MW_FIELD_CHOICE, AT(train_settings, precision), "f32", .choices = "f32|tf32|bf16",
     .doc =
         "of the product that encodes; weights, gradients and all else are f32. tf32: on GPUs, elsewhere f32; bf16: of "
         "rounded activations and a rounded copy of W_enc"},
    {"normalize", MW_FIELD_CHOICE, AT(train_settings, normalize), "norm", .choices = "norm|standard|none",
     .doc =
         "norm: activations scaled to a mean norm of sqrt(width); standard: each column to a deviation of 1; folded into "
         "the saved weights"},
    {"init", MW_FIELD_CHOICE, AT(train_settings, init), "auto", .choices = "auto|scaled|tied|data",
     .doc =
         "scaled: random, encoder scaled to rebuild unit vectors; tied: encoder equal to decoder; data: directions of "
         "rows; auto: scaled with topk, else tied"},
    {"center", MW_FIELD_CHOICE, AT(train_settings, center), "auto", .choices = "auto|median|mean|zero",
     .doc =
         "what b_dec starts as: the geometric median or the mean of the sample, or zero; auto: median with topk, else "
         "zero"},
    {"init_rows", MW_FIELD_INT, AT(train_settings, init_rows), "32768", .min = 1, .max = 1 << 24,
     .doc = "sample for center, data and standard"},
    {"log_every", MW_FIELD_INT, AT(train_settings, log_every), "10", .min = 1, .max = 1e12,
     .doc = "steps between lines of history.jsonl"},
    {"checkpoint_every", MW_FIELD_INT, AT(train_settings, checkpoint_every), "1000", .min = 0, .max = 1e12,
     .doc = "steps between checkpoints; 0: none, but when a signal asks for an end"},
    {"checkpoint_minutes", MW_FIELD_REAL, AT(train_settings, checkpoint_minutes), "10", .min = 0, .max = 1e6,
     .doc = "time after which one is saved whatever the steps, looked at when a line is logged; 0: never"},
    {"keep_checkpoints", MW_FIELD_INT, AT(train_settings, keep_checkpoints), "2", .min = 1, .max = 1000,
     .doc = "how many of the last are kept while training: a damaged one is skipped for the one before"},
    {0}};

static const mw_field discover_fields[] = {
    {"top_texts", MW_FIELD_INT, AT(discover_settings, top_texts), "10", .min = 1, .max = 10000,
     .doc = "texts kept for each latent, at most one of each document in a sequence"},
    {"samples", MW_FIELD_INT, AT(discover_settings, samples), "15", .min = 0, .max = 10000,
     .doc =
         "texts of each latent drawn at random from all rows on which it is active: what it does away from its maximum"},
    {"context_tokens", MW_FIELD_INT, AT(discover_settings, context_tokens), "12", .min = 0, .max = 10000,
     .doc = "tokens shown on each side"},
    {"neighbours", MW_FIELD_INT, AT(discover_settings, neighbours), "8", .min = 0, .max = 1000,
     .doc = "latents listed as alike (decoder cosine) and as active together; 0: neither"},
    {"together_rows", MW_FIELD_INT, AT(discover_settings, coactive_rows), "200_000", .min = 1, .max = 1e8,
     .doc = "rows, drawn at random, on which latents that are active together are counted"},
    {"logit_tokens", MW_FIELD_INT, AT(discover_settings, logit_tokens), "10", .min = 0, .max = 1000,
     .doc = "tokens that a latent promotes and suppresses, through the unembedding; 0: none, and no model is needed"},
    {"seed", MW_FIELD_INT, AT(discover_settings, seed), "0", .min = 0, .max = 1e15, .doc = "of what is drawn"},
    {"show", MW_FIELD_INT, AT(discover_settings, show), "5", .min = 0, .max = 1000, .aside = true,
     .doc = "latents printed"},
    {"categories", MW_FIELD_STRING, AT(discover_settings, categories), "", .path = MW_PATH_FILE,
     .doc = "JSON of words in known categories, to score latents against"},
    {"names", MW_FIELD_STRING, AT(discover_settings, names), "", .path = MW_PATH_FILE,
     .doc = "CSV or JSON with names given to latents"},
    {0}};

static const mw_field naming_fields[] = {
    {"command", MW_FIELD_STRING, AT(naming_settings, command), NULL, .filled = true,
     .doc = "a shell command that reads a JSON request and writes a JSON answer, as tools/name_latents.py does"},
    {"latents", MW_FIELD_INTS, AT(naming_settings, latents), "", .doc = "which to name; none: the most frequent ones"},
    {"limit", MW_FIELD_INT, AT(naming_settings, limit), "100", .min = 0, .max = 1 << 30,
     .doc = "how many of the most frequent ones; 0: all"},
    {"again", MW_FIELD_BOOL, AT(naming_settings, again), "false",
     .doc = "also those that have a name which somebody gave"},
    {"texts", MW_FIELD_INT, AT(naming_settings, texts), "10", .min = 1, .max = 1000,
     .doc = "top texts of each latent that the command is shown"},
    {"test_texts", MW_FIELD_INT, AT(naming_settings, test_texts), "10", .min = 0, .max = 1000,
     .doc =
         "texts with the latent, and as many without, that it was not shown and must tell apart by the name; 0: no test"},
    {"batch", MW_FIELD_INT, AT(naming_settings, batch), "8", .min = 1, .max = 10000, .doc = "latents in a request"},
    {"timeout", MW_FIELD_REAL, AT(naming_settings, timeout), "600", .min = 0.1, .max = 1e6,
     .doc = "seconds that an answer may take"},
    {0}};

static const mw_field evaluate_fields[] = {
    {"ce_recovered", MW_FIELD_BOOL, AT(evaluate_settings, ce_recovered), "true",
     .doc = "cross-entropy of the model with the SAE spliced in, against zero ablation"},
    {"tokens", MW_FIELD_INT, AT(evaluate_settings, tokens), "20_000", .min = 2, .max = 1e12,
     .doc = "tokens of the dataset it is measured on"},
    {0}};

/* Keys of the edit_settings `turn` of a struct: of the section, and of each of its variants. */
#define EDIT_FIELDS(type)                                                                                              \
    {"edits", MW_FIELD_LATENT_VALUES, AT(type, turn.edits), "", .doc = "latent: factor of its activation"},            \
        {"add", MW_FIELD_LATENT_VALUES, AT(type, turn.add), "",                                                        \
         .doc = "latent: amount added to its activation, everywhere"},                                                 \
        {"clamp", MW_FIELD_LATENT_VALUES, AT(type, turn.clamp), "",                                                    \
         .doc = "latent: what its activation becomes, everywhere"},                                                    \
        {"ablate", MW_FIELD_INTS, AT(type, turn.ablate), "", .doc = "latents whose activation becomes 0"},             \
        {"concept", MW_FIELD_STRING, AT(type, turn.concept), "",                                                       \
         .doc = "category or name: the latents that match it best are turned up by `strength`"},                       \
        {"concept_latents", MW_FIELD_INT, AT(type, turn.concept_latents),          "3",                                \
         .min = 1,          .max = 1000,  .doc = "how many latents of the concept"},                                   \
        {"strength",                                                                                                   \
         MW_FIELD_REAL,                                                                                                \
         AT(type, turn.strength),                                                                                      \
         "1",                                                                                                          \
         .min = -1000,                                                                                                 \
         .max = 1000,                                                                                                  \
         .doc = "added to each latent of the concept, in units of its largest activation"},                            \
    {                                                                                                                  \
        "category", MW_FIELD_STRING, AT(type, turn.category), "",                                                      \
            .doc = "whose words are counted in what is written (discover.categories); empty: the concept's"            \
    }

static const mw_field variant_fields[] = {
    {"name", MW_FIELD_STRING, AT(variant_settings, name), NULL, .filled = true, .doc = "what it is called"},
    EDIT_FIELDS(variant_settings),
    {0}};

static const mw_field steer_fields[] = {
    {"prompts", MW_FIELD_STRINGS, AT(steer_settings, prompts), NULL, .doc = "texts to continue"},
    EDIT_FIELDS(steer_settings),
    {"variants", MW_FIELD_TABLE, AT(steer_settings, variants), "", .sub = variant_fields,
     .sub_size = sizeof(variant_settings), .doc = "several ways to turn latents, side by side"},
    {"scales", MW_FIELD_REALS, AT(steer_settings, scales), "1", .min = -1000, .max = 1000,
     .doc = "each variant at several strengths: 1 is as it is given, 0 is no change, 2 twice the change"},
    {"measure_tokens", MW_FIELD_INT, AT(steer_settings, measure_tokens), "10_000", .min = 0, .max = 1e12,
     .doc = "tokens of text on which cross-entropy and KL are measured with each variant; 0: not measured"},
    {"measure_path", MW_FIELD_STRINGS, AT(steer_settings, measure_path), "", .path = MW_PATH_FILE, .filled = true,
     .doc = "files of that text, which the SAE was not trained on; none: the last sequences of the dataset"},
    {"keep_error", MW_FIELD_BOOL, AT(steer_settings, keep_error), "true",
     .doc = "keep what the SAE does not explain; false: the stream becomes the edited reconstruction"},
    {"samples", MW_FIELD_INT, AT(steer_settings, samples), "1", .min = 1, .max = 10000,
     .doc = "continuations of each prompt"},
    {"max_new_tokens", MW_FIELD_INT, AT(steer_settings, max_new_tokens), "40", .min = 1, .max = 1 << 20,
     .doc = "to generate"},
    {"temperature", MW_FIELD_REAL, AT(steer_settings, temperature), "0", .min = 0, .max = 100, .doc = "0: greedy"},
    {"top_k", MW_FIELD_INT, AT(steer_settings, top_k), "0", .min = 0, .max = 1 << 20,
     .doc = "sample among this many; 0: all"},
    {"top_p", MW_FIELD_REAL, AT(steer_settings, top_p), "1", .min = 0.000001, .max = 1, .doc = "nucleus sampling"},
    {"seed", MW_FIELD_INT, AT(steer_settings, seed), "0", .min = 0, .max = 1e15, .doc = "of sampling"},
    {0}};

static const mw_field report_fields[] = {
    {"embed_mb", MW_FIELD_REAL, AT(report_settings, embed_mb), "32", .min = 0, .max = 100000,
     .doc =
         "packed latents up to this size are in the page itself, larger ones in files beside it, in units of 10^6 bytes"},
    {0}};

static const mw_section sections[] = {
    {"model", model_fields, AT(mw_experiment, model), "the language model"},
    {"dataset", dataset_fields, AT(mw_experiment, dataset), "what the model reads"},
    {"hooks", hooks_fields, AT(mw_experiment, hooks), "detectors and controllers (optional)"},
    {"harvest", harvest_fields, AT(mw_experiment, harvest), "stage: store activations"},
    {"sae", sae_fields, AT(mw_experiment, sae), "the sparse autoencoder"},
    {"train", train_fields, AT(mw_experiment, train), "stage: train the SAE"},
    {"discover", discover_fields, AT(mw_experiment, discover), "stage: top texts and names of latents"},
    {"naming", naming_fields, AT(mw_experiment, naming), "stage: names of latents from another program"},
    {"evaluate", evaluate_fields, AT(mw_experiment, evaluate), "stage: how good the SAE is"},
    {"steer", steer_fields, AT(mw_experiment, steer), "stage: generate before and after turning latents"},
    {"report", report_fields, AT(mw_experiment, report), "stage: the run as a page of HTML"},
};
enum { SECTION_COUNT = sizeof sections / sizeof *sections };

bool settings_has(const mw_experiment *e, const char *section) {
    return mw_node_find(e->document.root, section) != NULL;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

static const mw_section *find_section(const char *name) {
    for (int i = 0; i < SECTION_COUNT; i++)
        if (strcmp(sections[i].name, name) == 0) return &sections[i];
    return NULL;
}

static mw_status check_keys(const mw_document *document) {
    const char *names[SECTION_COUNT + 9] = {SWEEP_SECTION};
    int count = 1;
    for (int i = 0; i < SECTION_COUNT; i++) names[count++] = sections[i].name;
    for (const mw_field *f = top_fields; f->name; f++) names[count++] = f->name;
    for (const mw_node *n = document->root->child; n; n = n->next) {
        if (mw_fields_have(top_fields, n->key) || find_section(n->key) || strcmp(n->key, SWEEP_SECTION) == 0) continue;
        const char *near = mw_nearest_name(n->key, names, count);
        return mw_error(MW_ERR_CONFIG, "%s:%d: unknown section '%s'%s%s%s", document->file, n->line, n->key,
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return MW_OK;
}

static void *target_of(const mw_experiment *e, const mw_section *s) {
    return (char *)(uintptr_t)e + s->offset;
}

/* The sections of `e` from a document, which may be another one than its own. */
static mw_status bind_all(const mw_document *from, mw_experiment *e) {
    MW_TRY(check_keys(from));
    MW_TRY(mw_fields_bind_known(from->file, from->root, "the top level", top_fields, &e->top));
    static const char *const needed[] = {"model", "dataset"};
    for (int i = 0; i < 2; i++)
        if (!mw_node_find(from->root, needed[i]))
            return mw_error(MW_ERR_CONFIG, "%s:1: section '%s' is missing", from->file, needed[i]);
    for (int i = 0; i < SECTION_COUNT; i++) {
        const mw_node *node = mw_node_find(from->root, sections[i].name);
        bool optional = sections[i].fields == harvest_fields || sections[i].fields == steer_fields ||
                        sections[i].fields == naming_fields;
        if (!node && optional) continue; /* they have keys that must be given, and are not used */
        MW_TRY(mw_fields_bind(from->file, node, sections[i].name, sections[i].fields, target_of(e, &sections[i])));
    }
    return MW_OK;
}

/* ---- paths ------------------------------------------------------------------------------------------------- */

/* A store that is not given lies beside the file too. */
static mw_status name_store(mw_document *document) {
    mw_node name = {.kind = MW_NODE_SCALAR, .value = (char[]){"store"}, .quoted = true, .line = 1};
    return mw_node_find(document->root, "store") ? MW_OK : mw_document_put(document, "store", &name);
}

static mw_status resolve_all(mw_document *document, const char *folder, const char *here) {
    MW_TRY(name_store(document));
    MW_TRY(mw_node_resolve(document->root, top_fields, folder, here));
    for (mw_node *n = document->root->child; n; n = n->next) {
        const mw_section *s = find_section(n->key);
        if (s) MW_TRY(mw_node_resolve(n, s->fields, folder, here));
    }
    return MW_OK;
}

/* With paths as they are seen from the working directory, or whole ones. */
static mw_status bind_resolved(const mw_document *from, bool whole, mw_experiment *e) {
    mw_document copy = {0};
    char *folder = mw_path_directory(from->file), *here = whole ? mw_path_absolute(".") : NULL;
    char *all = folder && whole ? mw_path_absolute(folder) : NULL;
    mw_status status = folder && (!whole || (here && all)) ? mw_document_copy(from, &copy) : MW_ERR_MEMORY;
    if (status == MW_OK) status = resolve_all(&copy, whole ? all : folder, here);
    if (status == MW_OK) status = bind_all(&copy, e);
    mw_document_free(&copy);
    mw_free(folder);
    mw_free(here);
    mw_free(all);
    return status;
}

/* ---- what fields do not say by themselves --------------------------------------------------------------- */

static mw_status refuse(const mw_experiment *e, const char *key, const char *why) {
    return mw_error(MW_ERR_CONFIG, "%s: %s: %s", e->document.file, key, why);
}

static mw_status check_sites(const mw_experiment *e) {
    const sae_settings *s = &e->sae;
    if (s->site[0] && s->sites.count) return refuse(e, "sae.sites", "sae.site is given too");
    if (s->skip && !s->target[0]) return refuse(e, "sae.skip", "only a transcoder (sae.target) has a skip connection");
    if (s->target[0] && strcmp(s->site, s->target) == 0)
        return refuse(e, "sae.target", "it is sae.site: leave it out for an autoencoder");
    return MW_OK;
}

/* Whether what is given can be, as far as it does not depend on the width of the site. */
static mw_status check_shape(const mw_experiment *e, mw_variant variant) {
    const sae_settings *s = &e->sae;
    int64_t n = s->n_latents;
    if (s->groups.count && !mw_variant_uses_groups(variant))
        return refuse(e, "sae.groups", "only the matryoshka variants have groups");
    if (n == MW_AUTO_INT) return MW_OK;
    if (mw_variant_uses_k(variant) && s->k > n)
        return mw_error(MW_ERR_CONFIG, "%s: sae.k = %lld is larger than sae.n_latents = %lld", e->document.file,
                        (long long)s->k, (long long)n);
    return mw_sae_check(&(mw_sae_shape){
        .variant = variant, .n = n, .d = 1, .k = s->k, .n_groups = s->groups.count, .group = s->groups.items});
}

static mw_status check_training(const mw_experiment *e, mw_variant variant) {
    const train_settings *t = &e->train;
    if (t->k_anneal > 0 && !mw_variant_uses_k(variant)) return refuse(e, "train.k_anneal", "this variant has no k");
    if (t->k_anneal > 0 && t->k_start != MW_AUTO_INT && t->k_start < e->sae.k)
        return refuse(e, "train.k_start", "smaller than sae.k: k falls, it does not rise");
    if (!isnan(t->sparsity) && !mw_variant_uses_penalty(variant))
        return refuse(e, "train.sparsity", "this variant has no penalty: sae.k makes it sparse");
    bool jump = variant == MW_JUMP_RELU;
    if (!jump && (t->l0_target > 0 || t->penalty || !isnan(t->bandwidth) || !isnan(t->threshold_init)))
        return refuse(e, "train", "l0_target, penalty, bandwidth and threshold_init are of sae.variant jump_relu only");
    if (t->aux_k > 0 && (variant == MW_RELU || variant == MW_GATED))
        return refuse(e, "train.aux_k", "a dead latent of this variant has no positive value that AuxK could choose");
    if (t->l0_target > 0 && t->penalty == MW_PENALTY_TANH)
        return refuse(e, "train.l0_target", "it goes with penalty l0, not with tanh");
    return MW_OK;
}

static mw_status check_values(const mw_experiment *e) {
    mw_variant variant;
    if (settings_has(e, "sae")) MW_TRY(check_sites(e));
    mw_status known = mw_variant_parse(e->sae.variant, &variant);
    if (known != MW_OK) return MW_ERR_CONFIG;
    MW_TRY(check_shape(e, variant));
    if (settings_has(e, "train")) MW_TRY(check_training(e, variant));
    for (const char *p = e->top.name; *p; p++)
        if (*p == '/' || e->top.name[0] == '.')
            return mw_error(MW_ERR_CONFIG, "%s: name '%s' cannot be the name of a folder", e->document.file,
                            e->top.name);
    return e->top.name[0] ? MW_OK : mw_error(MW_ERR_CONFIG, "%s: name is empty", e->document.file);
}

mw_status settings_bind(mw_document *document, mw_experiment **out) {
    mw_experiment *e = mw_calloc(1, sizeof *e);
    if (e)
        e->document = *document;
    else
        mw_document_free(document);
    *document = (mw_document){0};
    mw_status status = e && (e->given = mw_calloc(1, sizeof *e->given)) ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK) status = bind_all(&e->document, e->given);
    if (status == MW_OK) status = bind_resolved(&e->document, false, e);
    if (status == MW_OK) status = check_values(e);
    if (status != MW_OK)
        mw_experiment_free(&e);
    else
        *out = e;
    return status;
}

mw_status mw_experiment_load(const char *path, const char *const *sets, int64_t n_sets, mw_experiment **out) {
    mw_document document = {0};
    mw_status status = mw_document_load(path, &document);
    for (int64_t i = 0; i < n_sets && status == MW_OK; i++) status = mw_document_set(&document, sets[i]);
    if (status == MW_OK) return settings_bind(&document, out);
    mw_document_free(&document);
    return status;
}

void mw_experiment_free(mw_experiment **slot) {
    mw_experiment *e = *slot;
    if (!e) return;
    mw_fields_release(top_fields, &e->top);
    for (int i = 0; i < SECTION_COUNT; i++) mw_fields_release(sections[i].fields, target_of(e, &sections[i]));
    mw_experiment_free(&e->given);
    mw_document_free(&e->document);
    mw_free(e);
    *slot = NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static void write_section(const mw_experiment *e, const mw_section *s, bool document, mw_text *out) {
    if (document) mw_text_addf(out, "\n# %s\n", s->doc);
    mw_text_addf(out, "%s:\n", s->name);
    mw_fields_write(out, s->fields, target_of(e, s), 2, document);
}

mw_status settings_write(const mw_experiment *e, const char *const *names, int count, bool document, mw_text *out) {
    for (int i = 0; i < count; i++) {
        const mw_section *s = find_section(names[i]);
        if (s && settings_has(e, names[i])) write_section(e->given ? e->given : e, s, document, out);
    }
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

/* Defaults of a whole file: keys that must be given get an example. */
static const char example[] =
    "model: {path: gpt2}\ndataset: {path: 'data/*.jsonl'}\nhooks: {}\nharvest: {sites: [8.resid_post]}\nsae: {}\ntrain: {}\n"
    "discover: {}\nnaming: {command: 'python3 tools/name_latents.py'}\nevaluate: {}\nsteer: {prompts: ['Once upon a time']}\nreport: {}\n";

static mw_status example_experiment(mw_experiment **out) {
    mw_experiment *e = mw_calloc(1, sizeof *e);
    if (!e) return MW_ERR_MEMORY;
    mw_status status = mw_document_parse("defaults", example, strlen(example), &e->document);
    if (status == MW_OK) status = bind_all(&e->document, e);
    if (status != MW_OK)
        mw_experiment_free(&e);
    else
        *out = e;
    return status;
}

static void write_all(const mw_experiment *e, const mw_document *asked, bool document, mw_text *out) {
    mw_fields_write(out, top_fields, &e->top, 0, document);
    for (int i = 0; i < SECTION_COUNT; i++)
        if (mw_node_find(asked->root, sections[i].name)) write_section(e, &sections[i], document, out);
}

mw_status settings_write_given(const mw_experiment *e, mw_text *out) {
    write_all(e->given, &e->document, false, out);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status settings_same(const mw_experiment *e, const mw_comm *comm) {
    mw_text text = {0};
    const mw_node *sweep = mw_node_find(e->document.root, SWEEP_SECTION);
    if (mw_comm_size(comm) == 1) return MW_OK;
    mw_status status = settings_write_given(e, &text);
    if (sweep) mw_text_addf(&text, "%s: ", SWEEP_SECTION);
    if (sweep) mw_node_text(sweep, &text);
    status = mw_comm_agree(comm, status == MW_OK && text.failed ? MW_ERR_MEMORY : status);
    if (status == MW_OK) status = mw_comm_require_same(comm, "the settings", text.data);
    mw_text_free(&text);
    return status;
}

mw_status mw_experiment_describe(const mw_experiment *experiment, bool document, mw_text *out) {
    mw_experiment *made = NULL;
    mw_status status = MW_OK;
    if (!experiment)
        status = example_experiment(&made);
    else if (!(made = mw_calloc(1, sizeof *made)))
        status = MW_ERR_MEMORY;
    else
        status = bind_resolved(&experiment->document, true, made);
    if (status == MW_OK) write_all(made, experiment ? &experiment->document : &made->document, document, out);
    mw_experiment_free(&made);
    return status == MW_OK && out->failed ? MW_ERR_MEMORY : status;
}

/* ---- comparing ------------------------------------------------------------------------------------------ */

typedef struct comparison {
    mw_document there, here, defaults;
    mw_text *out;
    int64_t count;
} comparison;

enum { DIFFERENCES_SHOWN = 4 };

static mw_status default_document(mw_document *out) {
    mw_experiment *e = NULL;
    mw_text text = {0};
    MW_TRY(example_experiment(&e));
    write_all(e, &e->document, false, &text);
    mw_status status = text.failed ? MW_ERR_MEMORY : mw_document_parse("defaults", text.data, text.length, out);
    mw_text_free(&text);
    mw_experiment_free(&e);
    return status;
}

static mw_status value_of(const comparison *c, const mw_document *in, const mw_section *s, const mw_field *f,
                          mw_text *out) {
    const mw_node *node = mw_node_find(mw_node_find(in->root, s->name), f->name);
    if (!node) node = mw_node_find(mw_node_find(c->defaults.root, s->name), f->name);
    mw_text_add(out, "", 0);
    if (node) mw_node_text(node, out);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

static void add_difference(comparison *c, const mw_section *s, const mw_field *f, const char *there, const char *here) {
    enum { SHOWN = 48 };
    if (++c->count > DIFFERENCES_SHOWN) return;
    mw_text_addf(c->out, "%s%s.%s: %.*s%s there, %.*s%s here", c->count > 1 ? "; " : "", s->name, f->name, SHOWN,
                 there[0] ? there : "nothing", strlen(there) > SHOWN ? "..." : "", SHOWN, here[0] ? here : "nothing",
                 strlen(here) > SHOWN ? "..." : "");
}

static mw_status compare_field(comparison *c, const mw_section *s, const mw_field *f) {
    mw_text there = {0}, here = {0};
    mw_status status = value_of(c, &c->there, s, f, &there);
    if (status == MW_OK) status = value_of(c, &c->here, s, f, &here);
    if (status == MW_OK && strcmp(there.data, here.data) != 0) add_difference(c, s, f, there.data, here.data);
    mw_text_free(&there);
    mw_text_free(&here);
    return status;
}

static mw_status compare_sections(comparison *c, bool paths) {
    for (int i = 0; i < SECTION_COUNT; i++) {
        const mw_section *s = &sections[i];
        if (!mw_node_find(c->there.root, s->name) && !mw_node_find(c->here.root, s->name)) continue;
        for (const mw_field *f = s->fields; f->name; f++)
            if (!f->aside && (paths || !f->path)) MW_TRY(compare_field(c, s, f));
    }
    if (c->count > DIFFERENCES_SHOWN)
        mw_text_addf(c->out, "; and %lld more", (long long)(c->count - DIFFERENCES_SHOWN));
    return c->out->failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status settings_differences(const char *there, const char *here, bool paths, mw_text *out) {
    comparison c = {.out = out};
    mw_text_add(out, "", 0);
    mw_status status = mw_document_parse("the settings there", there, strlen(there), &c.there);
    if (status == MW_OK) status = mw_document_parse("the settings here", here, strlen(here), &c.here);
    if (status == MW_OK) status = default_document(&c.defaults);
    if (status == MW_OK) status = compare_sections(&c, paths);
    mw_document_free(&c.there);
    mw_document_free(&c.here);
    mw_document_free(&c.defaults);
    return status;
}

mw_status settings_sites(const mw_experiment *e, char **out) {
    mw_text text = {0};
    const mw_strings *many = &e->sae.sites;
    for (int64_t i = 0; i < many->count; i++) mw_text_addf(&text, "%s%s", i ? "," : "", many->items[i]);
    if (!many->count && e->sae.site && e->sae.site[0])
        mw_text_addf(&text, "%s", e->sae.site);
    else if (!many->count && e->harvest.sites.count)
        mw_text_addf(&text, "%s", e->harvest.sites.items[0]);
    if (text.failed) {
        mw_text_free(&text);
        return MW_ERR_MEMORY;
    }
    if (!text.data) return mw_error(MW_ERR_CONFIG, "%s: sae.site is not given, nor harvest.sites", e->document.file);
    *out = text.data;
    return MW_OK;
}

static bool same_site(const char *a, const char *b) {
    mw_site x, y;
    mw_log_quiet(true);
    bool known = mw_site_parse(a, &x) == MW_OK && mw_site_parse(b, &y) == MW_OK;
    mw_log_quiet(false);
    return known ? x.layer == y.layer && x.kind == y.kind : strcmp(a, b) == 0;
}

bool settings_same_sites(const char *a, const char *b) {
    char x[MW_SITE_TEXT + 32], y[MW_SITE_TEXT + 32];
    for (;; a++, b++) {
        size_t m = strcspn(a, ","), n = strcspn(b, ",");
        if (m >= sizeof x || n >= sizeof y) return strcmp(a, b) == 0;
        snprintf(x, sizeof x, "%.*s", (int)m, a);
        snprintf(y, sizeof y, "%.*s", (int)n, b);
        if (!same_site(x, y)) return false;
        a += m;
        b += n;
        if (!*a || !*b) return *a == *b;
    }
}

/* "": none is asked for. */
static mw_status check_harvested(const mw_experiment *e, const char *key, const char *site) {
    const mw_strings *harvested = &e->harvest.sites;
    if (!site[0]) return MW_OK;
    for (int64_t i = 0; i < harvested->count; i++)
        if (same_site(site, harvested->items[i])) return MW_OK;
    return mw_error(MW_ERR_CONFIG, "%s: %s: %s is not among harvest.sites", e->document.file, key, site);
}

mw_status settings_check_sites(const mw_experiment *e) {
    const sae_settings *s = &e->sae;
    if (!settings_has(e, "harvest") || !settings_has(e, "sae")) return MW_OK;
    MW_TRY(check_harvested(e, "sae.site", s->site));
    for (int64_t i = 0; i < s->sites.count; i++) MW_TRY(check_harvested(e, "sae.sites", s->sites.items[i]));
    return check_harvested(e, "sae.target", s->target);
}

mw_status settings_check_harvested(const mw_experiment *e) {
    return e->sae.activations.count ? MW_OK : settings_check_sites(e);
}

mw_variant settings_variant(const mw_experiment *e) {
    mw_variant variant = MW_TOPK;
    mw_status known = mw_variant_parse(e->sae.variant, &variant);
    (void)known; /* when the file was read */
    return variant;
}
