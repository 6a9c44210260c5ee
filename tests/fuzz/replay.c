/* Runs a target over files and folders of inputs: the corpus, in builds without libFuzzer. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>

static int replay_file(const char *path) {
    char *data = NULL;
    size_t size = 0;
    fuzz_need(mw_file_read(path, &data, &size) == MW_OK, path);
    LLVMFuzzerTestOneInput((const uint8_t *)data, size);
    mw_free(data);
    return 1;
}

static int replay(const char *path) {
    int count = 0;
    DIR *directory = opendir(path);
    if (!directory) return replay_file(path);
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        char *inner = mw_path_join(path, entry->d_name);
        fuzz_need(inner != NULL, path);
        count += replay_file(inner);
        mw_free(inner);
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv) {
    int count = 0;
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) count += replay(argv[i]);
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
