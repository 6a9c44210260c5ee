/* Fuzzes files of names: the first byte chooses the format, the rest is the file. Names that load are written in all
 * formats and read again. */
#include "fuzz.h"
#include "microw/concepts.h"

#include <string.h>

enum { N = 64 };

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

/* Carriage returns and broken UTF-8 do not come back from every form: only that there is a name is compared. */
static void read_again(const mw_names *names, mw_names_format format) {
    mw_names again;
    mw_status status = mw_names_save(fuzz_path("again"), format, names, "model", "site");
    if (status != MW_OK || mw_names_new(N, &again) != MW_OK) return;
    status = mw_names_load(fuzz_path("again"), format, NULL, &again);
    fuzz_need(status == MW_OK, "what was written is not read");
    for (int64_t i = 0; i < N; i++) fuzz_need(!names->of[i].name == !again.of[i].name, "a name was lost");
    mw_names_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    mw_names_format format = (mw_names_format)(1 + data[0] % 3);
    fuzz_write("names", data + 1, size - 1);
    fuzz_begin();
    mw_names names;
    if (mw_names_new(N, &names) == MW_OK) {
        if (mw_names_load(fuzz_path("names"), format, "by", &names) == MW_OK)
            for (int f = MW_NAMES_CSV; f <= MW_NAMES_NEURONPEDIA; f++) read_again(&names, (mw_names_format)f);
        mw_names_free(&names);
    }
    fuzz_end();
    return 0;
}
