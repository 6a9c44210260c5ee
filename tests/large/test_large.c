/* Sizes beyond 32 bits, with small widths and sparse files, one case per run:
 *     MICROW_LARGE=1 ctest --preset release -L large
 * Each takes up to three minutes, 8 GiB of memory and 12 GB of disk below $TMPDIR. Without MICROW_LARGE they are
 * skipped. */
#include "comm/message_limit.h"
#include "ranks.h"
#include "store.h"
#include "store/harvest_file.h"

#include <sys/mman.h>
#include <unistd.h>

#define BORDER ((int64_t)1 << 32)
#define HALF ((int64_t)1 << 31)

static mw_comm *world;
static char folder[256];
static int rank, size;

/* As much memory as is written to: what is only read is the same page of zeros. */
static void *zeros(int64_t bytes) {
    void *map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(map != MAP_FAILED);
    madvise(map, (size_t)bytes, MADV_NOHUGEPAGE);
    return map;
}

static const mw_site site[1] = {{0, MW_RESID_POST}};
static const mw_pair provenance[] = {{"model_sha256", "none"}};
/* One sequence of all rows, in the blocks of `block_row`, in bf16; released by free_layout. */
static test_store make_layout(int64_t rows, int64_t blocks, const uint64_t *block_row, const int64_t *width) {
    test_store s = test_store_make(&(test_store_shape){site, width, 1, rows, rows, rows, zeros(rows * 4)});
    s.layout.n_blocks = blocks;
    s.layout.block_row = block_row;
    s.layout.dtype = MW_BF16;
    s.layout.provenance = provenance;
    s.layout.n_provenance = 1;
    return s;
}

static void free_layout(test_store *s) {
    munmap((void *)(uintptr_t)s->layout.ids, (size_t)s->layout.n_rows * 4);
    test_store_free(s);
}

static const uint16_t one_of_bf16 = 0x3f80;

static mw_store *open_made(void) {
    mw_store *store = NULL;
    char *path = mw_path_join(folder, "activations.h5");
    NEED_OK(mw_store_open(path, &store));
    mw_free(path);
    return store;
}

/* Blocks x width x 8 bytes of sums: what a harvest of logits, or a long one, adds up at its end. */
static void block_sums(void) {
    const int64_t width = 50257, blocks = 10700; /* 4.3 GB of sums */
    uint64_t *row = mw_alloc((size_t)(blocks + 1) * sizeof *row);
    uint16_t *values = mw_calloc((size_t)width, sizeof *values);
    double *mean = mw_alloc((size_t)width * sizeof *mean);
    NEED(row && values && mean && blocks * width * 8 > BORDER);
    for (int64_t b = 0; b <= blocks; b++) row[b] = (uint64_t)b;
    test_store made = make_layout(blocks, blocks, row, &width);
    mw_store_writer *writer = NULL;
    int64_t first = 0;
    NEED_OK(mw_store_writer_open(folder, &made.layout, world, &writer, &first));
    for (int64_t b = 0; b < blocks; b += size) {
        int64_t own = b + rank < blocks ? b + rank : -1;
        for (int64_t i = 0; i < width; i++) values[i] = own % 4 == i % 4 ? one_of_bf16 : 0;
        const void *given[] = {values};
        NEED_OK(mw_store_write_blocks(writer, own, given, b + size < blocks ? b + size : blocks, MW_OK));
    }
    NEED_OK(mw_store_writer_finish(writer));
    mw_store_writer_free(&writer);
    free_layout(&made);
    mw_store *store = open_made();
    NEED_OK(mw_store_read_mean(store, mw_store_site_at(store, 0), mean));
    for (int64_t i = 0; i < width; i++) CHECK(mean[i] == 0.25);
    mw_store_close(&store);
    mw_free(row);
    mw_free(values);
    mw_free(mean);
}

