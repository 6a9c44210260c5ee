/* Names of latents, in and out as JSON and CSV. */
#include "base/json.h"
#include "microw/concepts.h"

#include <string.h>

mw_status mw_names_new(int64_t n, mw_names *out) {
    char **name = mw_calloc((size_t)n, sizeof *name);
    if (!name) return MW_ERR_MEMORY;
    *out = (mw_names){name, n};
    return MW_OK;
}

void mw_names_free(mw_names *names) {
    for (int64_t i = 0; i < names->n; i++) mw_free(names->name[i]);
    mw_free(names->name);
    *names = (mw_names){0};
}

mw_status mw_names_set(mw_names *names, int64_t latent, const char *name) {
    if (latent < 0 || latent >= names->n)
        return mw_error(MW_ERR_ARG, "latent %lld is not in 0..%lld", (long long)latent, (long long)names->n - 1);
    char *copy = mw_strdup(name);
    if (!copy) return MW_ERR_MEMORY;
    mw_free(names->name[latent]);
    names->name[latent] = copy;
    return MW_OK;
}

/* ---- CSV (RFC 4180) ------------------------------------------------------------------------------------- */

/* Reads one field; leaves `*at` behind its comma or at the line's end. */
static void read_field(const char **at, mw_text *out) {
    const char *p = *at;
    out->length = 0;
    mw_text_add(out, "", 0);
    bool quoted = *p == '"';
    if (quoted) p++;
    while (*p && (quoted || (*p != ',' && *p != '\n' && *p != '\r'))) {
        if (quoted && *p == '"') {
            if (p[1] != '"') {
                quoted = false;
                p++;
                continue;
            }
            p++;
        }
        mw_text_add(out, p++, 1);
    }
    *at = p;
}

static mw_status read_csv(const char *path, const char *text, mw_names *into) {
    mw_text index = {0}, name = {0};
    mw_status status = MW_OK;
    int64_t line = 1;
    for (const char *at = text; *at && status == MW_OK; line++) {
        read_field(&at, &index);
        name.length = 0;
        if (*at == ',') {
            at++;
            read_field(&at, &name);
        }
        at += strcspn(at, "\n");
        if (*at) at++;
        if (index.length == 0 || (line == 1 && strcmp(index.data, "latent") == 0)) continue;
        int64_t latent;
        if (index.failed || name.failed)
            status = MW_ERR_MEMORY;
        else if (!mw_parse_int(index.data, &latent) || latent < 0 || latent >= into->n || name.length == 0)
            status = mw_error(MW_ERR_FORMAT, "%s:%lld: expected LATENT,NAME with a latent from 0 to %lld, found '%s'",
                              path, (long long)line, (long long)into->n - 1, index.data);
        else
            status = mw_names_set(into, latent, name.data);
    }
    mw_text_free(&index);
    mw_text_free(&name);
    return status;
}

static void write_csv(const mw_names *names, mw_text *out) {
    mw_text_addf(out, "latent,name\n");
    for (int64_t i = 0; i < names->n; i++) {
        if (!names->name[i]) continue;
        mw_text_addf(out, "%lld,\"", (long long)i);
        for (const char *p = names->name[i]; *p; p++) mw_text_add(out, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
        mw_text_addf(out, "\"\n");
    }
}

/* ---- JSON ----------------------------------------------------------------------------------------------- */

static mw_status read_json(const char *path, const char *text, size_t length, mw_names *into) {
    json_t *root;
    MW_TRY(mw_json_parse(path, text, length, &root));
    mw_status status =
        json_is_object(root) ? MW_OK : mw_error(MW_ERR_FORMAT, "%s: expected {\"latent\": \"name\"}", path);
    const char *key;
    json_t *name;
    json_object_foreach(root, key, name) {
        int64_t latent;
        if (status != MW_OK) break;
        if (!mw_parse_int(key, &latent) || !json_is_string(name))
            status = mw_error(MW_ERR_FORMAT, "%s: key '%s': expected a latent's number with a text", path, key);
        else
            status = mw_names_set(into, latent, json_string_value(name));
    }
    json_decref(root);
    return status;
}

static void write_json(const mw_names *names, mw_text *out) {
    bool first = true;
    mw_text_addf(out, "{");
    for (int64_t i = 0; i < names->n; i++) {
        if (!names->name[i]) continue;
        mw_text_addf(out, "%s\n \"%lld\": ", first ? "" : ",", (long long)i);
        mw_json_quote(out, names->name[i], strlen(names->name[i]));
        first = false;
    }
    mw_text_addf(out, "\n}\n");
}

mw_status mw_names_load(const char *path, mw_names *into) {
    char *text;
    size_t length;
    MW_TRY(mw_file_read(path, &text, &length));
    mw_status status = mw_ends_with(path, ".csv") ? read_csv(path, text, into) : read_json(path, text, length, into);
    mw_free(text);
    return status;
}

mw_status mw_names_save(const char *path, const mw_names *names) {
    mw_text text = {0};
    if (mw_ends_with(path, ".csv"))
        write_csv(names, &text);
    else
        write_json(names, &text);
    mw_status status = text.failed ? MW_ERR_MEMORY : mw_file_write_atomic(path, text.data, text.length);
    mw_text_free(&text);
    return status;
}
