/* The options of a dataset: their keys and defaults. */
#include "dataset/dataset_options.h"
#include "microw/dataset.h"

static const mw_choice formats[] = {
    {"auto", MW_FORMAT_AUTO}, {"text", MW_FORMAT_TEXT}, {"jsonl", MW_FORMAT_JSONL}, {"json", MW_FORMAT_JSON},
    {"csv", MW_FORMAT_CSV},   {"tsv", MW_FORMAT_TSV},   {"npy", MW_FORMAT_NPY},     {0}};
static const mw_choice missing_rules[] = {{"error", MW_MISSING_ERROR}, {"skip", MW_MISSING_SKIP}, {0}};
static const mw_choice splits[] = {
    {"file", MW_SPLIT_FILE}, {"line", MW_SPLIT_LINE}, {"separator", MW_SPLIT_SEPARATOR}, {0}};
static const mw_choice bos_rules[] = {
    {"auto", MW_BOS_AUTO}, {"document", MW_BOS_DOCUMENT}, {"context", MW_BOS_CONTEXT}, {"none", MW_BOS_NONE}, {0}};

#define AT(member) offsetof(mw_dataset_options, member)
#define ENUM(member) MW_ENUM_AT(mw_dataset_options, member)

const mw_field dataset_option_fields[] = {
    {"format", MW_FIELD_CHOICE, ENUM(format), "auto", .choices = formats,
     .doc = "format of these files and of steer.measure_path, whatever their extension; auto: by extension"},
    {"text_field", MW_FIELD_STRING, AT(text_field), "text", .doc = "key of JSON objects; column of CSV and TSV"},
    {"on_missing", MW_FIELD_CHOICE, ENUM(on_missing), "error", .choices = missing_rules,
     .doc = "a record whose text is absent, null, empty or not a text; skip: left out, and counted in one "
            "message"},
    {"split", MW_FIELD_CHOICE, ENUM(split), "file", .choices = splits,
     .doc = "the documents of a .txt file: the file, its lines, or the texts between separators"},
    {"separator", MW_FIELD_STRING, AT(separator), "<|endoftext|>", .doc = "between documents, with split: separator"},
    {"context", MW_FIELD_INT, AT(context), "128", .min = 2, .max = 1 << 24, .doc = "maximum tokens of a sequence"},
    {"pack", MW_FIELD_BOOL, AT(pack), "true",
     .doc = "concatenate documents and cut every `context` tokens; false: each document starts a sequence"},
    {"truncate", MW_FIELD_BOOL, AT(truncate), "false",
     .doc = "without pack: drop the rest of a long document instead of continuing it in a new sequence"},
    {"bos", MW_FIELD_CHOICE, ENUM(bos), "auto", .choices = bos_rules,
     .doc =
         "where to put a beginning-of-sequence token; auto: before each document, if the tokenizer has one; a row of "
         "token ids that begins with it is not given another"},
    {"eos", MW_FIELD_BOOL, AT(eos), "false", .doc = "append an end-of-sequence token to each document"},
    {"limit_tokens", MW_FIELD_INT, AT(limit_tokens), "0", .min = 0, .max = 1e15,
     .doc = "stop after this many tokens; 0: none"},
    {"limit_documents", MW_FIELD_INT, AT(limit_documents), "0", .min = 0, .max = 1e15,
     .doc = "stop after this many documents, skipped records included; 0: none"},
    {0}};
