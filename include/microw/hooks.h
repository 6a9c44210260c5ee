/* microw/hooks.h: detectors read and controllers edit the activations of a model while it runs.
 *
 *     static mw_status watch(void *self, const mw_hook_event *event) {
 *         const float *x = event->x.data;                  // [rows, width]
 *         *(float *)self = x[0];
 *         return MW_OK;                                    // MW_STOP ends the pass early, cleanly
 *     }
 *     mw_hook hook = {.site = {8, MW_RESID_POST}, .kind = MW_DETECTOR, .call = watch, .self = &first};
 *     MW_TRY(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
 *
 * Several hooks on one site fire in the order of attachment; each sees the edits of those before it. All functions are
 * local: no rank communicates.
 */
#ifndef MICROW_HOOKS_H
#define MICROW_HOOKS_H

#include "microw/backend.h"
#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds of sites in the order in which a block computes them, with their widths:
 * embed [d_model]: token embedding (scaled where the family scales), before a norm of it or learned positions.
 * resid_pre [d_model]: residual stream entering the block.
 * attn_in [d_model]: input of the projections of attention, after the block's first norm; the residual stream itself in
 *     families that normalize outputs only.
 * attn_q [heads * head_dim], attn_k, attn_v [kv_heads * head_dim]: projections with bias, before head norms and rotary.
 * attn_z [heads * head_dim]: mixed values before the output projection.
 * attn_out [d_model]: output of attention, as it is added to the residual stream.
 * resid_mid [d_model]: residual stream between attention and MLP; families with a parallel residual have none.
 * mlp_in [d_model]: input of the MLP, after its norm, which transcoders read.
 * mlp_act [d_mlp]: input of the down projection.
 * mlp_out [d_model]: output of the MLP, as it is added to the residual stream.
 * resid_post [d_model]: residual stream leaving the block.
 * logits [vocab]: after any factor and soft cap. */
#define MW_SITE_KIND_LIST(X)                                                                                           \
    X(MW_EMBED, "embed")                                                                                               \
    X(MW_RESID_PRE, "resid_pre")                                                                                       \
    X(MW_ATTN_IN, "attn_in")                                                                                           \
    X(MW_ATTN_Q, "attn_q")                                                                                             \
    X(MW_ATTN_K, "attn_k")                                                                                             \
    X(MW_ATTN_V, "attn_v")                                                                                             \
    X(MW_ATTN_Z, "attn_z")                                                                                             \
    X(MW_ATTN_OUT, "attn_out")                                                                                         \
    X(MW_RESID_MID, "resid_mid")                                                                                       \
    X(MW_MLP_IN, "mlp_in")                                                                                             \
    X(MW_MLP_ACT, "mlp_act")                                                                                           \
    X(MW_MLP_OUT, "mlp_out")                                                                                           \
    X(MW_RESID_POST, "resid_post")                                                                                     \
    X(MW_LOGITS, "logits")

typedef enum mw_site_kind {
#define MW_SITE_KIND_ENUM(code, text) code,
    MW_SITE_KIND_LIST(MW_SITE_KIND_ENUM)
#undef MW_SITE_KIND_ENUM
        MW_SITE_KIND_COUNT
} mw_site_kind;

/* `8.resid_post`; embed and logits have no layer (it is 0) and are written without one. */
typedef struct mw_site {
    int layer;
    mw_site_kind kind;
} mw_site;

enum { MW_SITE_TEXT = 48 }; /* bytes of a site's text with its NUL */
/* Parses "8.resid_post", "embed" or "logits". MW_ERR_CONFIG, with a suggestion. */
mw_status mw_site_parse(const char *text, mw_site *out) MW_MUST_USE;
/* Writes the text of a site. */
void mw_site_format(mw_site site, char out[MW_SITE_TEXT]);
/* Returns a number that orders sites as a forward pass reaches them. */
int64_t mw_site_order(mw_site site);

typedef struct mw_hook_event {
    mw_site site;
    mw_backend *backend;     /* owns the memory of x; on a host backend x.data is plain memory */
    mw_tensor x;             /* f32 [rows, width]; controllers edit it in place, detectors must not */
    const int32_t *token;    /* [rows] host */
    const int32_t *position; /* [rows] host, within the sequence */
    const int32_t *sequence; /* [rows] host, index of the sequence in the batch */
} mw_hook_event;

