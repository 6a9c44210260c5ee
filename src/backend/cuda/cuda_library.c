/* Finds and loads shared libraries of CUDA. */
#include "backend/cuda/cuda_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MICROW_CUDA_TOOLKIT
#define MICROW_CUDA_TOOLKIT "/usr/local/cuda/lib64"
#endif

static void note_path(mw_library *out) {
    struct link_map *map = NULL;
    char whole[PATH_MAX];
    if (dlinfo(out->handle, RTLD_DI_LINKMAP, &map) != 0 || !map) return;
    snprintf(out->path, sizeof out->path, "%.500s", realpath(map->l_name, whole) ? whole : map->l_name);
}

/* Loads a file. `problem` keeps the first error: a file that exists and cannot be loaded counts before a missing
 * one. */
static bool load(const char *path, mw_library *out) {
    out->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *error = out->handle ? NULL : dlerror();
    if (error && !out->problem[0]) snprintf(out->problem, sizeof out->problem, "%.500s", error);
    if (!out->handle) return false;
    out->problem[0] = '\0';
    note_path(out);
    return true;
}

static bool load_from(const char *folder, const char *below, const char *soname, mw_library *out) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s%s/%s", folder, below, soname);
    return length > 0 && (size_t)length < sizeof path && access(path, R_OK) == 0 && load(path, out);
}

static bool load_from_list(const char *folders, const char *soname, mw_library *out) {
    char folder[PATH_MAX];
    for (const char *at = folders; at && at[0]; at += strcspn(at, ":"), at += at[0] == ':') {
        int length = (int)strcspn(at, ":");
        if (length > 0 && length < PATH_MAX && snprintf(folder, sizeof folder, "%.*s", length, at) == length &&
            load_from(folder, "", soname, out))
            return true;
    }
    return false;
}

/* Loads from where the dynamic linker looks. A missing file is no problem yet. */
static bool load_by_linker(const char *soname, mw_library *out) {
    if (load(soname, out)) return true;
    if (strstr(out->problem, "cannot open shared object file: No such file") &&
        strstr(out->problem, soname) == out->problem)
        out->problem[0] = '\0';
    return false;
}

static bool load_from_toolkits(const char *soname, mw_library *out) {
    static const char *const homes[] = {"CUDA_HOME", "CUDA_PATH", "NCCL_HOME"};
    for (size_t i = 0; i < sizeof homes / sizeof *homes; i++) {
        const char *home = mw_environment(homes[i]);
        if (home && (load_from(home, "/lib64", soname, out) || load_from(home, "/lib", soname, out))) return true;
    }
    return load_from_list(MICROW_CUDA_TOOLKIT, soname, out) || load_from("/usr/local/cuda", "/lib64", soname, out);
}

/* Loads from Python packages that hold libraries alone: nvidia-cublas, nvidia-nccl-cu13. */
static bool load_from_python(const char *prefix, const char *soname, mw_library *out) {
    char pattern[PATH_MAX];
    glob_t found = {0};
    bool loaded = false;
    int length = snprintf(pattern, sizeof pattern, "%s/lib/python3*/*-packages/nvidia/*/lib/%s", prefix, soname);
    if (length > 0 && (size_t)length < sizeof pattern && glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !loaded; i++) loaded = load(found.gl_pathv[i], out);
    globfree(&found);
    return loaded;
}

/* `interpreter`: PREFIX/bin/python3 */
static bool load_beside(const char *interpreter, const char *soname, mw_library *out) {
    char prefix[PATH_MAX];
    const char *name = strrchr(interpreter, '/');
    int length = name ? snprintf(prefix, sizeof prefix, "%.*s/..", (int)(name - interpreter), interpreter) : -1;
    return length > 0 && (size_t)length < sizeof prefix && load_from_python(prefix, soname, out);
}

/* Loads from the packages of the python3 on PATH: by its path, and by the path that its links lead to. */
static bool load_from_command(const char *soname, mw_library *out) {
    char *program = mw_find_program("python3"), whole[PATH_MAX];
    bool loaded = program && (load_beside(program, soname, out) ||
                              (realpath(program, whole) != NULL && load_beside(whole, soname, out)));
    mw_free(program);
    return loaded;
}

static bool load_from_pythons(const char *soname, mw_library *out) {
    static const char *const prefixes[] = {"VIRTUAL_ENV", "CONDA_PREFIX"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const char *prefix = mw_environment(prefixes[i]);
        if (prefix && load_from_python(prefix, soname, out)) return true;
    }
    if (load_from_command(soname, out) || load_from_python("/usr/local", soname, out) ||
        load_from_python("/usr", soname, out))
        return true;
    const char *home = mw_environment("HOME");
    char local[PATH_MAX];
    int length = home ? snprintf(local, sizeof local, "%s/.local", home) : -1;
    return length > 0 && (size_t)length < sizeof local && load_from_python(local, soname, out);
}

bool mw_library_load(const char *soname, mw_library *out) {
    *out = (mw_library){0};
    if (load_from_list(mw_environment("MICROW_CUDA_PATH"), soname, out) || load_by_linker(soname, out) ||
        load_from_toolkits(soname, out) || load_from_pythons(soname, out))
        return true;
    if (!out->problem[0])
        snprintf(out->problem, sizeof out->problem,
                 "%s was not found: not in MICROW_CUDA_PATH, LD_LIBRARY_PATH, CUDA_HOME, /usr/local/cuda or "
                 "Python's packages",
                 soname);
    return false;
}

bool mw_library_load_beside(const mw_library *other, const char *soname, mw_library *out) {
    const char *name = strrchr(other->path, '/');
    char folder[sizeof other->path];
    *out = (mw_library){0};
    if (name && snprintf(folder, sizeof folder, "%.*s", (int)(name - other->path), other->path) > 0 &&
        load_from(folder, "", soname, out))
        return true;
    return mw_library_load(soname, out);
}

void *mw_library_function(mw_library *library, const char *name) {
    void *found = library->handle ? dlsym(library->handle, name) : NULL;
    if (!found && !library->problem[0])
        snprintf(library->problem, sizeof library->problem, "%.400s has no %.80s", library->path, name);
    return found;
}
