/* Tests what a folder supports: type, space, writing, locks. */
#include "microw/base.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Magic numbers of statfs(2): from linux/magic.h, and of cluster file systems outside of the kernel. */
static const struct kind {
    uint32_t magic;
    const char *name;
} kinds[] = {
    {0x0000EF53, "ext4"},   {0x58465342, "xfs"},    {0x9123683E, "btrfs"},    {0x2FC12FC1, "zfs"},
    {0xF2F52010, "f2fs"},   {0x01021994, "tmpfs"},  {0x858458F6, "ramfs"},    {0x794C7630, "overlay"},
    {0x00006969, "nfs"},    {0x0BD00BD0, "lustre"}, {0x47504653, "gpfs"},     {0x19830326, "beegfs"},
    {0x00C36400, "ceph"},   {0xAAD7AAEA, "panfs"},  {0x20030528, "orangefs"}, {0x5346414F, "afs"},
    {0xFF534D42, "cifs"},   {0xFE534D42, "smb2"},   {0x65735546, "fuse"},     {0x01021997, "9p"},
    {0x01161970, "gfs2"},   {0x7461636F, "ocfs2"},  {0x73717368, "squashfs"}, {0x00009660, "iso9660"},
    {0x786F4256, "vboxsf"}, {0xE0F5E1E2, "erofs"},
};

static void find_type(const char *path, mw_folder *out) {
    struct statfs info;
    if (statfs(path, &info) != 0) return;
    uint32_t magic = (uint32_t)info.f_type;
    snprintf(out->type, sizeof out->type, "0x%08X", magic);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].magic == magic) snprintf(out->type, sizeof out->type, "%s", kinds[i].name);
}

static void find_space(const char *path, mw_folder *out) {
    struct statvfs info;
    if (statvfs(path, &info) != 0) return;
    out->size = (double)info.f_blocks * (double)info.f_frsize;
    out->free = (double)info.f_bavail * (double)info.f_frsize;
}

static void set_problem(mw_folder *out, const char *what) {
    snprintf(out->problem, sizeof out->problem, "%s: %s", what, strerror(errno));
}

/* Opens an unlinked file, so that no crash leaves it behind; -1: not possible. */
static int open_unlinked(const char *path, mw_folder *out) {
    char *name = mw_format("%s/.microw-XXXXXX", path);
    int fd = name ? mkstemp(name) : -1;
    if (fd < 0)
        set_problem(out, "cannot create a file");
    else
        unlink(name);
    mw_free(name);
    return fd;
}

/* With fsync: a full quota may only fail there. */
static bool can_write(int fd, mw_folder *out) {
    static const char block[4096];
    if (write(fd, block, sizeof block) == sizeof block && fsync(fd) == 0) return true;
    set_problem(out, "cannot write a file");
    return false;
}

/* MPI-IO locks ranges of files by fcntl on NFS and others, HDF5 whole files by flock. One after the other, since NFS
 * maps both to the same lock. */
static bool can_lock(int fd, mw_folder *out) {
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1024};
    bool locked = fcntl(fd, F_SETLK, &range) == 0;
    if (!locked) set_problem(out, "fcntl locks do not work");
    range.l_type = F_UNLCK;
    if (!locked || fcntl(fd, F_SETLK, &range) != 0) return locked;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    set_problem(out, "flock does not work");
    return false;
}

void mw_folder_probe(const char *path, mw_folder *out) {
    *out = (mw_folder){.size = NAN, .free = NAN};
    find_type(path, out);
    find_space(path, out);
    if (!mw_is_directory(path)) {
        snprintf(out->problem, sizeof out->problem,
                 mw_path_exists(path) ? "this is no folder" : "there is no such folder");
        return;
    }
    int fd = open_unlinked(path, out);
    if (fd < 0) return;
    out->writable = can_write(fd, out);
    out->locks = out->writable && can_lock(fd, out);
    close(fd);
}
