/* Helpers of exports to and imports from other libraries. */
#ifndef MICROW_SAE_FORMATS_FOREIGN_H
#define MICROW_SAE_FORMATS_FOREIGN_H

#include "sae/formats/sae_file.h"

enum { HOOK_TEXT = 64 };

/* Translates a site ("2.resid_post") into the hook name of TransformerLens, and back; other text is copied. */
void hook_of_site(const char *site, char out[HOOK_TEXT]);
void site_of_hook(const char *hook, char out[HOOK_TEXT]);

/* Allocates the transpose [columns, rows] of w [rows, columns]; the caller frees it. */
mw_status transpose(const float *w, int64_t rows, int64_t columns, float **out) MW_MUST_USE;
/* Writes out [n] = W_enc b, with b [d]; sums in double. */
void multiply_by_w_enc(const mw_sae *sae, const float *b, float *out);

#endif
