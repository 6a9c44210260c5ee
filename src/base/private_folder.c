/* Temporary folders that belong to one process. */
#include "base/private_folder.h"
#include "microw/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *temporary_folder(void) {
    const char *folder = mw_environment("TMPDIR");
    return folder ? folder : "/tmp";
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *at) {
    (void)about, (void)kind, (void)at;
    return remove(path) == 0 ? 0 : 1;
}

static void remove_tree(const char *path) {
    enum { OPEN_FOLDERS = 8 };
    if (nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
        mw_log(MW_LOG_DEBUG, "%s: cannot be removed", path);
}

/* Opens a folder and locks it; -1: it is no folder, or with LOCK_NB another process holds the lock. */
static int open_locked(const char *path, int operation) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && flock(fd, operation) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* The lock of a process ends with the process: a folder that can be locked is in use by none. */
static void remove_if_abandoned(const char *path) {
    struct stat about;
    if (lstat(path, &about) != 0 || !S_ISDIR(about.st_mode) || about.st_uid != geteuid()) return;
    int fd = open_locked(path, LOCK_EX | LOCK_NB);
    if (fd < 0) return;
    remove_tree(path);
    close(fd);
}

static void remove_abandoned(const char *prefix) {
    DIR *folder = opendir(temporary_folder());
    if (!folder) return;
    size_t length = strlen(prefix);
    for (struct dirent *e; (e = readdir(folder));) {
        char path[512];
        if (strncmp(e->d_name, prefix, length) != 0 || e->d_name[length] != '-') continue;
        if (snprintf(path, sizeof path, "%s/%s", temporary_folder(), e->d_name) < (int)sizeof path)
            remove_if_abandoned(path);
    }
    closedir(folder);
}

/* Another process may take a folder that is not locked yet for an abandoned one: then it is gone here. */
static bool make_once(const char *prefix, private_folder *out) {
    struct stat about;
    int length = snprintf(out->path, sizeof out->path, "%s/%s-XXXXXX", temporary_folder(), prefix);
    if (length >= (int)sizeof out->path || !mkdtemp(out->path)) return false;
    out->fd = open_locked(out->path, LOCK_EX);
    if (out->fd >= 0 && lstat(out->path, &about) == 0) return true;
    if (out->fd >= 0) close(out->fd);
    return false;
}

void private_folder_make(const char *prefix, private_folder *out) {
    enum { ATTEMPTS = 3 };
    *out = (private_folder){.fd = -1};
    remove_abandoned(prefix);
    for (int i = 0; i < ATTEMPTS; i++)
        if (make_once(prefix, out)) return;
    *out = (private_folder){.fd = -1};
}

void private_folder_remove(private_folder *folder) {
    if (folder->path[0]) remove_tree(folder->path);
    if (folder->fd >= 0) close(folder->fd);
    *folder = (private_folder){.fd = -1};
}
