/* Writes one file by all ranks of a communicator. */
#ifndef MICROW_COMM_SHARED_FILE_H
#define MICROW_COMM_SHARED_FILE_H

#include "microw/comm.h"

/* Bytes that one rank writes at an offset of the file; `data` is borrowed. */
typedef struct shared_piece {
    uint64_t offset;
    const void *data;
    size_t bytes;
} shared_piece;

/* Writes this rank's pieces [count], and on rank 0 `head` (NULL on the others) at offset 0, into a temporary file,
 * which is synced and renamed to `path`. MW_ERR_IO, MW_ERR_MEMORY: `path` is unchanged. Collective. */
mw_status shared_file_write(const mw_comm *comm, const char *path, const mw_text *head, const shared_piece *pieces,
                            int64_t count) MW_MUST_USE;

#endif
