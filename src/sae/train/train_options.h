/* The options of training as keys of an experiment file. */
#ifndef MICROW_SAE_TRAIN_TRAIN_OPTIONS_H
#define MICROW_SAE_TRAIN_TRAIN_OPTIONS_H

#include "microw/config.h"
#include "microw/sae.h"

/* Keys, ranges, defaults and meanings of the members of mw_train_options that a file can set. It leaves MW_AUTO_INT
 * where a number is auto, until train_options_resolve. */
extern const mw_field train_option_fields[];

/* Computes from the SAE's shape and the number of rows what is still auto, and the number of steps. What is NaN
 * stays: the trainer takes the variant's value. */
void train_options_resolve(mw_train_options *options, const mw_sae_shape *shape, int64_t rows);

#endif
