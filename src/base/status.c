/* Texts of the status codes. */
#include "microw/base.h"

const char *mw_status_text(mw_status status) {
    switch (status) {
#define STATUS_CASE(code, text)                                                                                        \
    case code:                                                                                                         \
        return text;
        MW_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}
