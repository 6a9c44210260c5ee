/* Names of files, as text. */
#include "microw/base.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *mw_path_join(const char *directory, const char *name) {
    if (name[0] == '/' || directory[0] == '\0') return mw_strdup(name);
    size_t length = strlen(directory);
    return mw_format("%s%s%s", directory, directory[length - 1] == '/' ? "" : "/", name);
}

char *mw_path_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return mw_strdup(".");
    return slash == path ? mw_strdup("/") : mw_strndup(path, (size_t)(slash - path));
}

const char *mw_path_basename(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where the last part of a path begins. */
static size_t last_part(const mw_text *path) {
    size_t at = path->length;
    while (at > 0 && path->data[at - 1] != '/') at--;
    return at;
}

/* ".." behind a folder that is one, and no way to elsewhere, takes it away. */
static bool step_back(mw_text *path) {
    size_t at = last_part(path);
    struct stat info;
    const char *part = path->data + at;
    if (path->length == at || strcmp(part, "..") == 0) return false;
    if (lstat(path->data, &info) != 0 || !S_ISDIR(info.st_mode)) return false;
    path->length = at > 1 ? at - 1 : at;
    path->data[path->length] = '\0';
    return true;
}

static void add_part(mw_text *path, const char *part, size_t length) {
    if (length == 0 || (length == 1 && part[0] == '.')) return;
    if (length == 2 && memcmp(part, "..", 2) == 0 && step_back(path)) return;
    if (path->length && path->data[path->length - 1] != '/') mw_text_add(path, "/", 1);
    mw_text_add(path, part, length);
}

char *mw_path_from(const char *directory, const char *path) {
    mw_text made = {0};
    char *whole = mw_path_join(directory, path);
    if (!whole) return NULL;
    mw_text_add(&made, "/", whole[0] == '/' ? 1 : 0);
    for (const char *part = whole; *part && !made.failed;) {
        size_t length = strcspn(part, "/");
        add_part(&made, part, length);
        part += length + (part[length] == '/');
    }
    if (made.length == 0) mw_text_add(&made, ".", 1);
    mw_free(whole);
    if (!made.failed) return made.data;
    mw_text_free(&made);
    return NULL;
}

char *mw_path_absolute(const char *path) {
    char here[4096];
    if (path[0] == '/') return mw_path_from("/", path);
    return getcwd(here, sizeof here) ? mw_path_from(here, path) : NULL;
}
