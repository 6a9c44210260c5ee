/* Names and removal of the checkpoints in a folder. */
#include "sae/train/checkpoint_folder.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char prefix[] = "checkpoint-", suffix[] = ".safetensors";

enum { LISTED_MAX = 4096 };

char *checkpoint_path(const char *folder, int64_t step) {
    char *name = mw_format("%s%010lld%s", prefix, (long long)step, suffix);
    char *path = name ? mw_path_join(folder, name) : NULL;
    mw_free(name);
    return path;
}

/* Returns the step in the name of a checkpoint; -1: not such a name. */
static int64_t step_of(const char *name) {
    size_t length = strlen(name), before = sizeof prefix - 1, after = sizeof suffix - 1;
    char digits[24];
    int64_t step;
    if (length <= before + after || length - before - after >= sizeof digits) return -1;
    if (strncmp(name, prefix, before) != 0 || !mw_ends_with(name, suffix)) return -1;
    memcpy(digits, name + before, length - before - after);
    digits[length - before - after] = '\0';
    return mw_parse_int(digits, &step) && step >= 0 ? step : -1;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

int64_t checkpoints_list(const char *folder, int64_t *steps, int64_t most) {
    int64_t all[LISTED_MAX], count = 0;
    DIR *directory = opendir(folder);
    for (struct dirent *entry; directory && (entry = readdir(directory)) && count < LISTED_MAX;) {
        int64_t step = step_of(entry->d_name);
        if (step >= 0) all[count++] = step;
    }
    if (directory) closedir(directory);
    qsort(all, (size_t)count, sizeof *all, newest_first);
    if (count > most) count = most;
    if (count) memcpy(steps, all, (size_t)count * sizeof *steps);
    return count;
}

mw_status mw_checkpoint_newest(const char *folder, char **out) {
    int64_t step;
    *out = NULL;
    if (checkpoints_list(folder, &step, 1) == 0) return MW_OK;
    return (*out = checkpoint_path(folder, step)) ? MW_OK : MW_ERR_MEMORY;
}

void checkpoints_remove(const char *folder, const int64_t *steps, int64_t count, int64_t except) {
    for (int64_t i = 0; i < count; i++) {
        char *path = steps[i] == except ? NULL : checkpoint_path(folder, steps[i]);
        if (path) unlink(path);
        mw_free(path);
    }
}

void remove_files(const char *folder, bool (*unwanted)(const char *name)) {
    DIR *directory = opendir(folder);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char *path = unwanted(entry->d_name) ? mw_path_join(folder, entry->d_name) : NULL;
        if (path) unlink(path);
        mw_free(path);
    }
    if (directory) closedir(directory);
}

/* A checkpoint that a killed training was writing. */
static bool is_unfinished(const char *name) {
    return strncmp(name, prefix, sizeof prefix - 1) == 0 && strstr(name, ".tmp");
}

void checkpoints_prune(const char *folder, int64_t keep) {
    remove_files(folder, is_unfinished);
    int64_t steps[LISTED_MAX], count = checkpoints_list(folder, steps, LISTED_MAX);
    if (count > keep) checkpoints_remove(folder, steps + keep, count - keep, -1);
}
