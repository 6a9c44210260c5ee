/* Fuzzes JSON: a text that jansson's own reader accepts gives the same value, and a written value reads the same. */
#include "base/json.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static void read_again(const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    fuzz_need(text != NULL, "what was read is not written");
    mw_json_report report;
    json_t *again = mw_json_read(text, strlen(text), &report);
    fuzz_need(json_equal(value, again), "what was written is not read");
    json_decref(again);
    free(text);
}

/* NaN and the like have no form in JSON: such a value is refused, or what was written can be read. */
static void save_again(const json_t *value) {
    json_t *again = NULL;
    if (mw_json_save(fuzz_path("saved.json"), value, 0) != MW_OK) return;
    fuzz_need(mw_json_load(fuzz_path("saved.json"), &again) == MW_OK, "what was saved is not read");
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    mw_json_report report;
    fuzz_begin();
    json_t *value = mw_json_read(text, size, &report);
    bool zero = size && memchr(text, 0, size); /* behind a value jansson takes it for the end */
    json_t *theirs =
        zero ? NULL : json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    if (theirs) fuzz_need(json_equal(value, theirs), "other than jansson's");
    fuzz_need(value || report.status != MW_OK, "nothing, without a reason");
    fuzz_need(report.at <= size, "a fault outside of the text");
    if (theirs) read_again(value);
    if (value && !theirs) save_again(value);
    json_decref(theirs);
    json_decref(value);
    fuzz_end();
    return 0;
}
