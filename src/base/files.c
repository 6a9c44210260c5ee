/* Files: facts, whole reads, atomic and shared writes, folders, maps. */
#include "microw/base.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

bool mw_file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool mw_file_is_in(const char *folder, const char *name) {
    char *path = mw_path_join(folder, name);
    bool exists = path && mw_file_exists(path);
    mw_free(path);
    return exists;
}

bool mw_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Logs errno. For a missing file with a relative path also the absolute path, since the working directory is often
 * unexpected. */
static mw_status cannot(const char *path, const char *what) {
    int error = errno;
    char *whole = error == ENOENT && path[0] != '/' ? mw_path_absolute(path) : NULL;
    mw_error(MW_ERR_IO, "%s: cannot %s: %s%s%s%s", path[0] ? path : "''", what, strerror(error),
             whole ? " (looked for " : "", whole ? whole : "", whole ? ")" : "");
    mw_free(whole);
    return MW_ERR_IO;
}

bool mw_file_is_newer(const char *path, const char *than) {
    struct stat a, b;
    if (stat(path, &a) != 0 || stat(than, &b) != 0) return false;
    return a.st_mtim.tv_sec != b.st_mtim.tv_sec ? a.st_mtim.tv_sec > b.st_mtim.tv_sec
                                                : a.st_mtim.tv_nsec >= b.st_mtim.tv_nsec;
}

mw_status mw_file_size(const char *path, uint64_t *out) {
    struct stat info;
    if (stat(path, &info) != 0) return cannot(path, "read");
    *out = (uint64_t)info.st_size;
    return MW_OK;
}

bool mw_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

/* Opens a regular file for reading. Other types are refused before they are opened: a pipe would wait for its
 * writer, and a second process would read nothing from it. */
static mw_status open_regular(const char *path, int *out, size_t *size) {
    struct stat info;
    int fd = -1;
    bool exists = stat(path, &info) == 0;
    bool regular = exists && S_ISREG(info.st_mode);
    if (regular) fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (regular && fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        *out = fd;
        *size = (size_t)info.st_size;
        return MW_OK;
    }
    int why = errno;
    if (fd >= 0) close(fd);
    errno = why;
    if (!exists || (regular && fd < 0)) return cannot(path, "read");
    return mw_error(MW_ERR_IO, "%s: cannot read: %s", path,
                    S_ISDIR(info.st_mode) ? "it is a folder"
                                          : "not a regular file; save the output of a pipe or device to a file first");
}

mw_status mw_file_read(const char *path, char **out, size_t *length) {
    enum { CHUNK = 1 << 16 };
    int fd;
    size_t size;
    MW_TRY(open_regular(path, &fd, &size));
    mw_text text = {0};
    char chunk[CHUNK];
    ssize_t got;
    while ((got = read(fd, chunk, sizeof chunk)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0) mw_text_add(&text, chunk, (size_t)got);
    int why = errno;
    close(fd);
    mw_text_add(&text, "", 0);
    if (got < 0 || text.failed) {
        mw_text_free(&text);
        return got < 0 ? mw_error(MW_ERR_IO, "%s: read failed: %s", path, strerror(why)) : MW_ERR_MEMORY;
    }
    *out = text.data;
    if (length) *length = text.length;
    return MW_OK;
}

/* With the host name: processes of other nodes may have the same number and write to the same folder. */
static char *temporary_name(const char *path) {
    char host[64] = "";
    mw_host_name(host, sizeof host);
    return mw_format("%s.tmp.%s.%ld", path, host, (long)getpid());
}

/* A rename would replace a device, or a link to one, by a file. */
static mw_status check_replaceable(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode)) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: cannot be written: %s", path,
                    S_ISDIR(info.st_mode) ? "it is a folder"
                                          : "not a regular file; files are written whole and then renamed");
}

mw_status mw_atomic_begin(const char *path, mw_atomic_file *out) {
    mw_atomic_file file = {.path = mw_strdup(path), .temporary = temporary_name(path)};
    mw_status status = file.path && file.temporary ? check_replaceable(path) : MW_ERR_MEMORY;
    if (status == MW_OK && !(file.stream = fopen(file.temporary, "wbe")))
        status = mw_error(MW_ERR_IO, "%s: cannot create: %s", file.temporary, strerror(errno));
    if (status == MW_OK)
        *out = file;
    else
        mw_atomic_abort(&file);
    return status;
}

mw_status mw_atomic_write(mw_atomic_file *file, const void *data, size_t length) {
    if (length == 0 || fwrite(data, 1, length, file->stream) == length) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: write failed: %s", file->temporary, strerror(errno));
}

void mw_atomic_abort(mw_atomic_file *file) {
    if (file->stream) {
        fclose(file->stream);
        unlink(file->temporary);
    }
    mw_free(file->temporary);
    mw_free(file->path);
    *file = (mw_atomic_file){0};
}

