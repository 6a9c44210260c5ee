/* Keys of config.json. */
#include "model/config_keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

mw_status mw_config_find(mw_model_config c, const char *keys, bool nullable, const json_t **out) {
    char name[64];
    *out = NULL;
    for (const char *p = keys; *p;) {
        size_t n = strcspn(p, "|");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        if (c.seen) json_object_set_new(c.seen, name, json_true());
        const json_t *value = json_object_get(c.object, name);
        if (value && json_is_null(value) && !nullable)
            return mw_error(MW_ERR_FORMAT, "%s: '%s' is null, which this model_type does not allow", c.path, name);
        if (value && *out && !json_equal(value, *out))
            return mw_error(MW_ERR_FORMAT, "%s: two names of one value differ: %s", c.path, keys);
        if (value) *out = value;
        p += n + (p[n] == '|');
    }
    return MW_OK;
}

mw_status mw_config_whole(mw_model_config c, const mw_config_key *key, int64_t max, int64_t *out) {
    const json_t *value = NULL;
    if (key->name) MW_TRY(mw_config_find(c, key->name, key->nullable, &value));
    if (!value && isnan(key->initial)) return mw_error(MW_ERR_FORMAT, "%s: '%s' is missing", c.path, key->name);
    *out = value ? 0 : (int64_t)key->initial;
    if (!value || json_is_null(value)) return MW_OK;
    return mw_json_get_whole(mw_config_source(c), key->name, MW_JSON_NEEDED, 1, max, out);
}

mw_status mw_config_real(mw_model_config c, const mw_config_key *key, double *out) {
    const json_t *value = NULL;
    if (key->name) MW_TRY(mw_config_find(c, key->name, key->nullable, &value));
    *out = value ? 0 : key->initial;
    if (!value || json_is_null(value)) return MW_OK;
    MW_TRY(mw_json_get_real(mw_config_source(c), key->name, 0, out));
    if (key->nullable && !(*out > 0))
        return mw_error(MW_ERR_FORMAT, "%s: '%s': expected a number greater than 0, found %g", c.path, key->name, *out);
    return MW_OK;
}

mw_status mw_config_flag(mw_model_config c, const char *key, bool initial, bool *out) {
    const json_t *value;
    MW_TRY(mw_config_find(c, key, false, &value));
    return mw_json_get_flag(mw_config_source(c), key, initial, out);
}

mw_status mw_config_list(mw_model_config c, const char *key, bool nullable, const json_t **out) {
    MW_TRY(mw_config_find(c, key, nullable, out));
    return mw_json_get_list(mw_config_source(c), key, out);
}

mw_status mw_config_object(mw_model_config c, const char *key, bool nullable, const json_t **out) {
    MW_TRY(mw_config_find(c, key, nullable, out));
    return mw_json_get_object(mw_config_source(c), key, out);
}

mw_status mw_config_wrong_layers(mw_model_config c, const char *key, int64_t found, int64_t n_layers) {
    return mw_error(MW_ERR_FORMAT, "%s: '%s' describes %lld layers, but the model has %lld", c.path, key,
                    (long long)found, (long long)n_layers);
}
