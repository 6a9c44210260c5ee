/* The data file of each document of a store. */
#include "store/store.h"

#include <string.h>

static mw_status add_name(mw_store_data_files *s, int64_t *capacity, const char *name, size_t length) {
    if (!MW_GROW(s->name, s->n, *capacity)) return MW_ERR_MEMORY;
    if (!(s->name[s->n] = mw_strndup(name, length))) return MW_ERR_MEMORY;
    s->n++;
    return MW_OK;
}

/* Adds the names in lines of "HASH  NAME"; a harvest without them counts as one data file. */
static mw_status add_names(const harvest_file *harvest, mw_store_data_files *s, int64_t *capacity) {
    char *text = NULL;
    int64_t before = s->n;
    mw_log_quiet(true);
    mw_status known = harvest_file_text(harvest, "dataset_sha256", &text);
    mw_log_quiet(false);
    mw_status status = MW_OK;
    for (const char *line = known == MW_OK ? text : NULL; line && *line && status == MW_OK;) {
        size_t length = strcspn(line, "\n");
        const char *space = memchr(line, ' ', length);
        const char *name = space ? space + strspn(space, " ") : line;
        status = add_name(s, capacity, name, length - (size_t)(name - line));
        line += length + (line[length] == '\n');
    }
    mw_free(text);
    if (status == MW_OK && s->n == before)
        status = add_name(s, capacity, mw_path_basename(harvest->path), strlen(mw_path_basename(harvest->path)));
    return status;
}

/* Documents of a harvest file follow those of the files before. */
static mw_status number_documents(const mw_store *store, const mw_store_tokens *t, const int64_t *first,
                                  mw_store_data_files *s) {
    for (int64_t f = 0, d = 0; f < store->n_files; f++)
        for (int64_t end = d + store->files[f].n_documents; d < end; d++) {
            int64_t count = first[f + 1] - first[f], file = count == 1 ? 0 : t->documents[d].file;
            if (file < 0 || file >= count)
                return mw_error(MW_ERR_FORMAT, "%s: document %lld is of file %lld, expected 0 to %lld",
                                store->files[f].path, (long long)d, (long long)file, (long long)count - 1);
            s->of_document[d] = (int32_t)(first[f] + file);
        }
    return MW_OK;
}

mw_status mw_store_read_data_files(const mw_store *store, const mw_store_tokens *tokens, mw_store_data_files *out) {
    mw_store_data_files s = {0};
    int64_t capacity = 0;
    int64_t *first = mw_calloc((size_t)store->n_files + 1, sizeof *first);
    s.of_document = mw_alloc((size_t)tokens->n_documents * sizeof *s.of_document);
    mw_status status = first && s.of_document ? MW_OK : MW_ERR_MEMORY;
    for (int64_t f = 0; f < store->n_files && status == MW_OK; f++) {
        status = add_names(&store->files[f], &s, &capacity);
        first[f + 1] = s.n;
    }
    if (status == MW_OK) status = number_documents(store, tokens, first, &s);
    mw_free(first);
    if (status != MW_OK)
        mw_store_data_files_free(&s);
    else
        *out = s;
    return status;
}

void mw_store_data_files_free(mw_store_data_files *s) {
    for (int64_t i = 0; i < s->n; i++) mw_free(s->name[i]);
    mw_free(s->name);
    mw_free(s->of_document);
    *s = (mw_store_data_files){0};
}
