/* Errors about a text that is being encoded. */
#include "model/tokenizer/text_error.h"

mw_status text_error(const text_origin *origin, const char *problem, const char *begin, size_t length) {
    enum { SHOWN = 48 };
    mw_text start = {0}, shown = {0}, source = {0};
    mw_utf8_show_cut(&start, begin, length, SHOWN);
    mw_text_add_visible(&shown, start.data ? start.data : "", start.length);
    if (origin->path) mw_text_addf(&source, "%s, %s %lld: ", origin->path, origin->what, (long long)origin->number);
    mw_status status = mw_error(MW_ERR_FORMAT, "%s: %s, in the text from byte %zu (%s'%s')", origin->tokenizer, problem,
                                origin->byte, source.data ? source.data : "", shown.data ? shown.data : "");
    mw_text_free(&start);
    mw_text_free(&shown);
    mw_text_free(&source);
    return status;
}
