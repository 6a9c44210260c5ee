/* Measures writes and reads of activations as harvest and training do them, and the file system's own speed, in turns
 * in one run; medians.
 *     [mpirun -n R] bench_io FOLDER [--megabytes N] [--rounds N] [--json]
 * write: raw    each rank writes its blocks of ready bf16 into one file, then all sync it
 *        store  the same rows, given as f32, as a harvest writes them: converted, summed with checksums in a second
 *               thread, and in a third one written into HDF5, synced
 *        each after an untimed raw write, into the memory that it leaves
 * read:  raw    the file from its beginning, 4 MB at a time (rank 0 alone reads)
 *        blocks, rows   batches of 4096 in the two orders of training (train.shuffle), as f32
 *        each with the file dropped from the page cache (cold), and again (warm)
 * Speeds are of stored bytes. */
#include "../../tests/store.h"
#include "bench.h"
#include "harvest/write_queue.h"
#include "sae/rows/feed.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 768, BLOCK = 2048, BATCH = 4096, ROUNDS_MAX = 31, PIECE = 1 << 22, LENGTH = 128 };

typedef enum measure {
    WRITE_RAW,
    WRITE_STORE,
    COLD_RAW,
    COLD_BLOCKS,
    COLD_ROWS,
    WARM_RAW,
    WARM_BLOCKS,
    WARM_ROWS,
    MEASURES
} measure;
static const char *const names[MEASURES] = {"write_raw", "write_store", "cold_raw",    "cold_blocks",
                                            "cold_rows", "warm_raw",    "warm_blocks", "warm_rows"};

static const mw_site site = {.kind = MW_RESID_PRE};
static const int64_t width = WIDTH;

typedef struct bench {
    mw_comm *comm, *writing;
    mw_backend *cpu;
    const char *folder;
    char *raw, *store;
    int64_t blocks, rows;
    float *x;      /* a block */
    uint16_t *x16; /* the same as it is stored */
    test_store made;
    double seconds[MEASURES][ROUNDS_MAX];
} bench;

/* ---- writing --------------------------------------------------------------------------------------------- */

static void write_raw(bench *t) {
    int ranks = mw_comm_size(t->comm), rank = mw_comm_rank(t->comm);
    size_t bytes = BLOCK * WIDTH * sizeof *t->x16;
    int fd = open(t->raw, O_CREAT | O_WRONLY, 0666);
    if (fd < 0) exit(1);
    for (int64_t b = rank; b < t->blocks; b += ranks)
        if (pwrite(fd, t->x16, bytes, (off_t)((size_t)b * bytes)) != (ssize_t)bytes) exit(1);
    if (fsync(fd) != 0) exit(1);
    close(fd);
}

/* Blocks pass through a ring that the writer's threads empty, as in a harvest. One thread converts: those of OpenMP
 * would spin afterwards, where a harvest's compute the next block, or a GPU does. */
static void write_store(bench *t) {
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    mw_store_writer *w = NULL;
    write_queue *queue = NULL;
    int64_t first, ranks = mw_comm_size(t->comm), rank = mw_comm_rank(t->comm);
    must(mw_store_writer_open(t->folder, &t->made.layout, t->writing, &w, &first));
    must(write_queue_open(w, &t->made.layout, t->cpu, mw_comm_threads(t->writing), &queue));
    for (int64_t b = 0; b < t->blocks; b += ranks) {
        queue_slot *slot = write_queue_acquire(queue);
        if (!slot) exit(1);
        *slot = (queue_slot){.block = b + rank < t->blocks ? b + rank : -1,
                             .done = b + ranks < t->blocks ? b + ranks : t->blocks,
                             .values = slot->values};
        must(t->cpu->ops->convert(t->cpu, MW_BF16, slot->values[0], t->x, BLOCK * WIDTH));
        write_queue_submit(queue);
    }
    must(write_queue_close(&queue));
    must(mw_store_writer_finish(w));
    mw_store_writer_free(&w);
    omp_set_num_threads(threads);
}

/* Removes the files of earlier writes, and leaves the page cache as much free memory as a write needs: where the system
 * must find it anew (a virtual machine, from its host), the first write after other work takes three times as long. */
static void make_room(bench *t) {
    write_raw(t);
    must(mw_comm_barrier(t->comm));
    if (mw_comm_rank(t->comm) == 0) {
        unlink(t->raw);
        unlink(t->store);
        sync();
    }
}

/* ---- reading --------------------------------------------------------------------------------------------- */

static void read_raw(bench *t) {
    static char piece[PIECE];
    int fd = open(t->store, O_RDONLY);
    if (fd < 0) exit(1);
    while (read(fd, piece, sizeof piece) > 0) continue;
    close(fd);
}

