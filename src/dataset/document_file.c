/* Opens files of documents: determines their format, maps and decompresses them. */
#include "dataset/documents.h"

#include <string.h>

static const struct {
    const char *ending;
    mw_dataset_format kind;
} known[] = {{".txt", MW_FORMAT_TEXT},     {".text", MW_FORMAT_TEXT}, {".jsonl", MW_FORMAT_JSONL},
             {".ndjson", MW_FORMAT_JSONL}, {".json", MW_FORMAT_JSON}, {".csv", MW_FORMAT_CSV},
             {".tsv", MW_FORMAT_TSV},      {".npy", MW_FORMAT_NPY}};

static mw_status unknown_kind(const char *path) {
    static const char *const tables[] = {".parquet", ".arrow", ".feather"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (mw_ends_with_any_case(path, tables[i]))
            return mw_error(
                MW_ERR_CONFIG,
                "dataset: %s: %s files are not read: convert them to JSON lines with tools/import_hf_dataset.py", path,
                tables[i]);
    mw_text endings = {0};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        mw_text_addf(&endings, "%s%s", i ? ", " : "", known[i].ending);
    mw_status status = endings.failed ? MW_ERR_MEMORY
                                      : mw_error(MW_ERR_CONFIG,
                                                 "dataset: %s: unknown file name extension; expected %s, each "
                                                 "optionally with .gz or .zst, or dataset.format",
                                                 path, endings.data);
    mw_text_free(&endings);
    return status;
}

/* Determines the format by the extension, without .gz or .zst. */
static mw_status kind_of(const char *path, mw_compression packing, mw_dataset_format format, mw_dataset_format *out) {
    *out = format;
    if (format != MW_FORMAT_AUTO) return MW_OK;
    size_t length = strlen(path);
    char *plain = mw_strndup(path, packing == MW_COMPRESSION_NONE ? length : (size_t)(strrchr(path, '.') - path));
    if (!plain) return MW_ERR_MEMORY;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (mw_ends_with_any_case(plain, known[i].ending)) *out = known[i].kind;
    mw_status status = *out == MW_FORMAT_AUTO ? unknown_kind(path) : MW_OK;
    mw_free(plain);
    return status;
}

mw_status document_file_open(const char *path, mw_dataset_format format, document_file *out) {
    mw_compression packing = mw_compression_of(path);
    *out = (document_file){.path = mw_strdup(path)};
    if (!out->path) return MW_ERR_MEMORY;
    MW_TRY(kind_of(path, packing, format, &out->kind));
    MW_TRY(mw_map_open(path, &out->map));
    out->data = out->map.data;
    out->length = out->map.length;
    if (packing == MW_COMPRESSION_NONE) return MW_OK;
    MW_TRY(mw_decompress(path, packing, out->map.data, out->map.length, &out->unpacked, &out->length));
    out->data = out->unpacked;
    mw_map_close(&out->map);
    return MW_OK;
}

void document_file_close(document_file *f) {
    mw_map_close(&f->map);
    json_decref(f->array);
    mw_free(f->unpacked);
    mw_free(f->path);
}
