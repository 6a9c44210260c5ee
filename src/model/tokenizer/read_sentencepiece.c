/* Reads tokenizer.model of SentencePiece, as the tokenizer's class in transformers 5 does.
 *
 * The file is a protocol buffer: fields of a number and a kind. Read are the pieces (field 1), each with its text (1)
 * and type (3). The classes make a BPE model of them, whatever the file was trained for: a piece is merged from any two
 * pieces that give its text, in the order of the ids, shorter left parts first. */
#include "model/tokenizer/read.h"
#include "model/tokenizer/unicode.h"

#include <string.h>

/* ---- protocol buffers ------------------------------------------------------------------------------------- */

/* Bytes of a message that are not read yet. */
typedef struct message {
    const unsigned char *at, *end;
} message;

typedef struct field {
    uint64_t number, value; /* value: of numbers */
    message bytes;          /* of texts and messages */
} field;

static bool read_varint(message *m, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        unsigned char byte = *m->at++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

/* Reads the next field; false: the message is malformed. */
static bool read_field(message *m, field *out) {
    enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };
    uint64_t key, length = 0;
    if (!read_varint(m, &key)) return false;
    *out = (field){.number = key >> 3};
    switch (key & 7) {
    case VARINT:
        return read_varint(m, &out->value);
    case FIXED64:
        length = 8;
        break;
    case FIXED32:
        length = 4;
        break;
    case BYTES:
        if (!read_varint(m, &length)) return false;
        break;
    default:
        return false;
    }
    if (length > (uint64_t)(m->end - m->at)) return false;
    out->bytes = (message){m->at, m->at + length};
    m->at += length;
    return true;
}

/* ---- pieces --------------------------------------------------------------------------------------------------- */

enum { PIECE_NORMAL = 1, PIECE_CONTROL = 3, PIECE_USER_DEFINED = 4 };

typedef struct sentence_piece {
    token_text text;
    uint64_t type;
} sentence_piece;

static bool read_piece(message m, sentence_piece *out) {
    field f;
    *out = (sentence_piece){.type = PIECE_NORMAL, .text = {"", 0}};
    while (m.at < m.end) {
        if (!read_field(&m, &f)) return false;
        if (f.number == 1 && f.bytes.at)
            out->text = (token_text){(const char *)f.bytes.at, (size_t)(f.bytes.end - f.bytes.at)};
        if (f.number == 3) out->type = f.value;
    }
    return mw_utf8_valid(out->text.bytes, out->text.length);
}

/* Adds a piece to the vocabulary. */
static mw_status put_piece(const reader *r, message bytes, int32_t id) {
    mw_tokenizer *t = r->t;
    sentence_piece piece;
    if (!read_piece(bytes, &piece)) return mw_error(MW_ERR_FORMAT, "%s: piece %d is malformed", r->path, (int)id);
    if (vocabulary_find(&t->vocabulary, piece.text.bytes, piece.text.length) >= 0)
        return mw_error(MW_ERR_UNSUPPORTED, "%s: piece %d, '%.*s', occurs twice", r->path, (int)id,
                        (int)piece.text.length, piece.text.bytes);
    MW_TRY(put_token(t, piece.text.bytes, piece.text.length, id));
    bool added = piece.type == PIECE_CONTROL || piece.type == PIECE_USER_DEFINED;
    return added ? mw_ids_add(&t->class_added, id) : MW_OK;
}

static mw_status read_pieces(const reader *r, message file) {
    field f;
    int32_t count = 0;
    MW_TRY(begin_vocabulary(r->t, 1));
    while (file.at < file.end) {
        if (!read_field(&file, &f))
            return mw_error(MW_ERR_FORMAT, "%s: not a model of SentencePiece: a field is malformed", r->path);
        if (f.number != 1) continue;
        if (!f.bytes.at || count >= TOKEN_ID_MAX)
            return mw_error(MW_ERR_FORMAT, "%s: not a model of SentencePiece: piece %d", r->path, (int)count);
        MW_TRY(put_piece(r, f.bytes, count++));
    }
    if (count == 0) return mw_error(MW_ERR_FORMAT, "%s: not a model of SentencePiece: it has no pieces", r->path);
    r->t->model.vocabulary_size = count;
    return MW_OK;
}

/* Calls merges_put, or only counts, for each cut of a piece into two pieces. */
static int64_t put_merges_of(mw_tokenizer *t, int32_t id, int64_t rank, bool put) {
    const vocabulary *v = &t->vocabulary;
    const char *text = v->token[id];
    size_t n;
    for (size_t cut = 0; cut < v->length[id]; cut += n) {
        unicode_read(text + cut, &n);
        int32_t left = cut ? vocabulary_find(v, text, cut) : -1;
        int32_t right = left >= 0 ? vocabulary_find(v, text + cut, v->length[id] - cut) : -1;
        if (right < 0) continue;
        if (put) merges_put(&t->model.bpe.merges, left, right, (int32_t)rank, id);
        rank++;
    }
    return rank;
}

