/* The options of a dataset as keys of an experiment file. */
#ifndef MICROW_DATASET_DATASET_OPTIONS_H
#define MICROW_DATASET_DATASET_OPTIONS_H

#include "microw/config.h"

/* Keys, ranges, defaults and meanings of the members of mw_dataset_options, but for the paths. The struct owns what
 * the table binds. */
extern const mw_field dataset_option_fields[];

#endif
