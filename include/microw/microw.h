/* microw/microw.h: includes all public headers. Each begins with an example; examples/ has complete programs. */
#ifndef MICROW_MICROW_H
#define MICROW_MICROW_H

#include "microw/backend.h"
#include "microw/base.h"
#include "microw/comm.h"
#include "microw/concepts.h"
#include "microw/config.h"
#include "microw/dataset.h"
#include "microw/evaluate.h"
#include "microw/experiment.h"
#include "microw/harvest.h"
#include "microw/hooks.h"
#include "microw/model.h"
#include "microw/sae.h"
#include "microw/safetensors.h"
#include "microw/store.h"
#include "microw/tensor.h"
#include "microw/tokenizer.h"
#include "microw/version.h"

#endif
