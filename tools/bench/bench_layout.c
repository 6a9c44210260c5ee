/* Measures layouts of activations in HDF5: contiguous or chunked, aligned or not, collective or independent writes; and
 * the file system's own speed.
 *     mpirun -np N bench_layout FILE [MEGABYTES]
 * Each rank writes its blocks of a [rows, 768] data set of bf16 in turn, as a harvest does, and closes; then rank 0
 * reads random rows through HDF5, and by pread where the layout allows it. Layouts take turns, five rounds; medians. */
#include <fcntl.h>
#include <hdf5.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 768, BLOCK = 4096, ROUNDS = 5, READS = 2000 };

typedef struct way {
    const char *name;
    hsize_t chunk, align;
    int collective, raw;
} way;

static const way ways[] = {
    {"pwrite (the disk itself)", 0, 0, 0, 1},
    {"MPI-IO, collective", 0, 0, 1, 2},
    {"contiguous, collective", 0, 0, 1, 0},
    {"contiguous, independent", 0, 0, 0, 0},
    {"contiguous, collective, 1 MiB aligned", 0, 1 << 20, 1, 0},
    {"chunks of a block, collective", BLOCK, 0, 1, 0},
    {"chunks of 64 rows, collective", 64, 0, 1, 0},
    {"chunks of 64 rows, independent", 64, 0, 0, 0},
};
enum { WAYS = sizeof ways / sizeof *ways };

static int rank, size;
static hsize_t blocks;
static uint16_t block[BLOCK * WIDTH];

static double now(void) {
    MPI_Barrier(MPI_COMM_WORLD);
    return MPI_Wtime();
}

static void write_raw(const char *path, int collective_io) {
    size_t bytes = sizeof block;
    if (collective_io) {
        MPI_File file;
        MPI_File_open(MPI_COMM_WORLD, path, MPI_MODE_CREATE | MPI_MODE_WRONLY, MPI_INFO_NULL, &file);
        for (hsize_t b = (hsize_t)rank; b < blocks; b += (hsize_t)size)
            MPI_File_write_at_all(file, (MPI_Offset)(b * bytes), block, (int)bytes, MPI_BYTE, MPI_STATUS_IGNORE);
        MPI_File_sync(file);
        MPI_File_close(&file);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    for (hsize_t b = (hsize_t)rank; b < blocks; b += (hsize_t)size)
        if (pwrite(fd, block, bytes, (off_t)(b * bytes)) != (ssize_t)bytes) MPI_Abort(MPI_COMM_WORLD, 1);
    fsync(fd);
    close(fd);
}

static void write_hdf5(const char *path, const way *w) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), how = H5Pcreate(H5P_DATASET_CREATE),
          transfer = H5Pcreate(H5P_DATASET_XFER);
    hsize_t dims[2] = {blocks * BLOCK, WIDTH}, chunk[2] = {w->chunk, WIDTH}, count[2] = {BLOCK, WIDTH};
    H5Pset_fapl_mpio(access, MPI_COMM_WORLD, MPI_INFO_NULL);
    if (w->align) H5Pset_alignment(access, 1 << 16, w->align);
    if (w->chunk) H5Pset_chunk(how, 2, chunk);
    H5Pset_alloc_time(how, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(how, H5D_FILL_TIME_NEVER);
    H5Pset_dxpl_mpio(transfer, w->collective ? H5FD_MPIO_COLLECTIVE : H5FD_MPIO_INDEPENDENT);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access), space = H5Screate_simple(2, dims, NULL);
    hid_t set = H5Dcreate2(file, "x", H5T_STD_U16LE, space, H5P_DEFAULT, how, H5P_DEFAULT);
    hid_t memory = H5Screate_simple(2, count, NULL);
    for (hsize_t b = (hsize_t)rank; b < blocks; b += (hsize_t)size) {
        hsize_t start[2] = {b * BLOCK, 0};
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
        if (H5Dwrite(set, H5T_STD_U16LE, memory, space, transfer, block) < 0) MPI_Abort(MPI_COMM_WORLD, 1);
    }
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    H5Sclose(memory);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
    H5Pclose(access);
    H5Pclose(how);
    H5Pclose(transfer);
    if (rank == 0) {
        int fd = open(path, O_RDONLY);
        fsync(fd);
        close(fd);
    }
}

