/* Error messages about a text that is encoded. */
#include "model/tokenizer/parts.h"

mw_status text_error(const text_place *place, const char *problem, const char *begin, size_t length) {
    enum { SHOWN = 48 };
    mw_text start = {0}, shown = {0}, of = {0};
    mw_utf8_show_cut(&start, begin, length, SHOWN);
    mw_text_add_visible(&shown, start.data ? start.data : "", start.length);
    if (place->path) mw_text_addf(&of, "%s, %s %lld: ", place->path, place->what, (long long)place->number);
    mw_status status = mw_error(MW_ERR_FORMAT, "%s: %s, in the text behind byte %zu (%s'%s')", place->tokenizer,
                                problem, place->at, of.data ? of.data : "", shown.data ? shown.data : "");
    mw_text_free(&start);
    mw_text_free(&shown);
    mw_text_free(&of);
    return status;
}
