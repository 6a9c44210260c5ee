/* The text of a progress line for people. */
#ifndef MICROW_BASE_PROGRESS_LINE_H
#define MICROW_BASE_PROGRESS_LINE_H

#include "microw/base.h"

/* Describes progress after `seconds`, with as many fields as fit into `width` columns, the most important first.
 * `words` may be NULL; `over`: the task is done. `out` is replaced. */
void progress_line(const mw_progress *progress, int64_t done, double seconds, const char *words, bool over, int width,
                   mw_text *out);

#endif
