/* The ids that end a generated text: eos_token_id of config.json and of generation_config.json. */
#include "base/json.h"
#include "microw/tokenizer.h"
#include "model/model_private.h"

/* An id that no token has never ends a text. */
static mw_status add_id(mw_model *model, const char *path, const json_t *value) {
    char found[MW_JSON_FOUND];
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value))
        return mw_error(MW_ERR_FORMAT, "%s: 'eos_token_id': expected token ids, found %s", path,
                        mw_json_found(value, found));
    if (id < 0 || id >= model->arch.vocab) return MW_OK;
    for (int64_t i = 0; i < model->n_stop_ids; i++)
        if (model->stop_ids[i] == (int32_t)id) return MW_OK;
    if (!MW_GROW(model->stop_ids, model->n_stop_ids, model->stop_ids_capacity)) return MW_ERR_MEMORY;
    model->stop_ids[model->n_stop_ids++] = (int32_t)id;
    return MW_OK;
}

/* Adds the ids of one object: a number, a list of numbers, null or nothing. */
static mw_status add_ids(mw_model *model, const char *path, const json_t *object) {
    const json_t *value = json_object_get(object, "eos_token_id");
    if (!value || json_is_null(value)) return MW_OK;
    if (!json_is_array(value)) return add_id(model, path, value);
    for (size_t i = 0; i < json_array_size(value); i++) MW_TRY(add_id(model, path, json_array_get(value, i)));
    return MW_OK;
}

static mw_status add_file(mw_model *model, const char *name) {
    char *path = mw_path_join(model->folder, name);
    json_t *root = NULL;
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(path)) {
        status = mw_json_load(path, &root);
        if (status == MW_OK) status = add_ids(model, path, root);
        if (status == MW_OK) status = add_ids(model, path, json_object_get(root, "text_config"));
    }
    json_decref(root);
    mw_free(path);
    return status;
}

mw_status mw_stop_ids_read(mw_model *model) {
    MW_TRY(add_file(model, "config.json"));
    return add_file(model, "generation_config.json");
}

void mw_model_stop_at(const mw_model *model, const mw_tokenizer *tokenizer, mw_sampling *sampling) {
    sampling->stop_ids = model->stop_ids;
    sampling->n_stop_ids = model->n_stop_ids;
    sampling->stop_id = model->n_stop_ids || !tokenizer ? -1 : mw_tokenizer_eos(tokenizer);
}
