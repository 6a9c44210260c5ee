/* For tests: how much one call of MPI is given. */
#ifndef MICROW_COMM_MESSAGE_LIMIT_H
#define MICROW_COMM_MESSAGE_LIMIT_H

#include <stddef.h>

/* At least 8, at most 2^30; the same on all ranks. */
void comm_limit_message(size_t bytes);

#endif