static mw_status make_merges(mw_tokenizer *t) {
    int64_t count = 0, rank = 0;
    for (int64_t id = 0; id < t->model.vocabulary_size; id++) count = put_merges_of(t, (int32_t)id, count, false);
    if (count > INT32_MAX) return mw_error(MW_ERR_UNSUPPORTED, "%s: too many merges", t->path);
    MW_TRY(merges_make(&t->model.bpe.merges, count));
    for (int64_t id = 0; id < t->model.vocabulary_size; id++) rank = put_merges_of(t, (int32_t)id, rank, true);
    return MW_OK;
}

/* ---- classes ------------------------------------------------------------------------------------------------- */

#define MARK "\xe2\x96\x81"
#define REPLACE(from, to) "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" from "\"}, \"content\": \"" to "\"}"
#define METASPACE(scheme)                                                                                              \
    "{\"type\": \"Metaspace\", \"replacement\": \"" MARK "\", \"split\": false, \"prepend_scheme\": \"" scheme "\"}"
#define FUSE(strip)                                                                                                    \
    "{\"type\": \"Sequence\", \"decoders\": [" REPLACE(                                                                \
        MARK, " ") ", {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}" strip "]}"
#define STRIP ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}"

static const char *const llama_named[NAMED_KEYS] = {"<s>", "</s>", "<unk>"};
static const char *const gemma_named[NAMED_KEYS] = {"<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>"};

/* Which class reads the folder, and its options. */
typedef struct spm_class {
    bool gemma, prefix, legacy;
} spm_class;

static bool begins_with(const char *text, const char *start) {
    return text && strncmp(text, start, strlen(start)) == 0;
}

static mw_status choose_class(const char *folder, spm_class *out) {
    class_files files = class_files_open(folder);
    const char *name = files.name, *type = files.type;
    *out = (spm_class){.prefix = mw_json_flag(files.config, "add_prefix_space", true),
                       .legacy = mw_json_flag(files.config, "legacy", false)};
    out->gemma = begins_with(name, "GemmaTokenizer") || (!name && begins_with(type, "gemma"));
    bool llama = begins_with(name, "LlamaTokenizer") && (!type || strcmp(type, "llama") == 0);
    mw_status status = MW_OK;
    if (!out->gemma && !llama)
        status =
            mw_error(MW_ERR_UNSUPPORTED,
                     "%s: tokenizer.model of tokenizer_class '%s' and model_type '%s' is not supported (LlamaTokenizer "
                     "of llama and GemmaTokenizer are)",
                     folder, name ? name : "(none)", type ? type : "(none)");
    class_files_close(&files);
    return status;
}

static mw_status apply_class(const reader *r, spm_class class) {
    token_model *m = &r->t->model;
    r->t->class_named = class.gemma ? gemma_named : llama_named;
    m->encode = bpe_encode;
    m->unk = -1;
    m->bpe.fuse_unk = m->bpe.byte_fallback = true;
    if (class.gemma) {
        if (!(m->unk_token = mw_strdup("<unk>"))) return MW_ERR_MEMORY;
        MW_TRY(read_text_part(r, REPLACE(" ", MARK), "normalizers", read_normalizer));
        MW_TRY(read_text_part(r,
                              "{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": "
                              "\"MergedWithPrevious\"}",
                              "pretokenizers", read_splitter));
        return read_text_part(r, FUSE(""), "decoders", read_decoder);
    }
    const char *metaspace = !class.prefix  ? METASPACE("never")
                            : class.legacy ? METASPACE("always")
                                           : METASPACE("first");
    MW_TRY(read_text_part(r, metaspace, "pretokenizers", read_splitter));
    return read_text_part(r, class.prefix ? FUSE(STRIP) : FUSE(""), "decoders", read_decoder);
}

mw_status tokenizer_read_sentencepiece(const char *folder, const char *path, mw_tokenizer *t) {
    reader r = {path, t};
    spm_class class;
    char *bytes = NULL;
    size_t length = 0;
    MW_TRY(choose_class(folder, &class));
    MW_TRY(set_path(t, path));
    MW_TRY(apply_class(&r, class));
    MW_TRY(mw_file_read(path, &bytes, &length));
    const unsigned char *begin = (const unsigned char *)bytes;
    mw_status status = read_pieces(&r, (message){begin, begin + length});
    mw_free(bytes);
    if (status == MW_OK) status = make_merges(t);
    return status == MW_OK ? mw_sha256_file(path, t->hash) : status;
}
