/* Reads tokenizer.json. */
#include "model/tokenizer/read.h"

static mw_status read_added_list(const reader *r, const json_t *list) {
    int32_t next = next_added_id(r->t);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        declared_token token;
        MW_TRY(read_declared(r, item, &token));
        MW_TRY(check_id(r, token.content, json_object_get(item, "id"))); /* else unused, as in the reference library */
        MW_TRY(put_added(r, &token, &next));
    }
    return MW_OK;
}

static mw_status read_root(const reader *r, const json_t *root) {
    const json_t *normalizer, *splitter, *decoder, *processor, *added, *model;
    MW_TRY(get_object(r, root, "normalizer", &normalizer));
    MW_TRY(get_object(r, root, "pre_tokenizer", &splitter));
    MW_TRY(get_object(r, root, "decoder", &decoder));
    MW_TRY(get_object(r, root, "post_processor", &processor));
    MW_TRY(get_object(r, root, "model", &model));
    MW_TRY(get_list(r, root, "added_tokens", &added));
    MW_TRY(read_components(r, normalizer, "normalizers", read_normalizer));
    MW_TRY(read_components(r, splitter, "pretokenizers", read_splitter));
    MW_TRY(read_model(r, model));
    MW_TRY(read_added_list(r, added));
    MW_TRY(read_components(r, decoder, "decoders", read_decoder));
    return read_components(r, processor, "processors", read_processor);
}

mw_status tokenizer_read_json(const char *folder, const char *path, mw_tokenizer *t) {
    (void)folder;
    json_t *root;
    MW_TRY(set_path(t, path));
    MW_TRY(mw_json_load(path, &root));
    reader r = {path, t};
    mw_status status = json_is_object(root) ? read_root(&r, root)
                                            : mw_error(MW_ERR_FORMAT, "%s: not a tokenizer: expected an object", path);
    json_decref(root);
    return status == MW_OK ? mw_sha256_file(path, t->hash) : status;
}
