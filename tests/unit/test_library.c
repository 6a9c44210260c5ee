/* Libraries loaded at run time: the search order, and messages if they are missing or damaged. */
#include "backend/cuda/cuda_library.h"
#include "microw/backend.h"
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char work[] = "/tmp/microw_library_XXXXXX";

static void put_file(const char *folder, const char *name, const char *from) {
    char *path = mw_path_join(folder, name), *data = NULL;
    size_t length = 0;
    NEED_OK(mw_make_directories(folder));
    if (from) NEED_OK(mw_file_read(from, &data, &length));
    NEED_OK(mw_file_write_atomic(path, data ? data : "no library", data ? length : 10));
    mw_free(data);
    mw_free(path);
}

static bool is_in(const mw_library *found, const char *folder) {
    return strncmp(found->path, folder, strlen(folder)) == 0;
}

static void test_linker(mw_library *zlib) {
    CHECK(mw_library_load("libz.so.1", zlib));
    CHECK(zlib->path[0] == '/' && !zlib->problem[0]);
    CHECK(mw_library_function(zlib, "zlibVersion") != NULL && !zlib->problem[0]);
    mw_library copy = *zlib;
    CHECK(mw_library_function(&copy, "no_such_function") == NULL);
    CHECK(strstr(copy.problem, "has no no_such_function") != NULL);
}

/* Search order: the folders in MICROW_CUDA_PATH, then a toolkit, then Python's packages. */
static void test_order(const mw_library *zlib) {
    char *venv = mw_path_join(work, "venv"), *toolkit = mw_path_join(work, "toolkit"),
         *named = mw_path_join(work, "named");
    char *packages = mw_path_join(venv, "lib/python3.12/site-packages/nvidia/cu13/lib");
    char *lib64 = mw_path_join(toolkit, "lib64"), *list = mw_format("%s/none:%s", work, named);
    mw_library found;
    setenv("VIRTUAL_ENV", venv, 1);
    setenv("CUDA_HOME", toolkit, 1);
    setenv("MICROW_CUDA_PATH", list, 1);
    CHECK(!mw_library_load("libmicrowprobe.so.9", &found));
    CHECK(strstr(found.problem, "libmicrowprobe.so.9 was not found") != NULL && !found.path[0]);
    put_file(packages, "libmicrowprobe.so.9", zlib->path);
    CHECK(mw_library_load("libmicrowprobe.so.9", &found) && is_in(&found, packages));
    put_file(lib64, "libmicrowprobe.so.9", zlib->path);
    CHECK(mw_library_load("libmicrowprobe.so.9", &found) && is_in(&found, lib64));
    put_file(named, "libmicrowprobe.so.9", zlib->path);
    CHECK(mw_library_load("libmicrowprobe.so.9", &found) && is_in(&found, named));
    mw_free(list);
    mw_free(lib64);
    mw_free(packages);
    mw_free(named);
    mw_free(toolkit);
    mw_free(venv);
}

/* A file that is not a library is named in the message, unless a library is found elsewhere. */
static void test_broken(const mw_library *zlib) {
    char *named = mw_path_join(work, "named"), *path = mw_path_join(named, "libbroken.so.9");
    char *lib64 = mw_path_join(work, "toolkit/lib64");
    mw_library found;
    put_file(named, "libbroken.so.9", NULL);
    CHECK(!mw_library_load("libbroken.so.9", &found));
    CHECK(strstr(found.problem, path) != NULL && strstr(found.problem, "was not found") == NULL);
    put_file(lib64, "libbroken.so.9", zlib->path);
    CHECK(mw_library_load("libbroken.so.9", &found) && is_in(&found, lib64) && !found.problem[0]);
    mw_free(lib64);
    mw_free(path);
    mw_free(named);
}

/* In a build with CUDA each library reports its version, or why it is not loaded. */
static void test_gpus(void) {
    mw_gpus gpus;
    NEED_OK(mw_gpus_find(&gpus));
    CHECK(gpus.n > 0 || gpus.problem[0]);
    CHECK(gpus.in_build || gpus.n_libraries == 0);
    for (int i = 0; i < gpus.n_libraries; i++) {
        const mw_gpu_library *l = &gpus.libraries[i];
        CHECK(l->name != NULL);
        CHECK(l->problem[0] || !l->path[0] || (l->found > 0 && l->made_for > 0));
        printf("%s %d, made for %d, %s%s\n", l->name, l->found, l->made_for, l->path, l->problem);
    }
    mw_gpus_free(&gpus);
}

int main(void) {
    mw_library zlib;
    NEED(mkdtemp(work) != NULL);
    test_gpus();
    test_linker(&zlib);
    test_order(&zlib);
    test_broken(&zlib);
    char *command = mw_format("rm -rf '%s'", work);
    if (command && system(command) != 0) return 1;
    mw_free(command);
    return test_end();
}
