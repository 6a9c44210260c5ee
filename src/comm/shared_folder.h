/* Checks that a folder is one and the same on all ranks. */
#ifndef MICROW_COMM_SHARED_FOLDER_H
#define MICROW_COMM_SHARED_FOLDER_H

#include "microw/comm.h"

/* Makes `folder` and checks that a file which rank 0 writes there appears on all ranks within some seconds, and that
 * every host can write there: collective opens of files would wait for ever otherwise. MW_ERR_CONFIG: another folder,
 * MW_ERR_IO: a host cannot write; both name the hosts. Collective. */
mw_status shared_folder_check(const mw_comm *comm, const char *folder) MW_MUST_USE;

#endif
