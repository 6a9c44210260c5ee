/* Reads keys of config.json: notes which were searched for, and refuses null where the family does not allow it. */
#ifndef MICROW_MODEL_CONFIG_KEYS_H
#define MICROW_MODEL_CONFIG_KEYS_H

#include "base/json.h"
#include "model/family.h"

/* config.json, or the part of it that describes the text model, or a table inside it. Borrowed. */
typedef struct mw_model_config {
    const char *path;
    const json_t *object;
    json_t *seen; /* names of the keys that were searched for: an object; or NULL */
} mw_model_config;

static inline mw_json_source mw_config_source(mw_model_config c) {
    return (mw_json_source){c.path, c.object};
}

/* Returns a table inside `c`, whose keys are not noted. */
static inline mw_model_config mw_config_part(mw_model_config c, const json_t *object) {
    return (mw_model_config){c.path, object, NULL};
}

/* Finds a key, "name|second name", and notes it as seen. *out: NULL if absent. MW_ERR_FORMAT for null unless
 * `nullable`, and for two names with different values. */
mw_status mw_config_find(mw_model_config c, const char *keys, bool nullable, const json_t **out) MW_MUST_USE;
/* Reads a whole number from 1 to `max`; null and a default of 0 give 0. MW_ERR_FORMAT. */
mw_status mw_config_whole(mw_model_config c, const mw_config_key *key, int64_t max, int64_t *out) MW_MUST_USE;
/* Reads a finite number; null gives 0. A value given for a nullable key must be greater than 0. MW_ERR_FORMAT. */
mw_status mw_config_real(mw_model_config c, const mw_config_key *key, double *out) MW_MUST_USE;
mw_status mw_config_flag(mw_model_config c, const char *key, bool initial, bool *out) MW_MUST_USE;
mw_status mw_config_list(mw_model_config c, const char *key, bool nullable, const json_t **out) MW_MUST_USE;
/* Reports a list for `found` layers instead of `n_layers`; returns MW_ERR_FORMAT. */
mw_status mw_config_wrong_layers(mw_model_config c, const char *key, int64_t found, int64_t n_layers);
mw_status mw_config_object(mw_model_config c, const char *key, bool nullable, const json_t **out) MW_MUST_USE;

#endif
