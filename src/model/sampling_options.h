/* The options of generation as keys of an experiment file. */
#ifndef MICROW_MODEL_SAMPLING_OPTIONS_H
#define MICROW_MODEL_SAMPLING_OPTIONS_H

#include "microw/config.h"

/* Keys, ranges, defaults and meanings of the members of mw_sampling that a file can set. */
extern const mw_field sampling_option_fields[];

#endif
