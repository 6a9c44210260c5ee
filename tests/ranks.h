/* The end of test programs that several ranks run. */
#ifndef MICROW_TEST_RANKS_H
#define MICROW_TEST_RANKS_H

#include "microw/comm.h"
#include "test.h"

/* Ends MPI and the program: each rank returns the failures of all. */
static inline int test_end_of_ranks(mw_comm **world) {
    int64_t failed = test_failures;
    NEED_OK(mw_comm_allreduce_sum(*world, &failed, 1));
    test_failures = (int)failed;
    mw_comm_free(world);
    return test_end();
}

#endif
