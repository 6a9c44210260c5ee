/* Temporary folders that belong to one process. */
#ifndef MICROW_BASE_PRIVATE_FOLDER_H
#define MICROW_BASE_PRIVATE_FOLDER_H

/* `path` is empty if the folder could not be made. `fd` holds a lock on the folder while the process lives. */
typedef struct private_folder {
    char path[256];
    int fd;
} private_folder;

/* Makes TMPDIR/PREFIX-XXXXXX. Removes first the folders of this prefix that killed processes of this user left. */
void private_folder_make(const char *prefix, private_folder *out);
/* Removes the folder with its contents. */
void private_folder_remove(private_folder *folder);

#endif
