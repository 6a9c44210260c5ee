/* Reports the libraries of tokenizers. */
#include "microw/tokenizer.h"
#include "model/tokenizer/tokenizer_private.h"

#include <string.h>
#include <utf8proc.h>

void mw_tokenizer_libraries(mw_library_callback *report, void *self) {
    char pcre2[64] = ""; /* PCRE2 needs 24 */
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof pcre2) pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    report(self, "PCRE2", pcre2);
    report(self, "utf8proc", utf8proc_version());
}