/* Returns the seconds in which rank 0 alone reads READS random rows. */
static double read_rows(const char *path, const way *w) {
    if (w->raw) return 0;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), set = H5Dopen2(file, "x", H5P_DEFAULT);
    hid_t space = H5Dget_space(set);
    hsize_t count[2] = {1, WIDTH};
    hid_t memory = H5Screate_simple(2, count, NULL);
    double start = MPI_Wtime();
    for (unsigned i = 0, r = 1; i < READS; i++) {
        r = r * 1103515245u + 12345u;
        hsize_t at[2] = {r / 16 % (blocks * BLOCK), 0};
        H5Sselect_hyperslab(space, H5S_SELECT_SET, at, NULL, count, NULL);
        H5Dread(set, H5T_STD_U16LE, memory, space, H5P_DEFAULT, block);
    }
    double seconds = MPI_Wtime() - start;
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(set);
    H5Fclose(file);
    return seconds;
}

/* Returns the seconds of the same reads by pread at the data set's offset, which needs contiguous data. */
static double read_direct(const char *path, const way *w) {
    if (w->raw || w->chunk) return 0;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), set = H5Dopen2(file, "x", H5P_DEFAULT);
    haddr_t place = H5Dget_offset(set);
    H5Dclose(set);
    H5Fclose(file);
    int fd = open(path, O_RDONLY);
    double start = MPI_Wtime();
    for (unsigned i = 0, r = 1; i < READS; i++) {
        r = r * 1103515245u + 12345u;
        off_t at = (off_t)(place + (r / 16 % (blocks * BLOCK)) * WIDTH * 2);
        if (pread(fd, block, WIDTH * 2, at) != WIDTH * 2) MPI_Abort(MPI_COMM_WORLD, 1);
    }
    double seconds = MPI_Wtime() - start;
    close(fd);
    return seconds;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x) {
    qsort(x, ROUNDS, sizeof *x, by_size);
    return x[ROUNDS / 2];
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc < 2) return fprintf(stderr, "bench_layout FILE [MEGABYTES]\n"), 2;
    double megabytes = argc > 2 ? atof(argv[2]) : 256;
    blocks = (hsize_t)(megabytes * 1e6 / sizeof block / size) * (hsize_t)size;
    for (int i = 0; i < BLOCK * WIDTH; i++) block[i] = (uint16_t)(i * 31);
    double written[WAYS][ROUNDS], read[WAYS][ROUNDS], direct[WAYS][ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        for (int w = 0; w < WAYS; w++) {
            if (rank == 0) unlink(argv[1]);
            double start = now();
            if (ways[w].raw)
                write_raw(argv[1], ways[w].raw == 2);
            else
                write_hdf5(argv[1], &ways[w]);
            written[w][round] = now() - start;
            if (rank == 0) read[w][round] = read_rows(argv[1], &ways[w]);
            if (rank == 0) direct[w][round] = read_direct(argv[1], &ways[w]);
            MPI_Barrier(MPI_COMM_WORLD);
        }
    double bytes = (double)blocks * (double)sizeof block, disk = rank == 0 ? median(written[0]) : 1;
    if (rank == 0)
        printf("%d ranks, %.0f MB\n%-40s %10s %8s %16s %12s\n", size, bytes / 1e6, "", "MB/s", "of disk",
               "row, HDF5 (us)", "pread (us)");
    for (int w = 0; w < WAYS && rank == 0; w++) {
        double seconds = w ? median(written[w]) : disk;
        printf("%-40s %10.0f %7.0f %%", ways[w].name, bytes / seconds / 1e6, 100 * disk / seconds);
        if (!ways[w].raw) printf(" %16.1f", 1e6 * median(read[w]) / READS);
        if (!ways[w].raw && !ways[w].chunk) printf(" %12.1f", 1e6 * median(direct[w]) / READS);
        printf("\n");
    }
    if (rank == 0) unlink(argv[1]);
    MPI_Finalize();
    return 0;
}
