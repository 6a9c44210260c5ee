/* microw/hooks.h: detectors read and controllers edit the streams of a model while it runs.
 *
 *     static mw_status watch(void *self, const mw_hook_event *event) {
 *         const float *x = event->x.data;                  // [rows, width]
 *         *(float *)self = x[0];
 *         return MW_OK;                                    // MW_STOP ends the pass early, cleanly
 *     }
 *     mw_hook hook = {.site = {8, MW_RESID_POST}, .kind = MW_DETECTOR, .call = watch, .self = &first};
 *     MW_TRY(mw_hooks_attach(mw_model_hooks(model), &hook, &id));
 *
 * Several hooks on one site fire in the order they were attached; each sees what those before it left.
 */
#ifndef MICROW_HOOKS_H
#define MICROW_HOOKS_H

#include "microw/backend.h"
#include "microw/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Streams in the order in which a block computes them. Widths in brackets.
 * embed [d_model]: token embedding (scaled where the family scales), before learned positions are added.
 * resid_pre [d_model]: residual stream entering the block.  attn_q [heads * head_dim], attn_k, attn_v
 * [kv_heads * head_dim]: projections with bias, before head norms and rotary.  attn_z [heads * head_dim]: mixed
 * values before the output projection.  attn_out [d_model]: what attention adds to the stream.  resid_mid: the
 * stream between attention and MLP (families with a parallel residual have none).  mlp_act [d_mlp]: input of the
 * down projection.  mlp_out [d_model]: what the MLP adds.  resid_post: the stream leaving the block.
 * logits [vocab]: after any final soft cap. */
#define MW_SITE_KIND_LIST(X)                                                                                           \
    X(MW_EMBED, "embed")                                                                                               \
    X(MW_RESID_PRE, "resid_pre")                                                                                       \
    X(MW_ATTN_Q, "attn_q")                                                                                             \
    X(MW_ATTN_K, "attn_k")                                                                                             \
    X(MW_ATTN_V, "attn_v")                                                                                             \
    X(MW_ATTN_Z, "attn_z")                                                                                             \
    X(MW_ATTN_OUT, "attn_out")                                                                                         \
    X(MW_RESID_MID, "resid_mid")                                                                                       \
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

enum { MW_SITE_TEXT = 48 };
mw_status mw_site_parse(const char *text, mw_site *out) MW_MUST_USE;
void mw_site_format(mw_site site, char out[MW_SITE_TEXT]);
/* Sites in the order a pass reaches them. */
int64_t mw_site_order(mw_site site);

typedef struct mw_hook_event {
    mw_site site;
    mw_backend *backend;     /* where x lies; on a host backend x.data is plain memory */
    mw_tensor x;             /* f32 [rows, width]; controllers edit it in place, detectors must not */
    const int32_t *token;    /* [rows] host */
    const int32_t *position; /* [rows] host, in the sequence */
    const int32_t *sequence; /* [rows] host, number of the sequence in the batch */
} mw_hook_event;

typedef mw_status (*mw_hook_call)(void *self, const mw_hook_event *event);
typedef enum mw_hook_kind { MW_DETECTOR, MW_CONTROLLER } mw_hook_kind;

typedef struct mw_hook {
    mw_site site;
    mw_hook_kind kind;
    mw_hook_call call;
    void *self; /* not owned unless `release` is given */
    void (*release)(void *self);
    const char *name; /* for messages; may be NULL; not copied */
} mw_hook;

typedef struct mw_hooks mw_hooks;
typedef int64_t mw_hook_id;

/* Width of a site, 0 where the model has no such site. */
typedef int64_t (*mw_site_width)(const void *model, mw_site site);

mw_status mw_hooks_new(mw_site_width width, const void *model, mw_hooks **out) MW_MUST_USE;
void mw_hooks_free(mw_hooks **hooks);
/* Refuses a site the model does not have. On success the registry owns `self` if `release` is set. */
mw_status mw_hooks_attach(mw_hooks *hooks, const mw_hook *hook, mw_hook_id *out) MW_MUST_USE;
bool mw_hooks_detach(mw_hooks *hooks, mw_hook_id id); /* false: no such hook */
bool mw_hooks_enable(mw_hooks *hooks, mw_hook_id id, bool enabled);
/* Silences every controller at once without changing which are enabled. */
void mw_hooks_use_controllers(mw_hooks *hooks, bool use);
int64_t mw_hooks_count(const mw_hooks *hooks, mw_site site, mw_hook_kind kind);
bool mw_hooks_wanted(const mw_hooks *hooks, mw_site site);
/* Order of the last site with a hook that will fire; -1: none. */
int64_t mw_hooks_last(const mw_hooks *hooks);
mw_status mw_hooks_fire(mw_hooks *hooks, const mw_hook_event *event) MW_MUST_USE;
/* Site and name of the hook that said MW_STOP last; false: none has. */
bool mw_hooks_stopped(const mw_hooks *hooks, mw_site *site, const char **name);

/* For hooks that work in host memory: the event's rows themselves on a host backend, else a copy. Ended by
 * mw_hook_return, which writes a changed copy back. */
mw_status mw_hook_borrow(const mw_hook_event *event, float **rows) MW_MUST_USE;
mw_status mw_hook_return(const mw_hook_event *event, float *rows, bool changed) MW_MUST_USE;

/* ---- ready-made hooks ------------------------------------------------------------------------------- */

/* Detector: keeps the rows of all passes, [rows, width] f32. */
typedef struct mw_collector {
    float *data;
    int64_t rows, width, capacity;
} mw_collector;
mw_status mw_collect(void *collector, const mw_hook_event *event) MW_MUST_USE;
void mw_collector_free(mw_collector *collector);

/* Detector: mean and variance per column (Welford/Chan), mean L2 norm, rows seen. */
typedef struct mw_statistics {
    int64_t rows, width;
    double *mean, *m2; /* [width]; variance = m2 / rows */
    double norm_sum;
} mw_statistics;
mw_status mw_measure(void *statistics, const mw_hook_event *event) MW_MUST_USE;
void mw_statistics_free(mw_statistics *statistics);

/* Controller: x[:, columns] = x * factor + vector. No columns: all. vector may be NULL, else [width].
 * Scaling by 0 ablates. */
typedef struct mw_affine_rule {
    float factor;
    float *vector;
    int64_t *columns;
    int64_t n_columns;
} mw_affine_rule;
mw_status mw_apply_affine(void *rule, const mw_hook_event *event) MW_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
