/* Sizes and shares of a step: which rows, latents and elements are this rank's. */
#include "sae/shards.h"

#include <math.h>

int64_t batch_tiles(const mw_trainer *t) {
    return (t->options.batch + MW_ROW_TILE - 1) / MW_ROW_TILE;
}

int64_t latent_blocks(const mw_trainer *t) {
    return (t->sae->shard.total + LATENT_BLOCK - 1) / LATENT_BLOCK;
}

int64_t first_latent_block(const mw_trainer *t) {
    return (t->sae->shard.first + t->first_latent) / LATENT_BLOCK;
}

int64_t sums_width(const mw_trainer *t) {
    return 2 * (t->sae->d_out + 1) + t->layout.n_recons;
}

int64_t parameter_count(const mw_trainer *t, const parameter *p) {
    return (p->shared ? t->n_latents : p->rows) * p->columns;
}

int64_t parameter_first(const mw_trainer *t, const parameter *p) {
    return p->shared ? t->first_latent * p->columns : 0;
}

int reported_sets(const mw_trainer *t) {
    return t->layout.nested ? t->layout.n_sets : 1;
}

float *recon_of(const mw_trainer *t, int recon) {
    return t->out_grad + recon * t->options.batch * t->sae->d_out;
}

float *recon_rows(const mw_trainer *t, int recon) {
    return recon_of(t, recon) + t->begin * t->sae->d_out;
}

static void list_parameters(mw_trainer *t) {
    mw_sae *s = t->sae;
    parameter *p = t->parameter;
    p[P_W_ENC] = (parameter){.name = "W_enc", .value = s->w_enc, .rows = s->n, .columns = s->d, .shared = true};
    p[P_B_ENC] = (parameter){.name = "b_enc", .value = s->b_enc, .rows = s->n, .columns = 1, .shared = true};
    p[P_W_DEC] = (parameter){.name = "W_dec", .value = s->w_dec, .rows = s->n, .columns = s->d_out, .shared = true};
    p[P_B_DEC] = (parameter){.name = "b_dec", .value = s->b_dec, .rows = s->d_out, .columns = 1};
    p[P_W_SKIP] = (parameter){.name = "W_skip", .value = s->w_skip, .rows = s->d_out, .columns = s->d};
    for (int i = 0; i < MW_EXTRAS; i++)
        p[P_EXTRA + i] = (parameter){
            .name = variant_of(s)->extra[i].name, .value = s->extra[i], .rows = s->n, .columns = 1, .shared = true};
    for (int i = 0; i < P_COUNT; i++) p[i].lr_factor = 1;
    p[P_B_ENC].lr_factor = t->options.lr_b_enc;
    p[P_W_DEC].lr_factor = t->options.lr_w_dec * sqrt((double)s->d / (double)s->d_out);
    p[P_B_DEC].lr_factor = t->options.lr_b_dec;
    for (int i = 0; i < MW_EXTRAS; i++)
        if (variant_of(s)->extra[i].measures_activations) p[P_EXTRA + i].lr_factor = sqrt((double)s->d);
}

void lay_out(mw_trainer *t, int rank, int size) {
    int64_t first, last;
    shard_rows(t->sae, rank, size, t->options.batch, &t->begin, &t->end);
    mw_comm_share(rank, size, t->sae->shard.total, LATENT_BLOCK, &first, &last);
    t->first_latent = first - t->sae->shard.first;
    t->n_latents = t->lists.n = last - first;
    t->layout = (layout){.n_sets = 1, .n_recons = 1, .bias_recons = 1, .uses = {SET_WHOLE}, .weight = {1}};
    if (variant_of(t->sae)->lay_out) variant_of(t->sae)->lay_out(t, &t->layout);
    list_parameters(t);
}