/* More than 2^31 bytes in each column that is known beforehand, and more than 2^32 in one block. */
static void tokens(void) {
    const int64_t width = 4, rows = HALF / 4 + 4096;
    const uint64_t row[] = {0, (uint64_t)rows - 64, (uint64_t)rows};
    test_store made = make_layout(rows, 2, row, &width);
    mw_store_writer *writer = NULL;
    int64_t first = 0;
    void *values = zeros(rows * width * 2);
    for (int64_t i = 0; i < 64; i++) ((uint16_t *)values)[i] = one_of_bf16;
    const void *given[] = {values};
    NEED_OK(mw_store_writer_open(folder, &made.layout, world, &writer, &first));
    if (size == 1) {
        NEED_OK(mw_store_write_blocks(writer, 0, given, 1, MW_OK));
        NEED_OK(mw_store_write_blocks(writer, 1, given, 2, MW_OK));
    } else {
        NEED_OK(mw_store_write_blocks(writer, rank < 2 ? rank : -1, given, 2, MW_OK));
    }
    NEED_OK(mw_store_writer_finish(writer));
    mw_store_writer_free(&writer);
    free_layout(&made);
    munmap(values, (size_t)(rows * width) * 2);
    if (rank != 0) return;
    mw_store *store = open_made();
    const mw_store_site *s = mw_store_site_at(store, 0);
    mw_store_tokens t;
    CHECK(fabs(s->square_mean - 128.0 / (double)rows) < 1e-18);
    if (size == 1) { /* 6.4 GB */
        NEED_OK(mw_store_read_tokens(store, &t));
        mw_store_span last = mw_store_span_of(&t, rows - 1);
        CHECK(t.n_rows == rows && last.begin == 0 && last.end == rows && last.document == 0);
        mw_store_tokens_free(&t);
    }
    mw_store_close(&store);
}

/* A file as a writer leaves it that was killed behind its first block, without what is in that block. */
static void leave_behind(const mw_store_layout *p) {
    static const char *const groups[] = {"/tokens",     "/sequences", "/documents",         "/blocks",
                                         "/vocabulary", "/sites",     "/sites/0.resid_post"};
    char *path = mw_path_join(folder, "activations.h5.partial"), *progress = mw_path_join(folder, "progress.json");
    hid_t file;
    NEED_OK(mw_make_directories(folder));
    NEED_OK(h5_create(path, NULL, &file));
    NEED_OK(h5_put_int(file, path, "schema", MW_STORE_SCHEMA));
    NEED_OK(h5_put_int(file, path, "complete", 0));
    NEED_OK(h5_put_text(file, path, provenance[0].key, provenance[0].value));
    for (int i = 0; i < 7; i++) NEED_OK(h5_make_group(file, path, groups[i]));
    const struct {
        const char *name, *dtype;
        hid_t type;
        int64_t rows, columns;
        const void *data;
        hid_t given;
    } sets[] = {{"/tokens/ids", NULL, H5T_STD_U32LE, p->n_rows, 0, NULL, 0},
                {"/tokens/sequence", NULL, H5T_STD_U32LE, p->n_rows, 0, NULL, 0},
                {"/tokens/position", NULL, H5T_STD_U32LE, p->n_rows, 0, NULL, 0},
                {"/sequences/document", NULL, H5T_STD_U64LE, 1, 0, p->document, H5T_NATIVE_UINT64},
                {"/sequences/offset", NULL, H5T_STD_U64LE, 1, 0, p->offset, H5T_NATIVE_UINT64},
                {"/sequences/length", NULL, H5T_STD_U64LE, 1, 0, p->length, H5T_NATIVE_UINT64},
                {"/documents/place", NULL, H5T_STD_I64LE, 1, 3, p->documents, H5T_NATIVE_INT64},
                {"/documents/row", NULL, H5T_STD_U64LE, 2, 0, p->document_row, H5T_NATIVE_UINT64},
                {"/blocks/row", NULL, H5T_STD_U64LE, p->n_blocks + 1, 0, p->block_row, H5T_NATIVE_UINT64},
                {"/vocabulary/offset", NULL, H5T_STD_U64LE, 2, 0, p->vocabulary_offset, H5T_NATIVE_UINT64},
                {"/vocabulary/bytes", NULL, H5T_STD_U8LE, 1, 0, "x", H5T_NATIVE_UINT8},
                {"/sites/0.resid_post/values", "bf16", H5T_STD_U16LE, p->n_rows, 1, NULL, 0},
                {"/sites/0.resid_post/mean", NULL, H5T_IEEE_F64LE, 1, 0, NULL, 0},
                {"/sites/0.resid_post/norm_mean", NULL, H5T_IEEE_F64LE, 1, 0, NULL, 0},
                {"/sites/0.resid_post/square_mean", NULL, H5T_IEEE_F64LE, 1, 0, NULL, 0},
                {"/sites/0.resid_post/block_sum", NULL, H5T_IEEE_F64LE, p->n_blocks, 1, NULL, 0},
                {"/sites/0.resid_post/block_norm", NULL, H5T_IEEE_F64LE, p->n_blocks, 2, NULL, 0},
                {"/sites/0.resid_post/checksum", NULL, H5T_STD_U64LE, p->n_blocks, 0, NULL, 0}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        NEED_OK(h5_make_data(file, path, sets[i].name, sets[i].type, sets[i].rows, sets[i].columns, sets[i].dtype));
        if (sets[i].data)
            NEED_OK(h5_write_rows(file, path, sets[i].name, sets[i].given, 0, sets[i].rows, sets[i].columns,
                                  sets[i].data, NULL));
    }
    NEED_OK(h5_close(file, path, MW_OK));
    NEED_OK(mw_file_write_atomic(progress, "{\"blocks_done\": 1}\n", 19));
    mw_free(path);
    mw_free(progress);
}

