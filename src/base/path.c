/* Paths as text. */
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

/* Offset of the last component. */
static size_t last_component(const mw_text *path) {
    size_t at = path->length;
    while (at > 0 && path->data[at - 1] != '/') at--;
    return at;
}

/* Resolves "..": removes the last component if it is a directory and no symbolic link. */
static bool remove_component(mw_text *path) {
    size_t at = last_component(path);
    struct stat info;
    const char *component = path->data + at;
    if (path->length == at || strcmp(component, "..") == 0) return false;
    if (lstat(path->data, &info) != 0 || !S_ISDIR(info.st_mode)) return false;
    path->length = at > 1 ? at - 1 : at;
    path->data[path->length] = '\0';
    return true;
}

static void add_component(mw_text *path, const char *component, size_t length) {
    if (length == 0 || (length == 1 && component[0] == '.')) return;
    if (length == 2 && memcmp(component, "..", 2) == 0 && remove_component(path)) return;
    if (path->length && path->data[path->length - 1] != '/') mw_text_add(path, "/", 1);
    mw_text_add(path, component, length);
}

char *mw_path_from(const char *directory, const char *path) {
    mw_text made = {0};
    char *whole = mw_path_join(directory, path);
    if (!whole) return NULL;
    mw_text_add(&made, "/", whole[0] == '/' ? 1 : 0);
    for (const char *component = whole; *component && !made.failed;) {
        size_t length = strcspn(component, "/");
        add_component(&made, component, length);
        component += length + (component[length] == '/');
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
