/* Checks that a folder is one and the same on all ranks: rank 0 writes a file with random contents, all read it. */
#include "comm/shared_folder.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 512, NAME = 40, HOST = 256 };
static const double patience = 3; /* s until a file system shows what another host has written */

/* What rank 0 writes and all expect. */
typedef struct token {
    char name[NAME], host[HOST];
    uint64_t word[WORDS];
} token;

static mw_status make_token(token *t) {
    *t = (token){0};
    gethostname(t->host, sizeof t->host - 1);
    size_t bytes = 2 * sizeof *t->word;
    if (getrandom(t->word, bytes, 0) != (ssize_t)bytes) return mw_error(MW_ERR_IO, "the system has no random bytes");
    for (int i = 2; i < WORDS; i++) t->word[i] = mw_xxh64(t->word, (size_t)i * sizeof *t->word);
    snprintf(t->name, sizeof t->name, ".shared-%016llx", (unsigned long long)t->word[0]);
    return MW_OK;
}

static bool shows(const char *path, const token *t) {
    uint64_t found[WORDS] = {0};
    FILE *file = fopen(path, "rbe");
    bool same = file && fread(found, sizeof found, 1, file) == 1 && memcmp(found, t->word, sizeof found) == 0;
    if (file) fclose(file);
    return same;
}

static mw_status refuse_other_folder(const char *folder, const token *t) {
    char here[HOST] = "", *shown = mw_path_absolute(folder);
    gethostname(here, sizeof here - 1);
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

/* Writes and removes a file from this host. */
static mw_status try_to_write(const char *folder, const token *t, int rank) {
    char *name = mw_format("%s-%d", t->name, rank), *path = name ? mw_path_join(folder, name) : NULL, here[HOST] = "";
    mw_status status = path ? mw_file_write_atomic(path, (const char *)t->word, sizeof t->word) : MW_ERR_MEMORY;
    if (path && status == MW_OK) unlink(path);
    if (path && status != MW_OK) {
        gethostname(here, sizeof here - 1);
        status = mw_error(status, "%s: host %s cannot write there", folder, here);
    }
    mw_free(name);
    mw_free(path);
    return status;
}

static mw_status write_token(const char *folder, token *t, char **path) {
    MW_TRY(mw_make_directories(folder));
    MW_TRY(make_token(t));
    if (!(*path = mw_path_join(folder, t->name))) return MW_ERR_MEMORY;
    return mw_file_write_atomic(*path, (const char *)t->word, sizeof t->word);
}

mw_status shared_folder_check(const mw_comm *comm, const char *folder) {
    token t = {0};
    char *path = NULL;
    int rank = mw_comm_rank(comm);
    if (mw_comm_size(comm) == 1) return MW_OK;
    mw_status status = mw_comm_agree(comm, rank == 0 ? write_token(folder, &t, &path) : MW_OK);
    if (status == MW_OK) status = mw_comm_broadcast(comm, &t, sizeof t, 0);
    if (status == MW_OK && rank != 0 && !(path = mw_path_join(folder, t.name))) status = MW_ERR_MEMORY;
    if (status == MW_OK && rank != 0) status = await(folder, path, &t);
    if (status == MW_OK && mw_comm_local_rank(comm) == 0) status = try_to_write(folder, &t, rank);
    status = mw_comm_agree(comm, status);
    if (path && rank == 0) unlink(path);
    mw_free(path);
    return status;
}