/* Rows behind 2^32: a sparse file is gone on with, and read. */
static void rows(void) {
    const int64_t width = 1, count = BORDER + 128;
    const uint64_t row[] = {0, (uint64_t)BORDER, (uint64_t)BORDER + 64, (uint64_t)BORDER + 128};
    test_store made = make_layout(count, 3, row, &width);
    mw_store_writer *writer = NULL;
    uint16_t values[64];
    int64_t first = 0;
    if (rank == 0) leave_behind(&made.layout);
    NEED_OK(mw_comm_barrier(world));
    NEED_OK(mw_store_writer_open(folder, &made.layout, world, &writer, &first));
    CHECK(first == 1);
    for (int64_t b = 1; b < 3; b += size) {
        int64_t own = b + rank < 3 ? b + rank : -1;
        const void *given[] = {values};
        for (int i = 0; i < 64; i++) values[i] = own == 1 ? one_of_bf16 : one_of_bf16 + 0x80; /* 1 and 2 */
        NEED_OK(mw_store_write_blocks(writer, own, given, b + size < 3 ? b + size : 3, MW_OK));
    }
    NEED_OK(mw_store_writer_finish(writer));
    mw_store_writer_free(&writer);
    free_layout(&made);
    mw_store *store = open_made();
    const int64_t wanted[] = {5, BORDER - 1, BORDER, BORDER + 63, BORDER + 64, BORDER + 127};
    const float right[] = {0, 0, 1, 1, 2, 2};
    float x[128];
    CHECK(mw_store_rows(store) == count);
    CHECK(fabs(mw_store_site_at(store, 0)->norm_mean * (double)count - 192) < 1e-6);
    NEED_OK(mw_store_read_rows(store, mw_store_site_at(store, 0), wanted, 6, x));
    CHECK(memcmp(x, right, sizeof right) == 0);
    NEED_OK(mw_store_read_range(store, mw_store_site_at(store, 0), BORDER - 10, 128, x));
    CHECK(x[9] == 0 && x[10] == 1 && x[73] == 1 && x[74] == 2);
    mw_store_close(&store);
}

