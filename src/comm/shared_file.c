/* Writes one file by all ranks of a communicator: temporary file, sync, rename. */
#include "comm/shared_file.h"

#include <unistd.h>

static mw_status write_pieces(const mw_shared_file *file, const mw_text *head, const shared_piece *pieces,
                              int64_t count) {
    if (head) MW_TRY(mw_shared_write(file, 0, head->data, head->length));
    for (int64_t i = 0; i < count; i++)
        MW_TRY(mw_shared_write(file, pieces[i].offset, pieces[i].data, pieces[i].bytes));
    return MW_OK;
}

/* Rank 0 creates the file; every rank opens it, writes its pieces and syncs them. */
static mw_status fill(const mw_comm *comm, const char *path, const mw_text *head, const shared_piece *pieces,
                      int64_t count) {
    mw_shared_file file;
    bool root = mw_comm_rank(comm) == 0;
    mw_status status = root ? mw_shared_open(path, true, &file) : MW_OK;
    MW_TRY(mw_comm_agree(comm, status));
    if (!root) status = mw_shared_open(path, false, &file);
    if (status == MW_OK) {
        status = write_pieces(&file, root ? head : NULL, pieces, count);
        mw_status closed = mw_shared_close(&file);
        if (status == MW_OK) status = closed;
    }
    return mw_comm_agree(comm, status);
}

mw_status shared_file_write(const mw_comm *comm, const char *path, const mw_text *head, const shared_piece *pieces,
                            int64_t count) {
    char *temporary = mw_format("%s.tmp", path);
    mw_status status = mw_comm_agree(comm, temporary ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = fill(comm, temporary, head, pieces, count);
    if (temporary && mw_comm_rank(comm) == 0) {
        if (status == MW_OK)
            status = mw_file_publish(temporary, path);
        else
            unlink(temporary);
    }
    mw_free(temporary);
    return mw_comm_agree(comm, status);
}
