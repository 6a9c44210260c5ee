/* The options of a harvest as keys of an experiment file. */
#ifndef MICROW_HARVEST_HARVEST_OPTIONS_H
#define MICROW_HARVEST_HARVEST_OPTIONS_H

#include "microw/config.h"

/* Keys, ranges, defaults and meanings of the members of mw_harvest_options that a file can set as they are. */
extern const mw_field harvest_option_fields[];

#endif
