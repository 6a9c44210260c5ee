/* One file that all ranks of a communicator write. */
#ifndef MICROW_COMM_SHARED_FILE_H
#define MICROW_COMM_SHARED_FILE_H

#include "microw/comm.h"

/* Bytes that one rank writes, at this offset of the file. */
typedef struct shared_piece {
    uint64_t offset;
    const void *data;
    size_t bytes;
} shared_piece;

/* Each rank writes its pieces, rank 0 also `head` at offset 0. The file is synced and then renamed to `path`; after an error
 * `path` is as it was before. Collective. */
mw_status shared_file_write(const mw_comm *comm, const char *path, const mw_text *head, const shared_piece *pieces,
                            int64_t count) MW_MUST_USE;

#endif
