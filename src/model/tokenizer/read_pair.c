/* Reads vocab.json with merges.txt, as the class of the tokenizer in transformers 5 does. */
#include "model/tokenizer/read.h"

#include <string.h>

/* ---- classes --------------------------------------------------------------------------------------------- */

#define BYTES "{\"type\": \"ByteLevel\", \"use_regex\": false, \"add_prefix_space\": false}"
#define SPLIT(pattern) "{\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"" pattern "\"}}"
#define SEQUENCE(parts) "{\"type\": \"Sequence\", \"pretokenizers\": [" parts "]}"
#define NFC "{\"type\": \"NFC\"}"
#define GPT2 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
#define DIGITS "{\"type\": \"Digits\", \"individual_digits\": true}"
#define START "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
#define END "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN2 START "\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+" END
#define TEXT_END "<|endoftext|>"

typedef struct tokenizer_class {
    const char *name, *normalizer, *splitter;
    const char *named[NAMED_KEYS]; /* bos, eos, unk, sep, pad, cls, mask, unless files name others */
} tokenizer_class;
static const tokenizer_class classes[] = {
    {"GPT2Tokenizer", "null", GPT2, {TEXT_END, TEXT_END, TEXT_END}},
    {"CodeGenTokenizer", "null", GPT2, {TEXT_END, TEXT_END, TEXT_END}},
    {"GPTNeoXTokenizer", NFC, GPT2, {TEXT_END, TEXT_END, TEXT_END, [4] = "<|padding|>"}},
    {"Qwen2Tokenizer", NFC, SEQUENCE(SPLIT(QWEN2) "," BYTES), {NULL, TEXT_END, TEXT_END, [4] = TEXT_END}},
    {"CohereTokenizer",
     NFC,
     SEQUENCE(DIGITS "," GPT2),
     {"<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", "<SEP>", "<PAD>", "<CLS>", "<MASK_TOKEN>"}},
};

/* Model types whose class is not GPT2Tokenizer, and those whose class is. */
static const struct {
    const char *type, *class;
} model_types[] = {
    {"qwen2", "Qwen2Tokenizer"},     {"qwen2_moe", "Qwen2Tokenizer"},  {"qwen3", "Qwen2Tokenizer"},
    {"qwen3_moe", "Qwen2Tokenizer"}, {"qwen3_next", "Qwen2Tokenizer"}, {"gpt_neox", "GPTNeoXTokenizer"},
    {"cohere", "CohereTokenizer"},   {"cohere2", "CohereTokenizer"},   {"gpt2", "GPT2Tokenizer"},
    {"gpt_neo", "GPT2Tokenizer"},    {"gptj", "GPT2Tokenizer"},        {"codegen", "GPT2Tokenizer"},
    {"opt", "GPT2Tokenizer"},        {"phi", "GPT2Tokenizer"},         {"starcoder2", "GPT2Tokenizer"},
    {"dbrx", "GPT2Tokenizer"},       {"jais2", "GPT2Tokenizer"},
};

/* Finds a class by its name, with or without "Fast". */
static const tokenizer_class *find_class(const char *name) {
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t n = strlen(classes[i].name);
        if (strncmp(name, classes[i].name, n) == 0 && (!name[n] || strcmp(name + n, "Fast") == 0)) return &classes[i];
    }
    return NULL;
}

/* Chooses the class: by tokenizer_config.json, else by config.json; GPT-2's if the folder has neither. */
static mw_status choose_class(const char *folder, const tokenizer_class **out, bool *prefix) {
    class_files files = class_files_open(folder);
    const char *name = files.name, *type = files.type;
    if (!name) name = mw_json_text(files.model, "tokenizer_class");
    *prefix = mw_json_flag(files.config, "add_prefix_space", false);
    for (size_t i = 0; !name && type && i < sizeof model_types / sizeof *model_types; i++)
        if (strcmp(type, model_types[i].type) == 0) name = model_types[i].class;
    mw_status status = MW_OK;
    *out = name ? find_class(name) : type ? NULL : &classes[0];
    if (!*out)
        status = mw_error(MW_ERR_UNSUPPORTED, "%s: vocab.json with merges.txt of the %s '%s' is not supported", folder,
                          name ? "tokenizer_class" : "model_type", name ? name : type);
    class_files_close(&files);
    return status;
}

static mw_status apply_class(const reader *r, const tokenizer_class *class, bool prefix) {
    mw_tokenizer *t = r->t;
    MW_TRY(read_text_part(r, class->normalizer, "normalizers", read_normalizer));
    MW_TRY(read_text_part(r, class->splitter, "pretokenizers", read_splitter));
    MW_TRY(read_text_part(r, BYTES, "decoders", read_decoder));
    splitter *last = &t->splitters.items[t->splitters.count - 1];
    last->writes_bytes = false;
    last->prefix = prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    t->model.bpe.byte_level = true;
    t->model.encode = bpe_encode;
    t->model.unk = -1;
    t->class_named = class->named;
    return MW_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------- */

static mw_status read_merge_lines(const reader *r, char *text) {
    int64_t lines = 1;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    MW_TRY(merges_make(&r->t->model.bpe.merges, lines));
    int32_t rank = 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (line[0] == '\0' || strncmp(line, "#version", 8) == 0) continue;
        token_text left, right;
        if (!split_pair(line, strlen(line), &left, &right))
            return mw_error(MW_ERR_FORMAT, "%s: line '%s': expected a pair of tokens", r->path, line);
        MW_TRY(put_merge(r, left, right, rank++));
    }
    return MW_OK;
}

static mw_status hash_both(const char *vocab, const char *merges_path, char out[MW_SHA256_TEXT]) {
    char both[2 * MW_SHA256_TEXT];
    MW_TRY(mw_sha256_file(vocab, both));
    MW_TRY(mw_sha256_file(merges_path, both + MW_SHA256_TEXT - 1));
    return mw_sha256(both, strlen(both), out);
}

static mw_status read_files(const reader *r, const char *merges_path) {
    json_t *root = NULL;
    char *text = NULL;
    reader of_merges = {merges_path, r->t};
    mw_status status = mw_json_load(r->path, &root);
    if (status == MW_OK) status = put_vocabulary(r, root);
    if (status == MW_OK) status = mw_file_read(merges_path, &text, NULL);
    if (status == MW_OK) status = read_merge_lines(&of_merges, text);
    if (status == MW_OK) status = hash_both(r->path, merges_path, r->t->hash);
    json_decref(root);
    mw_free(text);
    return status;
}

mw_status tokenizer_read_pair(const char *folder, const char *path, mw_tokenizer *t) {
    reader r = {path, t};
    const tokenizer_class *class;
    bool prefix;
    MW_TRY(choose_class(folder, &class, &prefix));
    MW_TRY(set_path(t, path));
    MW_TRY(apply_class(&r, class, prefix));
    char *merges_path = mw_path_join(folder, "merges.txt");
    mw_status status = merges_path ? read_files(&r, merges_path) : MW_ERR_MEMORY;
    mw_free(merges_path);
    return status;
}
