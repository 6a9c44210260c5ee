/* Where a model lies: a folder, or a Hub id in the local Hugging Face cache. */
#ifndef MICROW_MODEL_HUB_H
#define MICROW_MODEL_HUB_H

#include "microw/base.h"

/* The folder of `model`; caller frees. A Hub id is looked up in $HF_HUB_CACHE, $HF_HOME/hub or
 * ~/.cache/huggingface/hub; nothing is downloaded. */
mw_status mw_hub_folder(const char *model, char **out) MW_MUST_USE;

#endif
