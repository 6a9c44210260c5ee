/* The options of training: their keys, and the defaults of files and programs alike. */
#include "sae/train/train_options.h"
#include "sae/variants/variants.h"

#include <math.h>

static const mw_choice nan_rules[] = {{"stop", MW_NAN_STOP}, {"skip", MW_NAN_SKIP}, {0}};
static const mw_choice decays[] = {
    {"linear", MW_DECAY_LINEAR}, {"cosine", MW_DECAY_COSINE}, {"constant", MW_DECAY_NONE}, {0}};
static const mw_choice penalties[] = {{"l0", MW_PENALTY_L0}, {"tanh", MW_PENALTY_TANH}, {0}};
static const mw_choice precisions[] = {
    {"f32", MW_PRECISION_F32}, {"tf32", MW_PRECISION_TF32}, {"bf16", MW_PRECISION_BF16}, {0}};
static const mw_choice screens[] = {
    {"auto", MW_SCREEN_AUTO}, {"off", MW_SCREEN_OFF}, {"f32", MW_SCREEN_F32}, {"bf16", MW_SCREEN_BF16}, {0}};
static const mw_choice normalizations[] = {
    {"norm", MW_NORMALIZE_NORM}, {"standard", MW_NORMALIZE_STANDARD}, {"none", MW_NORMALIZE_NONE}, {0}};
static const mw_choice inits[] = {
    {"auto", MW_INIT_AUTO}, {"scaled", MW_INIT_SCALED}, {"tied", MW_INIT_TIED}, {"data", MW_INIT_DATA}, {0}};
static const mw_choice centers[] = {
    {"auto", MW_CENTER_AUTO}, {"median", MW_CENTER_MEDIAN}, {"mean", MW_CENTER_MEAN}, {"zero", MW_CENTER_ZERO}, {0}};

#define AT(member) offsetof(mw_train_options, member)
#define ENUM(member) MW_ENUM_AT(mw_train_options, member)