/* Files of arrays: bytes of text behind 2^32, and more than 2^31 bytes of numbers in two dimensions. */
static void arrays(void) {
    const int64_t bytes = BORDER + 100, lines = HALF / 24 + 100;
    if (rank != 0) return;
    char *path = mw_path_join(folder, "arrays.h5"), *text = zeros(bytes);
    int64_t *numbers = zeros(lines * 24);
    NEED_OK(mw_make_directories(folder));
    text[bytes - 1] = 'z';
    numbers[lines * 3 - 1] = -7;
    mw_array given[] = {{"vocabulary/bytes", MW_ARRAY_U8, bytes, 0, text},
                        {"documents", MW_ARRAY_I64, lines, 3, numbers}};
    NEED_OK(mw_arrays_save(path, given, 2, provenance, 1));
    munmap(text, (size_t)bytes);
    munmap(numbers, (size_t)lines * 24);
    mw_arrays *file = NULL;
    int64_t n = -1, columns = 0, three = 3;
    void *read = NULL;
    NEED_OK(mw_arrays_open(path, &file));
    NEED_OK(mw_arrays_read(file, "vocabulary/bytes", MW_ARRAY_U8, &n, &columns, &read));
    CHECK(n == bytes && ((char *)read)[n - 1] == 'z' && ((char *)read)[n - 2] == 0);
    mw_free(read);
    n = -1;
    NEED_OK(mw_arrays_read(file, "documents", MW_ARRAY_I64, &n, &three, &read));
    CHECK(n == lines && ((int64_t *)read)[3 * n - 1] == -7 && ((int64_t *)read)[3 * n - 2] == 0);
    mw_free(read);
    mw_arrays_close(&file);
    mw_free(path);
}

/* MPI exchanges of more than 2^31 bytes in one call. */
static void exchange(void) {
    const int64_t numbers = HALF / 8 + 1000, bytes = numbers * 8, half = bytes / size;
    int64_t *all = mw_calloc((size_t)numbers, 8);
    NEED(all != NULL);
    all[numbers - 1] = rank + 1;
    NEED_OK(mw_comm_allreduce_sum(world, all, numbers));
    CHECK(all[numbers - 1] == size * (size + 1) / 2 && all[0] == 0);
    double *largest = (double *)all;
    largest[numbers - 1] = rank;
    NEED_OK(mw_comm_allreduce_max(world, largest, numbers));
    CHECK(largest[numbers - 1] == size - 1);
    memset(all, 0, (size_t)bytes);
    if (rank == 0) ((char *)all)[bytes - 1] = 9;
    NEED_OK(mw_comm_allreduce_or(world, all, (size_t)bytes));
    CHECK(((char *)all)[bytes - 1] == 9);
    memset(all, 0, (size_t)bytes);
    ((char *)all)[(rank + 1) * half - 1] = (char)(rank + 1);
    NEED_OK(mw_comm_allgather(world, (char *)all + rank * half, (size_t)half, all));
    for (int r = 0; r < size; r++) CHECK(((char *)all)[(r + 1) * half - 1] == r + 1 && ((char *)all)[r * half] == 0);
    mw_free(all);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"block_sums", block_sums}, {"tokens", tokens}, {"rows", rows}, {"arrays", arrays}, {"exchange", exchange}};

int main(int argc, char **argv) {
    if (!mw_environment("MICROW_LARGE")) return TEST_SKIPPED;
    NEED_OK(mw_comm_world(&argc, &argv, &world));
    rank = mw_comm_rank(world);
    size = mw_comm_size(world);
    const char *below = mw_environment("TMPDIR");
    snprintf(folder, sizeof folder, "%s/microw-large-XXXXXX", below ? below : "/tmp");
    if (rank == 0) NEED(mkdtemp(folder) != NULL);
    NEED_OK(mw_comm_broadcast(world, folder, sizeof folder, 0));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0) continue;
        printf("%s\n", cases[i].name);
        cases[i].run();
    }
    NEED_OK(mw_comm_barrier(world));
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (rank == 0) CHECK(system(command) == 0);
    return test_end_of_ranks(&world);
}
