/* What exports to and imports from other tools share. */
#ifndef MICROW_SAE_FORMATS_FOREIGN_H
#define MICROW_SAE_FORMATS_FOREIGN_H

#include "sae/formats/sae_file.h"

enum { HOOK_TEXT = 64 };

/* The hook's name of a site; a text that is no site stays as it is. And back. */
void hook_of_site(const char *site, char out[HOOK_TEXT]);
void site_of_hook(const char *hook, char out[HOOK_TEXT]);

/* [columns, rows] of w [rows, columns]; caller frees. */
mw_status transpose(const float *w, int64_t rows, int64_t columns, float **out) MW_MUST_USE;
/* W_enc b of each latent, with b [d]. */
void multiply_by_w_enc(const mw_sae *sae, const float *b, float *out);

#endif
