/* What this machine can still give. */
#include "microw/base.h"

#include <stdio.h>
#include <string.h>

/* First number behind a word in a small text file; `otherwise` where there is none. */
static uint64_t number_in(const char *path, const char *word, uint64_t otherwise) {
    char line[256];
    unsigned long long value = 0;
    uint64_t found = otherwise;
    FILE *file = fopen(path, "re");
    while (file && found == otherwise && fgets(line, sizeof line, file))
        if (strncmp(line, word, strlen(word)) == 0 && sscanf(line + strlen(word), " %llu", &value) == 1) found = value;
    if (file) fclose(file);
    return found;
}

/* What the job's control group (version 2) leaves, as Slurm and containers set it. */
static uint64_t left_in_group(void) {
    char line[512] = "", path[640], *group = NULL;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && !group && fgets(line, sizeof line, file))
        if (strncmp(line, "0::", 3) == 0) group = line + 3;
    if (file) fclose(file);
    if (!group) return UINT64_MAX;
    group[strcspn(group, "\n")] = '\0';
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
    uint64_t limit = number_in(path, "", UINT64_MAX); /* "max" is no number */
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", group);
    uint64_t used = number_in(path, "", 0);
    return limit == UINT64_MAX ? limit : limit > used ? limit - used : 0;
}

uint64_t mw_free_memory(void) {
    uint64_t machine = number_in("/proc/meminfo", "MemAvailable:", 0) * 1024, group = left_in_group();
    return machine && machine < group ? machine : group == UINT64_MAX ? machine : group;
}