static void read_order(bench *t, int64_t block) {
    mw_store *store = NULL;
    mw_store_view view;
    feed f;
    const mw_train_options o = {.batch = BATCH, .shuffle_block = block, .shuffle_window = 128};
    float *x = some(BATCH * WIDTH, sizeof *x);
    must(mw_store_open(t->store, &store));
    must(mw_store_view_open(store, "0.resid_pre", &view));
    must(feed_open(&view, NULL, &o, &f));
    for (int64_t r = 0; r + BATCH <= t->rows; r += BATCH) must(feed_read(&f, r, BATCH, x, NULL));
    feed_close(&f);
    mw_store_close(&store);
    mw_free(x);
}

static void read_blocks(bench *t) {
    read_order(t, 16);
}

static void read_rows(bench *t) {
    read_order(t, 0);
}

/* ---- all measurements ------------------------------------------------------------------------------------------- */

/* Times `what` on all ranks, or on rank 0 alone for reads; the slowest rank counts. */
static void timed(bench *t, measure m, int round, void (*what)(bench *)) {
    bool all = m <= WRITE_STORE;
    must(mw_comm_barrier(t->comm));
    double seconds = mw_seconds();
    if (all || mw_comm_rank(t->comm) == 0) what(t);
    seconds = mw_seconds() - seconds;
    must(mw_comm_allreduce_max(t->comm, &seconds, 1));
    if (round >= 0) t->seconds[m][round] = seconds;
}

static void one_round(bench *t, int round) {
    static void (*const readers[])(bench *) = {read_raw, read_blocks, read_rows};
    make_room(t);
    timed(t, WRITE_RAW, round, write_raw);
    make_room(t);
    timed(t, WRITE_STORE, round, write_store);
    for (int i = 0; i < 3; i++) {
        forget(t->store);
        timed(t, COLD_RAW + i, round, readers[i]);
        timed(t, WARM_RAW + i, round, readers[i]);
    }
}

static void print_rates(bench *t, int rounds, bool json) {
    double rate[MEASURES], megabytes = (double)(t->rows * WIDTH) * 2 / 1e6;
    for (int m = 0; m < MEASURES; m++) rate[m] = megabytes / median(t->seconds[m], rounds);
    if (json) {
        printf("{\"ranks\":%d,\"megabytes\":%.1f", mw_comm_size(t->comm), megabytes);
        for (int m = 0; m < MEASURES; m++) printf(",\"%s_mb_per_s\":%.1f", names[m], rate[m]);
        printf("}\n");
        return;
    }
    printf("%.0f MB of bf16, %lld rows of %d, %d rank%s\n", megabytes, (long long)t->rows, WIDTH, mw_comm_size(t->comm),
           mw_comm_size(t->comm) > 1 ? "s" : "");
    for (int m = 0; m < MEASURES; m++) {
        measure raw = m <= WRITE_STORE ? WRITE_RAW : m < WARM_RAW ? COLD_RAW : WARM_RAW;
        printf("  %-12s %8.0f MB/s %6.0f %% of raw, %9.0f rows/s\n", names[m], rate[m], 100 * rate[m] / rate[raw],
               rate[m] * 1e6 / (2 * WIDTH));
    }
}

int main(int argc, char **argv) {
    bench t = {0};
    int64_t megabytes = 512;
    int rounds = 5;
    bool json = false;
    must(mw_comm_world(&argc, &argv, &t.comm));
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--megabytes") == 0 && i + 1 < argc)
            megabytes = atoll(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = atoi(argv[++i]);
        else
            t.folder = argv[i];
    }
    if (!t.folder || megabytes < 8 || rounds < 1 || rounds > ROUNDS_MAX)
        return fprintf(stderr, "bench_io FOLDER [--megabytes N] [--rounds N] [--json]\n"), 2;
    mw_memory_keep();
    must(mw_backend_open("cpu", &t.cpu));
    must(mw_comm_duplicate(t.comm, &t.writing));
    t.blocks = megabytes * 1000000 / (BLOCK * WIDTH * 2) + 1;
    t.rows = t.blocks * BLOCK;
    t.raw = mw_path_join(t.folder, "raw");
    t.store = mw_path_join(t.folder, "activations.h5");
    t.x = some(BLOCK * WIDTH, sizeof *t.x);
    t.x16 = some(BLOCK * WIDTH, sizeof *t.x16);
    for (int64_t i = 0; i < BLOCK * WIDTH; i++) t.x[i] = mw_rng_normal(1, 0, (uint64_t)i);
    must(mw_convert_from_f32(MW_BF16, t.x, BLOCK * WIDTH, t.x16));
    t.made = test_store_make(&(test_store_shape){&site, &width, 1, t.rows, LENGTH, BLOCK, NULL});
    t.made.layout.dtype = MW_BF16;
    for (int r = -1; r < rounds; r++) one_round(&t, r);
    if (mw_comm_rank(t.comm) == 0) {
        print_rates(&t, rounds, json);
        unlink(t.raw);
        unlink(t.store);
    }
    test_store_free(&t.made);
    mw_backend_close(&t.cpu);
    mw_comm_free(&t.writing);
    mw_comm_free(&t.comm);
    return 0;
}
