/* bench_tokenizer TOKENIZER FILE: encodes the file's lines once, prints megabytes per second and the number of ids. */
#include "microw/tokenizer.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    mw_tokenizer *t = NULL;
    char *text = NULL;
    size_t length = 0;
    mw_ids ids = {0};
    if (argc != 3 || mw_tokenizer_open(argv[1], &t) != MW_OK || mw_file_read(argv[2], &text, &length) != MW_OK)
        return 1;
    double start = mw_seconds();
    for (char *line = text, *end = text + length; line < end;) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((stop ? stop : end) - line);
        if (mw_tokenizer_encode(t, line, n, &ids) != MW_OK) return 1;
        line += n + 1;
    }
    printf("%.3f %lld\n", (double)length / 1e6 / (mw_seconds() - start), (long long)ids.count);
    mw_ids_free(&ids);
    mw_free(text);
    mw_tokenizer_free(&t);
    return 0;
}
