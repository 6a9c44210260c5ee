/* Fuzzes experiment files: a file that loads is written, and the written file loads to the same settings. */
#include "fuzz.h"
#include "microw/config.h"
#include "microw/experiment.h"

#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static void round_trip(const mw_experiment *experiment) {
    mw_experiment *again = NULL;
    mw_text first = {0}, second = {0};
    fuzz_need(mw_experiment_describe(experiment, false, &first) == MW_OK, "cannot be written");
    fuzz_write("again.yaml", first.data, first.length);
    if (mw_experiment_load(fuzz_path("again.yaml"), NULL, 0, &again) == MW_OK) {
        fuzz_need(mw_experiment_describe(again, false, &second) == MW_OK, "cannot be written again");
        fuzz_need(strcmp(first.data, second.data) == 0, "changes when it is written and read");
    } else {
        fuzz_need(false, "what was written does not load");
    }
    mw_experiment_free(&again);
    mw_text_free(&first);
    mw_text_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const sets[] = {"sae.k=16", "train.tokens=1_000"};
    fuzz_write("exp.yaml", data, size);
    fuzz_begin();
    mw_experiment *experiment = NULL;
    bool set = size && data[size - 1] % 2;
    if (mw_experiment_load(fuzz_path("exp.yaml"), sets, set ? 2 : 0, &experiment) == MW_OK) round_trip(experiment);
    mw_experiment_free(&experiment);
    fuzz_end();
    return 0;
}
