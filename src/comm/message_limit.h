/* For tests: the size of one MPI message. */
#ifndef MICROW_COMM_MESSAGE_LIMIT_H
#define MICROW_COMM_MESSAGE_LIMIT_H

#include <stddef.h>

/* Sets the largest message: 8 to 2^30 bytes, the same on all ranks. Local. */
void comm_limit_message(size_t bytes);

#endif
