/* Fuzzes the files of tokenizers: one that opens encodes a text and decodes its ids. An input that begins with "{" is
 * tokenizer.json and, in a folder, tekken.json; one that begins with "C{" is the tokenizer_config.json beside a
 * tokenizer, with "T" and a line end a tiktoken.model; others are tokenizer.model. */
#include "fuzz.h"
#include "microw/tokenizer.h"

#include <string.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static void use(mw_tokenizer *tokenizer, const uint8_t *data, size_t size) {
    static const char text[] = "Hello  world, it's 2026!\n\n\tna\xc3\xafve \xe4\xbd\xa0 \xff\xf0\x9f\x98\x80 <s>";
    mw_ids ids = {0};
    mw_text back = {0};
    mw_status status = mw_tokenizer_encode(tokenizer, text, sizeof text - 1, &ids);
    if (status == MW_OK) status = mw_tokenizer_encode(tokenizer, (const char *)data, size < 200 ? size : 200, &ids);
    for (int64_t i = 0; i < ids.count; i++)
        fuzz_need(ids.data[i] >= 0 && ids.data[i] < mw_tokenizer_size(tokenizer), "an id outside the vocabulary");
    if (status == MW_OK) status = mw_tokenizer_decode(tokenizer, ids.data, ids.count, &back);
    static const int32_t odd[] = {-1, 0, 1 << 30};
    if (status == MW_OK) status = mw_tokenizer_decode(tokenizer, odd, 3, &back);
    mw_ids_free(&ids);
    mw_text_free(&back);
}

static void open_and_use(const char *path, const uint8_t *data, size_t size) {
    mw_tokenizer *tokenizer = NULL;
    if (mw_tokenizer_open(path, &tokenizer) == MW_OK) use(tokenizer, data, size);
    mw_tokenizer_free(&tokenizer);
}

static void remove_files(void) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "tokenizer.model",
                                        "tekken.json",    "tiktoken.model",        "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(fuzz_path(names[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char beside[] =
        "{\"added_tokens\":[{\"id\":2,\"content\":\"<s>\",\"special\":true}],\"model\":{\"type\":"
        "\"WordLevel\",\"unk_token\":\"a\",\"vocab\":{\"a\":0,\"b\":1}}}";
    static const char config[] = "{\"tokenizer_class\":\"LlamaTokenizer\"}";
    fuzz_begin();
    remove_files();
    if (size > 1 && data[0] == 'C' && data[1] == '{') {
        fuzz_write("tokenizer.json", beside, sizeof beside - 1);
        fuzz_write("tokenizer_config.json", data + 1, size - 1);
        open_and_use(fuzz_path("."), data, size);
    } else if (size > 1 && data[0] == 'T' && data[1] == '\n') { /* tiktoken.model, and added tokens behind it */
        static const char
            model[] = "{\"model_type\": \"llama\"}",
            added[] = "{\"added_tokens_decoder\": {\"3\": {\"content\": \"<s>\"}, \"9\": {\"content\": \"x\"}}}";
        fuzz_write("config.json", model, sizeof model - 1);
        fuzz_write("tokenizer_config.json", added, sizeof added - 1);
        fuzz_write("tiktoken.model", data + 2, size - 2);
        open_and_use(fuzz_path("."), data, size);
    } else if (size > 0 && data[0] == '{') {
        fuzz_write("tekken.json", data, size);
        open_and_use(fuzz_path("tekken.json"), data, size);
        open_and_use(fuzz_path("."), data, size);
    } else {
        fuzz_write("tokenizer_config.json", config, sizeof config - 1);
        fuzz_write("tokenizer.model", data, size);
        open_and_use(fuzz_path("."), data, size);
    }
    fuzz_end();
    return 0;
}