const mw_field train_option_fields[] = {
    {"batch", MW_FIELD_INT, AT(batch), "4096", .min = 1, .max = 1 << 24, .doc = "rows of a step, over all ranks"},
    {"order", MW_FIELD_INT, AT(order_seed), "0", .min = 0, .max = 1e15, .doc = "seed of the order of rows"},
    {"shuffle_block", MW_FIELD_INT, AT(shuffle_block), "16", .min = 1, .max = 1 << 20,
     .doc = "rows of a block, with shuffle: blocks"},
    {"shuffle_window", MW_FIELD_INT, AT(shuffle_window), "128", .min = 1, .max = 1 << 20,
     .doc = "blocks that are mixed; each 128 rows of a batch have their own window in memory"},
    {"nan", MW_FIELD_CHOICE, ENUM(nan_rule), "stop", .choices = nan_rules,
     .doc = "stop: a row that is not finite ends the run, which names it; skip: the next row takes its place"},
    {"lr", MW_FIELD_REAL, AT(lr), "auto", .min = 0, .max = 10,
     .doc = "learning rate of W_enc; auto: 0.0625 / sqrt(width), times the cube root of batch k / (32 n_latents), "
            "more in runs of less than 500 steps, at most 0.2 / sqrt(width); 0.03125 / sqrt(width) where neither k nor "
            "l0_target is known"},
    {"lr_w_dec", MW_FIELD_REAL, AT(lr_w_dec), "4", .min = 0, .max = 1000,
     .doc = "learning rate of W_dec, in units of lr; of a transcoder in units of lr sqrt(width in / width out)"},
    {"lr_b_enc", MW_FIELD_REAL, AT(lr_b_enc), "6", .min = 0, .max = 1000,
     .doc = "learning rate of b_enc, in units of lr"},
    {"lr_b_dec", MW_FIELD_REAL, AT(lr_b_dec), "0.3", .min = 0, .max = 1000,
     .doc = "learning rate of b_dec, in units of lr"},
    {"beta1", MW_FIELD_REAL, AT(beta1), "auto", .min = 0, .max = 0.999999,
     .doc = "of Adam; auto: 0.9, for jump_relu 0.85"},
    {"beta2", MW_FIELD_REAL, AT(beta2), "0.93", .min = 0, .max = 0.999999, .doc = "of Adam"},
    {"eps", MW_FIELD_REAL, AT(eps), "6.25e-10", .min = 0, .max = 1, .doc = "of Adam"},
    {"warmup", MW_FIELD_INT, AT(warmup_steps), "auto", .min = 0, .max = 1e12,
     .doc = "steps in which the learning rate rises; auto: 1000, or a twentieth of a short run"},
    {"schedule", MW_FIELD_CHOICE, ENUM(decay), "linear", .choices = decays,
     .doc = "how the learning rate falls at the end of the run"},
    {"decay", MW_FIELD_REAL, AT(decay_fraction), "0.2", .min = 0, .max = 1,
     .doc = "fraction of the run, at its end, in which the learning rate falls to 0"},
    {"clip_norm", MW_FIELD_REAL, AT(clip_norm), "1", .min = 0, .max = 1e9,
     .doc = "limit of the gradient norm, for the squared error summed over dimensions; 0: none"},
    {"ema", MW_FIELD_REAL, AT(ema), "0", .min = 0, .max = 0.9999999,
     .doc = "decay of the running mean of the weights, which is saved in their place; 0: the weights of the "
            "last step are saved"},
    {"sparsity", MW_FIELD_REAL, AT(sparsity), "auto", .min = 0, .max = 1e12,
     .doc = "coefficient of the penalty, beside the squared error on normalized data; auto: relu and "
            "relu_unit_norm 5, gated 2, jump_relu 6e-4 times the width, with l0_target the width"},
    {"sparsity_warmup", MW_FIELD_INT, AT(sparsity_warmup), "auto", .min = 0, .max = 1e12,
     .doc = "steps in which sparsity rises from 0; auto: a twentieth of the run"},
    {"penalty", MW_FIELD_CHOICE, ENUM(penalty), "l0", .choices = penalties,
     .doc = "of jump_relu: the number of active latents, or the sum of tanh(4 z)"},
    {"l0_target", MW_FIELD_REAL, AT(l0_target), "0", .min = 0, .max = 1e9,
     .doc = "of jump_relu: the penalty becomes (L0 / l0_target - 1)^2; 0: L0"},
    {"bandwidth", MW_FIELD_REAL, AT(bandwidth), "auto", .min = 1e-12, .max = 1e6,
     .doc = "of jump_relu: width of the kernel through which thresholds learn; auto: 2"},
    {"threshold_init", MW_FIELD_REAL, AT(threshold_init), "auto", .min = 1e-12, .max = 1e6,
     .doc = "of jump_relu: first value of the thresholds; auto: 0.01, with tanh 0.1"},
    {"threshold_batches", MW_FIELD_INT, AT(threshold_batches), "16", .min = 0, .max = 1e9,
     .doc = "of batch_topk: batches after training that set the threshold; 0: keep the running mean of training"},
    {"k_anneal", MW_FIELD_INT, AT(k_anneal_steps), "0", .min = 0, .max = 1e12,
     .doc = "steps in which k falls from k_start to sae.k"},
    {"k_start", MW_FIELD_INT, AT(k_start), "auto", .min = 1, .max = 1 << 20,
     .doc = "first k of k_anneal; auto: half the site's width"},
    {"aux_k", MW_FIELD_INT, AT(aux_k), "auto", .min = 0, .max = 1 << 20,
     .doc = "silent latents that rebuild the residual (AuxK); 0: off; auto: half the site's width with topk and "
            "jump_relu, else 0"},
    {"aux_after", MW_FIELD_INT, AT(aux_after), "auto", .min = 0, .max = 1e15,
     .doc = "rows without firing after which AuxK trains a latent; 0: dead_after; auto: 50 n_latents / k, for "
            "jump_relu with l0_target or 32 as k"},
    {"aux_weak", MW_FIELD_REAL, AT(aux_weak), "0.2", .min = 0, .max = 0.999,
     .doc = "fraction of a batch's codes, the smallest, whose part AuxK rebuilds beside the residual; 0: the residual "
            "alone"},
    {"aux_lift", MW_FIELD_REAL, AT(aux_lift), "auto", .min = 0, .max = 1e6,
     .doc = "rise of b_enc of a latent that AuxK trains, in each step, in units of lr; less where "
            "more than a third of all latents are silent; auto: 4, for jump_relu 1"},
    {"aux_coefficient", MW_FIELD_REAL, AT(aux_coefficient), "0.03125", .min = 0, .max = 1e6,
     .doc = "weight of the AuxK loss"},
    {"dead_after", MW_FIELD_INT, AT(dead_after), "auto", .min = 1, .max = 1e15,
     .doc = "rows without firing after which a latent is dead; auto: 10 million, or a tenth of a shorter run"},
    {"resample_every", MW_FIELD_INT, AT(resample_every), "0", .min = 0, .max = 1e12,
     .doc = "steps between resamplings of dead latents from badly rebuilt rows; 0: never"},
    {"patience", MW_FIELD_INT, AT(patience), "0", .min = 0, .max = 1e12,
     .doc = "steps without a better loss after which training ends; 0: train on all tokens"},
    {"min_gain", MW_FIELD_REAL, AT(min_gain), "0.001", .min = 0, .max = 1,
     .doc = "relative improvement of the loss that counts as better"},
    {"shards", MW_FIELD_INT, AT(shards), "1", .min = 1, .max = 1 << 16, .aside = true,
     .doc = "groups of ranks that each hold a part of the latents, for an SAE too large for one device; the "
            "ranks of a group share the rows. Does not change the result"},
    {"precision", MW_FIELD_CHOICE, ENUM(precision), "f32", .choices = precisions,
     .doc = "of the encoder's product; weights, gradients and all else are f32. tf32: on GPUs, elsewhere f32; "
            "bf16: of rounded activations and a rounded copy of W_enc"},
    {"screen", MW_FIELD_CHOICE, ENUM(screen), "auto", .choices = screens, .aside = true,
     .doc = "with precision f32, the products that find the candidates among which f32 dot products select: bf16, f32, "
            "or off: all dot products are computed; auto: bf16 where that is faster than f32. Does not change the "
            "result"},
    {"normalize", MW_FIELD_CHOICE, ENUM(normalize), "norm", .choices = normalizations,
     .doc = "norm: scale activations to a mean norm of sqrt(width); standard: scale each column to a standard "
            "deviation of 1; folded into the saved weights"},
    {"init", MW_FIELD_CHOICE, ENUM(init), "auto", .choices = inits,
     .doc = "scaled: random, encoder scaled to rebuild unit vectors; tied: encoder equal to decoder; data: "
            "directions of rows; auto: scaled with topk, else tied"},
    {"center", MW_FIELD_CHOICE, ENUM(center), "auto", .choices = centers,
     .doc = "initial b_dec: the geometric median or the mean of the sample, or zero; auto: median with topk, "
            "else zero"},
    {"init_rows", MW_FIELD_INT, AT(init_rows), "32768", .min = 1, .max = 1 << 24,
     .doc = "rows of the sample for center, data and standard"},
    {"log_every", MW_FIELD_INT, AT(log_every), "10", .min = 1, .max = 1e12,
     .doc = "steps between lines of history.jsonl"},
    {"checkpoint_every", MW_FIELD_INT, AT(checkpoint_every), "1000", .min = 0, .max = 1e12,
     .doc = "steps between checkpoints; 0: only when a signal requests the end"},
    {"checkpoint_minutes", MW_FIELD_REAL, AT(checkpoint_minutes), "10", .min = 0, .max = 1e6,
     .doc = "minutes after which a checkpoint is saved whatever the step, checked when a line is logged; 0: "
            "never"},
    {"keep_checkpoints", MW_FIELD_INT, AT(keep_checkpoints), "2", .min = 1, .max = 1000,
     .doc = "number of last checkpoints that are kept while training; a damaged one is skipped for the one "
            "before"},
    {0}};

