/* The options of discovery as keys of an experiment file. */
#ifndef MICROW_CONCEPTS_DISCOVER_OPTIONS_H
#define MICROW_CONCEPTS_DISCOVER_OPTIONS_H

#include "microw/config.h"

/* Keys, ranges, defaults and meanings of the members of mw_discover_options that a file can set as they are. */
extern const mw_field discover_option_fields[];

#endif
