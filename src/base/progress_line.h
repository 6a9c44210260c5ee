/* A line of progress for people. */
#ifndef MICROW_BASE_PROGRESS_LINE_H
#define MICROW_BASE_PROGRESS_LINE_H

#include "microw/base.h"

/* How far a piece of work is, after `seconds`; `words` may be NULL. As many parts, the important ones first, as fit into `width`
 * columns; `over`: it is done. */
void progress_line(const mw_progress *progress, int64_t done, double seconds, const char *words, bool over, int width,
                   mw_text *out);

#endif
