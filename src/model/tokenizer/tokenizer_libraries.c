/* Reports the libraries of tokenizers. */
#include "microw/tokenizer.h"

#include <oniguruma.h>
#include <string.h>
#include <utf8proc.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

void mw_tokenizer_libraries(mw_library_callback *report, void *self) {
    char pcre2[64] = ""; /* PCRE2 needs 24 */
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof pcre2) pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    report(self, "PCRE2", pcre2);
    report(self, "Oniguruma", onig_version());
    report(self, "utf8proc", utf8proc_version());
}
