/* Resolves model names: folders, and Hub ids in the local Hugging Face cache. */
#ifndef MICROW_MODEL_HUB_H
#define MICROW_MODEL_HUB_H

#include "microw/base.h"

/* Writes the folder of `model`; the caller frees it. A Hub id is looked up in $HF_HUB_CACHE, $HF_HOME/hub or
 * ~/.cache/huggingface/hub; nothing is downloaded. Errors: MW_ERR_CONFIG, MW_ERR_IO, MW_ERR_FORMAT, MW_ERR_MEMORY. */
mw_status mw_hub_folder(const char *model, char **out) MW_MUST_USE;

#endif