/* A rename is durable once the folder is synced; some file systems cannot sync folders, which is no error. */
static void sync_folder_of(const char *path) {
    char *folder = mw_path_directory(path);
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    mw_free(folder);
}

mw_status mw_file_publish(const char *temporary, const char *path) {
    MW_TRY(check_replaceable(path));
    if (rename(temporary, path) != 0) return mw_error(MW_ERR_IO, "%s: rename failed: %s", path, strerror(errno));
    sync_folder_of(path);
    return MW_OK;
}

mw_status mw_file_publish_any(char *temporary, char *path) {
    mw_status status = temporary && path ? MW_OK : MW_ERR_MEMORY;
    if (status == MW_OK && mw_file_exists(temporary)) status = mw_file_publish(temporary, path);
    mw_free(temporary);
    mw_free(path);
    return status;
}

mw_status mw_atomic_commit(mw_atomic_file *file) {
    mw_status status = MW_OK;
    if (fflush(file->stream) != 0 || fsync(fileno(file->stream)) != 0)
        status = mw_error(MW_ERR_IO, "%s: write failed: %s", file->temporary, strerror(errno));
    else
        status = mw_file_publish(file->temporary, file->path);
    if (status == MW_OK) { /* renamed: nothing to unlink */
        fclose(file->stream);
        file->stream = NULL;
    }
    mw_atomic_abort(file);
    return status;
}

mw_status mw_shared_open(const char *path, bool make, mw_shared_file *out) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | (make ? O_CREAT | O_TRUNC : 0), 0644);
    if (fd < 0) return mw_error(MW_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    *out = (mw_shared_file){path, fd};
    return MW_OK;
}

mw_status mw_shared_write(const mw_shared_file *file, uint64_t offset, const void *data, size_t length) {
    for (const char *from = data; length > 0;) {
        ssize_t done = pwrite(file->fd, from, length, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return mw_error(MW_ERR_IO, "%s: write failed: %s", file->path, strerror(errno));
        from += done;
        offset += (uint64_t)done;
        length -= (size_t)done;
    }
    return MW_OK;
}

mw_status mw_shared_close(mw_shared_file *file) {
    bool good = fsync(file->fd) == 0;
    int why = errno;
    good = close(file->fd) == 0 && good;
    file->fd = -1;
    return good ? MW_OK : mw_error(MW_ERR_IO, "%s: write failed: %s", file->path, strerror(why));
}

mw_status mw_file_write_atomic(const char *path, const void *data, size_t length) {
    mw_atomic_file file;
    MW_TRY(mw_atomic_begin(path, &file));
    mw_status status = mw_atomic_write(&file, data, length);
    if (status == MW_OK) return mw_atomic_commit(&file);
    mw_atomic_abort(&file);
    return status;
}

mw_status mw_make_directories(const char *path) {
    if (!path[0]) return mw_error(MW_ERR_IO, "cannot create a folder: the path is empty");
    char *copy = mw_strdup(path);
    if (!copy) return MW_ERR_MEMORY;
    mw_status status = MW_OK;
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0') continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
            status = mw_error(MW_ERR_IO, "%s: cannot create directory: %s", copy, strerror(errno));
            break;
        }
        *p = kept;
        if (kept == '\0') break;
    }
    if (status == MW_OK && !mw_is_directory(path))
        status = mw_error(MW_ERR_IO, "%s: exists and is not a directory", path);
    mw_free(copy);
    return status;
}

mw_status mw_folder_size(const char *path, uint64_t *out) {
    char *root[] = {(char *)(uintptr_t)path, NULL};
    *out = 0;
    if (!mw_is_directory(path)) return MW_OK;
    FTS *walk = fts_open(root, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk) return mw_error(MW_ERR_IO, "%s: %s", path, strerror(errno));
    for (FTSENT *entry; (entry = fts_read(walk));)
        if (entry->fts_info == FTS_F) *out += (uint64_t)entry->fts_statp->st_size;
    fts_close(walk);
    return MW_OK;
}

mw_status mw_free_space(const char *path, uint64_t *out) {
    struct statvfs info;
    if (statvfs(path, &info) != 0) return mw_error(MW_ERR_IO, "%s: %s", path, strerror(errno));
    *out = (uint64_t)info.f_bavail * info.f_frsize;
    return MW_OK;
}

mw_status mw_map_open(const char *path, mw_map *out) {
    int fd;
    mw_map map = {0};
    mw_status status = MW_OK;
    MW_TRY(open_regular(path, &fd, &map.length));
    if (map.length > 0) {
        void *data = mmap(NULL, map.length, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            status = mw_error(MW_ERR_IO, "%s: cannot map: %s", path, strerror(errno));
        else
            map.data = data;
    }
    close(fd);
    if (status == MW_OK) *out = map;
    return status;
}

void mw_map_close(mw_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->length);
    *map = (mw_map){0};
}
