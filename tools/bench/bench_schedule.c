/* Trains SAEs on rows in a file and measures them on other rows, one after the other.
 *     bench_schedule WIDTH TRAIN TEST < JOBS
 * TRAIN and TEST hold float32 rows [*, WIDTH]. Each line of JOBS is one training, as words key=value: variant, n, k,
 * seed (of the weights and of the order of rows), rows, save (a folder), times (a factor of the usual learning rate),
 * and any key of the section `train` of an experiment file. For each a line of JSON is printed: the job, FVU, L0, dead
 * and dense latents on TEST, FVU of the last batch, the learning rate after warm-up, and the seconds of training. */
#include "bench.h"
#include "microw/sae.h"
#include "microw/store.h"
#include "sae/step/step.h"
#include "sae/train/train_options.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef struct rows {
    const float *x;
    int64_t n;
} rows;

typedef struct job {
    mw_sae_shape shape;
    mw_train_options options;
    int64_t rows;
    double times;
    char save[512];
    mw_document document;
} job;

static rows map_rows(const char *path, int64_t width) {
    struct stat s;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &s) != 0) {
        perror(path);
        exit(1);
    }
    void *x = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (x == MAP_FAILED) exit(1);
    return (rows){x, (int64_t)(s.st_size / 4 / width)};
}

static void take_word(job *j, const char *word) {
    const char *value = strchr(word, '=');
    if (!value) {
        fprintf(stderr, "bench_schedule: expected key=value, found %s\n", word);
        exit(1);
    }
    size_t length = (size_t)(value++ - word);
    if (length == 1 && *word == 'n')
        j->shape.n = atoll(value);
    else if (length == 1 && *word == 'k')
        j->shape.k = atoll(value);
    else if (strncmp(word, "rows=", 5) == 0)
        j->rows = atoll(value);
    else if (strncmp(word, "seed=", 5) == 0)
        j->options.seed = atoll(value);
    else if (strncmp(word, "variant=", 8) == 0)
        must(mw_variant_parse(value, &j->shape.variant));
    else if (strncmp(word, "times=", 6) == 0)
        j->times = atof(value);
    else if (strncmp(word, "save=", 5) == 0)
        snprintf(j->save, sizeof j->save, "%s", value);
    else
        must(mw_document_set(&j->document, word));
}

static job read_job(char *line, int64_t width) {
    job j = {.shape = {.d = width, .n = 1024, .k = 16}, .rows = 1000000, .times = 1};
    must(mw_document_parse("job", "{}", 2, &j.document));
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) take_word(&j, word);
    int64_t seed = j.options.seed;
    must(mw_fields_bind("job", j.document.root, "train", train_option_fields, &j.options));
    j.options.seed = j.options.order_seed = seed;
    j.options.shuffle_block = 0;
    train_options_resolve(&j.options, &j.shape, j.rows);
    if (!mw_variant_uses_k(j.shape.variant)) j.shape.k = 0;
    return j;
}

/* The learning rate after warm-up. */
static double rate_of(const mw_train_options *o, const mw_sae *sae) {
    mw_train_options warm = *o;
    warm.warmup_steps = 0;
    return learning_rate(&warm, sae, 0);
}

static void run(const char *line, job *j, rows train, rows test, mw_backend *backend, mw_comm *self) {
    mw_sae *sae = NULL;
    mw_store *store = NULL;
    mw_store_view view;
    mw_step_report last;
    mw_sae_metrics m;
    must(mw_sae_new(backend, &j->shape, &sae));
    double lr = j->times * rate_of(&j->options, sae);
    j->options.lr = lr; /* a given rate, or the usual one */
    double start = mw_seconds();
    must(mw_sae_train_array(sae, train.x, train.n, self, &j->options, &last));
    double seconds = mw_seconds() - start;
    must(mw_store_of_array(test.x, test.n, j->shape.d, "0.resid_post", &store));
    must(mw_store_view_open(store, "0.resid_post", &view));
    must(mw_sae_measure(sae, &view, NULL, MW_NAN_STOP, self, &m));
    printf("{\"job\": \"%s\", \"fvu\": %.6f, \"l0\": %.3f, \"dead\": %lld, \"dense\": %lld, \"last_fvu\": %.6f, "
           "\"lr\": %.6g, \"steps\": %lld, \"seconds\": %.2f}\n",
           line, m.fvu, m.l0, (long long)m.dead, (long long)m.dense, last.fvu, lr, (long long)last.steps, seconds);
    fflush(stdout);
    if (*j->save) must(mw_sae_save(sae, j->save));
    mw_store_close(&store);
    mw_sae_free(&sae);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: bench_schedule WIDTH TRAIN TEST < JOBS\n");
        return 2;
    }
    int64_t width = atoll(argv[1]);
    rows train = map_rows(argv[2], width), test = map_rows(argv[3], width);
    mw_backend *backend = NULL;
    mw_comm *self = NULL;
    must(mw_comm_self(&self));
    must(mw_backend_open("cpu", &backend));
    char line[4096], copy[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!*line) continue;
        snprintf(copy, sizeof copy, "%s", line);
        job j = read_job(copy, width);
        run(line, &j, train, test, backend, self);
        mw_document_free(&j.document);
    }
    mw_backend_close(&backend);
    mw_comm_free(&self);
    return 0;
}