static void set_if_auto(int64_t *number, int64_t value) {
    if (*number == MW_AUTO_INT) *number = value;
}

static void set_real_if_auto(double *number, double value) {
    if (isnan(*number)) *number = value;
}

/* Rows in which a latent of mean frequency is active 50 times. */
static int64_t silent_rows(const mw_train_options *o, const mw_sae_shape *shape) {
    enum { USUAL_L0 = 32, TIMES = 50 };
    double l0 = wanted_l0(o, shape->k);
    return (int64_t)(TIMES * (double)shape->n / (l0 > 0 ? l0 : USUAL_L0)) + 1;
}

void train_options_resolve(mw_train_options *o, const mw_sae_shape *shape, int64_t rows) {
    enum { LONG_RUN = 20000, WARMUP = 1000, LONG_ROWS = 100000000, DEAD_AFTER = 10000000 };
    o->steps = o->batch > 0 ? (rows + o->batch - 1) / o->batch : 0;
    set_if_auto(&o->warmup_steps, o->steps < LONG_RUN ? o->steps / 20 : WARMUP);
    set_if_auto(&o->aux_k, variant_has_auxk(shape->variant) ? shape->d / 2 : 0);
    set_if_auto(&o->dead_after, rows < LONG_ROWS ? rows / 10 + 1 : DEAD_AFTER);
    set_if_auto(&o->aux_after, silent_rows(o, shape));
    set_real_if_auto(&o->beta1, shape->variant == MW_JUMP_RELU ? 0.85 : 0.9);
    set_real_if_auto(&o->aux_lift, shape->variant == MW_JUMP_RELU ? 1 : 4);
    set_if_auto(&o->k_start, shape->d / 2);
    set_if_auto(&o->sparsity_warmup, o->steps / 20);
}

mw_train_options mw_train_defaults(const mw_sae_shape *shape, int64_t rows, int64_t batch) {
    mw_train_options o = {0};
    mw_status bound = mw_fields_bind("defaults", NULL, "train", train_option_fields, &o);
    (void)bound;         /* defaults are in their ranges, and numbers take no memory */
    o.shuffle_block = 0; /* a file's train.shuffle is `rows` by default */
    o.batch = batch;
    train_options_resolve(&o, shape, rows);
    return o;
}
