/* The state of training and the pieces of a step.
 *
 * Data-parallel with fixed results: each rank encodes its rows; sparse codes, inputs and residuals are gathered; each
 * rank then sums the gradient of its own share of latents over all rows in row order, updates them with its share of
 * Adam's moments, and the updated parameters are gathered. That moves about what an all-reduce of the gradient
 * would, needs no dense [batch, n] gradient, divides Adam's memory by the ranks, and gives the same bytes at any
 * number of ranks, which an all-reduce of partial sums does not.
 */
#ifndef MICROW_TRAINER_H
#define MICROW_TRAINER_H

#include "microw/sae.h"

enum { LATENT_BLOCK = 512 }; /* latents are shared out, and their partial sums taken, in blocks of this many */

/* Sparse codes of all rows of a batch, gathered from the ranks' own. */
typedef struct codes {
    mw_codes mine;       /* of this rank's rows */
    int64_t *start;      /* [batch + 1] */
    int32_t *index;      /* by row, latents ascending */
    float *value, *grad; /* z > 0 and dL/dz */
    int64_t capacity;
} codes;

typedef struct mw_trainer {
    mw_sae *sae;
    const mw_comm *comm;
    mw_train_options options;
    double loss_scale;
    int64_t begin, end;              /* this rank's rows */
    int64_t first_latent, n_latents; /* this rank's share */
    int64_t step;
    int64_t *since_fired; /* [n] rows since a latent fired; the same on all ranks */
    int32_t *dead;        /* [n_dead] */
    int64_t n_dead;
    float *m_enc, *v_enc, *m_dec, *v_dec, *m_benc, *v_benc; /* of the share */
    float *m_bdec, *v_bdec;
    float *g_enc, *g_dec, *g_benc; /* gradients of the share */
    float *g_bdec;
    float *centered; /* [batch, d] */
    float *out_grad; /* [2 * batch, d]: dL/dx_hat, then dL/d(aux reconstruction) */
    float *x_hat;    /* this rank's rows */
    codes main, aux;
    int64_t aux_k;        /* of this step; 0: no auxiliary part */
    float kth;            /* BatchTopK: smallest value selected in the last batch; 0: there was none */
    double *tile_sums;    /* [tiles, 2 * d + 3] */
    double *encoder_sums; /* [latent blocks, d] */
    size_t *bytes;        /* [size] scratch of gathers */
    mw_step_report report;
} mw_trainer;

int64_t trainer_tiles(const mw_trainer *t);

/* Gathers rows [batch, width] of which each rank has filled its own. */
mw_status gather_rows_of(mw_trainer *t, void *data, size_t row_bytes) MW_MUST_USE;
/* From every rank's `mine`: start, index, value of all rows. */
mw_status gather_codes(mw_trainer *t, codes *c) MW_MUST_USE;
/* Gradients, of which this rank has filled those of its rows. */
mw_status gather_code_grads(mw_trainer *t, codes *c) MW_MUST_USE;
void codes_free(codes *c);
/* The same for arrays with a row a latent: each rank has its share. */
mw_status gather_latents(mw_trainer *t, void *data, size_t row_bytes) MW_MUST_USE;

/* Forward pass, loss, gradients with respect to codes and reconstructions, dead latents. */
mw_status step_forward(mw_trainer *t, const float *x) MW_MUST_USE;
/* Gradients of the share's parameters and of b_dec. */
mw_status step_gradients(mw_trainer *t) MW_MUST_USE;
/* Unit decoder rows, gradient projection, Adam, exchange. */
mw_status step_update(mw_trainer *t) MW_MUST_USE;

double learning_rate(const mw_train_options *options, int64_t n, int64_t step);

#endif
