/* The sections of an experiment file as tables of fields. */
#ifndef MICROW_EXPERIMENT_SETTINGS_TABLES_H
#define MICROW_EXPERIMENT_SETTINGS_TABLES_H

#include "experiment/settings.h"

typedef struct settings_section {
    const char *name;
    const mw_field *fields;
    size_t offset; /* of the section's struct in mw_experiment */
    const char *doc;
    bool needed; /* the file must have it */
} settings_section;

enum { SETTINGS_SECTIONS = 11 };
extern const settings_section settings_sections[SETTINGS_SECTIONS];
/* Keys outside sections, of top_settings. */
extern const mw_field top_fields[];

/* Returns the section of this name, or NULL. */
const settings_section *settings_find_section(const char *name);

#endif
