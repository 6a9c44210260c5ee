/* Fuzzes tokenizer.json: a tokenizer that opens encodes a text and decodes its ids. */
#include "fuzz.h"
#include "microw/tokenizer.h"

#include <string.h>

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_write("tokenizer.json", data, size);
    fuzz_begin();
    mw_tokenizer *tokenizer = NULL;
    if (mw_tokenizer_open(fuzz_path("tokenizer.json"), &tokenizer) == MW_OK) use(tokenizer, data, size);
    mw_tokenizer_free(&tokenizer);
    fuzz_end();
    return 0;
}
