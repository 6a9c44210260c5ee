/* Checks that a folder is one and the same on all ranks: rank 0 writes a file with random contents, all read it. */
#include "comm/shared_folder.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, HOST = 256 }; /* a smaller file needs no room on some file systems, even where there is none */
static const double patience = 3; /* s until a file system shows what another host has written */

/* The file that rank 0 writes and all expect, full of its random name. */
typedef struct token {
    char nonce[MW_NONCE_TEXT], host[HOST];
} token;

static void fill_page(const token *t, char page[PAGE]) {
    size_t length = sizeof t->nonce - 1;
    for (size_t at = 0; at < PAGE; at += length) memcpy(page + at, t->nonce, length);
}

static mw_status write_page(const token *t, const char *path) {
    char page[PAGE];
    fill_page(t, page);
    return mw_file_write_atomic(path, page, PAGE);
}

static bool shows(const char *path, const token *t) {
    char expected[PAGE], found[PAGE];
    FILE *file = fopen(path, "rbe");
    fill_page(t, expected);
    bool same = file && fread(found, PAGE, 1, file) == 1 && memcmp(found, expected, PAGE) == 0;
    if (file) fclose(file);
    return same;
}

static mw_status refuse_other_folder(const char *folder, const token *t) {
    char here[HOST] = "", *shown = mw_path_absolute(folder);
    mw_host_name(here, sizeof here);
    mw_status status = mw_error(MW_ERR_CONFIG,
                                "ranks differ in the store: on this rank %s, on host %s, is not the folder of rank 0, "
                                "on host %s; all hosts must share its file system",
                                shown ? shown : folder, here, t->host);
    mw_free(shown);
    return status;
}

/* Waits until the file of rank 0 is here. */
static mw_status await(const char *folder, const char *path, const token *t) {
    for (double begun = mw_seconds(); mw_seconds() - begun < patience;) {
        if (shows(path, t)) return MW_OK;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return refuse_other_folder(folder, t);
}

/* The file of a rank; of rank 0 the token. The caller frees. */
static char *path_of(const char *folder, const token *t, int rank) {
    return mw_format("%s/.shared-%s-%d", folder, t->nonce, rank);
}

/* Writes and removes a file from this host. */
static mw_status try_to_write(const char *folder, const token *t, int rank) {
    char *path = path_of(folder, t, rank), here[HOST] = "";
    mw_status status = path ? write_page(t, path) : MW_ERR_MEMORY;
    if (path && status == MW_OK) unlink(path);
    if (path && status != MW_OK) {
        mw_host_name(here, sizeof here);
        status = mw_error(status, "%s: host %s cannot write there", folder, here);
    }
    mw_free(path);
    return status;
}

static mw_status write_token(const char *folder, token *t) {
    mw_host_name(t->host, sizeof t->host);
    MW_TRY(mw_make_directories(folder));
    MW_TRY(mw_nonce(t->nonce));
    char *path = path_of(folder, t, 0);
    mw_status status = path ? write_page(t, path) : MW_ERR_MEMORY;
    mw_free(path);
    return status;
}

mw_status shared_folder_check(const mw_comm *comm, const char *folder) {
    token t = {0};
    int rank = mw_comm_rank(comm);
    if (mw_comm_size(comm) == 1) return MW_OK;
    MW_TRY(mw_comm_agree(comm, rank == 0 ? write_token(folder, &t) : MW_OK));
    MW_TRY(mw_comm_broadcast(comm, &t, sizeof t, 0));
    char *path = path_of(folder, &t, 0);
    mw_status status = path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && rank != 0) status = await(folder, path, &t);
    if (status == MW_OK && rank != 0 && mw_comm_local_rank(comm) == 0) status = try_to_write(folder, &t, rank);
    status = mw_comm_agree(comm, status);
    if (path && rank == 0) unlink(path);
    mw_free(path);
    return status;
}