/* Handles one event: MW_OK, MW_STOP to end the pass early, or an error, which ends the pass. */
typedef mw_status (*mw_hook_call)(void *self, const mw_hook_event *event);
typedef enum mw_hook_kind { MW_DETECTOR, MW_CONTROLLER } mw_hook_kind;

typedef struct mw_hook {
    mw_site site;
    mw_hook_kind kind;
    mw_hook_call call;
    void *self; /* owned by the registry if `release` is set */
    void (*release)(void *self);
    const char *name; /* for messages; may be NULL; borrowed */
} mw_hook;

typedef struct mw_hooks mw_hooks; /* registry of one model's hooks */
typedef int64_t mw_hook_id;

/* Returns the width of a site; 0: the model has no such site. */
typedef int64_t (*mw_site_width)(const void *model, mw_site site);

/* Makes an empty registry. `model` is borrowed and passed to `width`. MW_ERR_MEMORY. Caller frees. */
mw_status mw_hooks_new(mw_site_width width, const void *model, mw_hooks **out) MW_MUST_USE;
/* Frees the registry and releases its hooks; sets `hooks` to NULL. */
void mw_hooks_free(mw_hooks **hooks);
/* Adds a copy of a hook, enabled; `out`: its id. MW_ERR_CONFIG: the model has no such site. MW_ERR_ARG: no function. On
 * success the registry owns `self` if `release` is set. */
mw_status mw_hooks_attach(mw_hooks *hooks, const mw_hook *hook, mw_hook_id *out) MW_MUST_USE;
/* Removes and releases a hook; enables or disables one. False: no such hook. */
bool mw_hooks_detach(mw_hooks *hooks, mw_hook_id id);
bool mw_hooks_enable(mw_hooks *hooks, mw_hook_id id, bool enabled);
/* With false no controller fires; which ones are enabled does not change. */
void mw_hooks_use_controllers(mw_hooks *hooks, bool use);
/* Returns the number of hooks of a kind on a site, enabled or not. */
int64_t mw_hooks_count(const mw_hooks *hooks, mw_site site, mw_hook_kind kind);
/* Returns whether a hook on this site will fire. */
bool mw_hooks_wanted(const mw_hooks *hooks, mw_site site);
/* Returns mw_site_order of the last site with a hook that will fire; -1: none. */
int64_t mw_hooks_last(const mw_hooks *hooks);
/* Calls the enabled hooks of the event's site in order. Returns MW_STOP or the first error, which it logs with site
 * and name of the hook. */
mw_status mw_hooks_fire(mw_hooks *hooks, const mw_hook_event *event) MW_MUST_USE;
/* Sets site and name (borrowed) of the hook that returned MW_STOP last; false: none did. */
bool mw_hooks_stopped(const mw_hooks *hooks, mw_site *site, const char **name);

/* For hooks that work in host memory: sets `rows` [rows, width] to the event's data on a host backend, else to a copy.
 * mw_hook_return frees the copy and, if `changed`, first uploads it. */
mw_status mw_hook_borrow(const mw_hook_event *event, float **rows) MW_MUST_USE;
mw_status mw_hook_return(const mw_hook_event *event, float *rows, bool changed) MW_MUST_USE;

/* ---- ready-made hooks ------------------------------------------------------------------------------- */

/* Detector: collects the rows of all passes, [rows, width] f32. Starts as {0}. MW_ERR_STATE for another width. */
typedef struct mw_collector {
    float *data;
    int64_t rows, width, capacity;
} mw_collector;
mw_status mw_collect(void *collector, const mw_hook_event *event) MW_MUST_USE;
void mw_collector_free(mw_collector *collector);

/* Detector: mean and variance per column (Welford/Chan), sum of L2 norms, number of rows. Starts as {0}. */
typedef struct mw_statistics {
    int64_t rows, width;
    double *mean, *m2; /* [width]; variance = m2 / rows */
    double norm_sum;
} mw_statistics;
mw_status mw_measure(void *statistics, const mw_hook_event *event) MW_MUST_USE;
void mw_statistics_free(mw_statistics *statistics);

/* Controller: x[:, columns] = x * factor + vector; n_columns 0: all columns. `vector` is NULL or [width]. A factor of 0
 * ablates. MW_ERR_ARG: a column out of range. */
typedef struct mw_affine_rule {
    float factor;
    float *vector;    /* borrowed */
    int64_t *columns; /* [n_columns]; borrowed */
    int64_t n_columns;
} mw_affine_rule;
mw_status mw_apply_affine(void *rule, const mw_hook_event *event) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
