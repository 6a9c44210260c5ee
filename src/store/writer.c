/* Writes a store: the layout first, activations block by block, means at the end; resumes interrupted files. */
#include "base/json.h"
#include "store/block_digest.h"
#include "store/harvest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FLUSH_STEPS = 16, FLUSH_SECONDS = 2, SUM_BYTES = 1 << 24 };

struct mw_store_writer {
    const mw_store_layout *layout;
    const mw_comm *comm;
    hid_t file;
    char *final, *partial, *progress;
    digester digester; /* for mw_store_write_blocks, as digest */
    block_digest digest;
    int64_t steps, done; /* done: complete blocks */
    double flushed;      /* time of the last flush */
    ino_t inode;         /* of the partial file, on rank 0 */
    int writeback_fd;    /* second descriptor of the file, see start_writeback; -1: none */
};

/* HDF5 1.10 has no f16, so the type is composed; bf16 is stored as u16. */
static hid_t make_type(mw_dtype dtype) {
    if (dtype != MW_F16) return H5Tcopy(dtype == MW_F32 ? H5T_IEEE_F32LE : H5T_STD_U16LE);
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

/* ---- creating ------------------------------------------------------------------------------------------ */

static mw_status make_site(const mw_store_writer *w, int64_t s) {
    const mw_store_layout *layout = w->layout;
    char name[STORE_NAME];
    store_site_name(layout->sites[s], "", name);
    MW_TRY(h5_make_group(w->file, w->partial, name));
    store_site_name(layout->sites[s], "values", name);
    hid_t type = make_type(layout->dtype);
    mw_status status =
        h5_make_data(w->file, w->partial, name, type, layout->n_rows, layout->widths[s], mw_dtype_name(layout->dtype));
    H5Tclose(type);
    if (status != MW_OK) return status;
    struct {
        const char *what;
        hid_t type;
        int64_t rows, columns;
    } const rest[] = {{"mean", H5T_IEEE_F64LE, layout->widths[s], 0},
                      {"norm_mean", H5T_IEEE_F64LE, 1, 0},
                      {"square_mean", H5T_IEEE_F64LE, 1, 0},
                      {"block_sum", H5T_IEEE_F64LE, layout->n_blocks, layout->widths[s]},
                      {"block_norm", H5T_IEEE_F64LE, layout->n_blocks, 2},
                      {"checksum", H5T_STD_U64LE, layout->n_blocks, 0},
                      {"block_rows", H5T_STD_U64LE, layout->n_blocks, 0}}; /* rows in the sums, with keep_nan only */
    size_t count = sizeof rest / sizeof *rest - (layout->keep_nan ? 0 : 1);
    for (size_t i = 0; i < count; i++) {
        store_site_name(layout->sites[s], rest[i].what, name);
        MW_TRY(h5_make_data(w->file, w->partial, name, rest[i].type, rest[i].rows, rest[i].columns, NULL));
    }
    return MW_OK;
}

typedef struct column {
    const char *name;
    hid_t stored, in_memory;
    int64_t count, width;
    const void *data;
} column;

/* Lists the data sets of the layout, each 1-D (documents: 3 columns). */
static int list_columns(const mw_store_layout *layout, column out[12]) {
    int n = 0;
    out[n++] = (column){"/tokens/ids", H5T_STD_U32LE, H5T_NATIVE_UINT32, layout->n_rows, 0, layout->ids};
    out[n++] = (column){"/tokens/sequence", H5T_STD_U32LE, H5T_NATIVE_UINT32, layout->n_rows, 0, layout->sequence};
    out[n++] = (column){"/tokens/position", H5T_STD_U32LE, H5T_NATIVE_UINT32, layout->n_rows, 0, layout->position};
    out[n++] =
        (column){"/sequences/document", H5T_STD_U64LE, H5T_NATIVE_UINT64, layout->n_sequences, 0, layout->document};
    out[n++] = (column){"/sequences/offset", H5T_STD_U64LE, H5T_NATIVE_UINT64, layout->n_sequences, 0, layout->offset};
    out[n++] = (column){"/sequences/length", H5T_STD_U64LE, H5T_NATIVE_UINT64, layout->n_sequences, 0, layout->length};
    out[n++] = (column){"/documents/place", H5T_STD_I64LE, H5T_NATIVE_INT64, layout->n_documents, 3, layout->documents};
    out[n++] =
        (column){"/documents/row", H5T_STD_U64LE, H5T_NATIVE_UINT64, layout->n_documents + 1, 0, layout->document_row};
    out[n++] = (column){"/blocks/row", H5T_STD_U64LE, H5T_NATIVE_UINT64, layout->n_blocks + 1, 0, layout->block_row};
    out[n++] = (column){"/vocabulary/offset",     H5T_STD_U64LE, H5T_NATIVE_UINT64, layout->n_vocabulary + 1, 0,
                        layout->vocabulary_offset};
    out[n++] = (column){"/vocabulary/bytes",
                        H5T_STD_U8LE,
                        H5T_NATIVE_UINT8,
                        (int64_t)layout->vocabulary_offset[layout->n_vocabulary],
                        0,
                        layout->vocabulary_bytes};
    return n;
}

static mw_status make_file(const mw_store_writer *w) {
    const mw_store_layout *layout = w->layout;
    static const char *const groups[] = {"/tokens", "/sequences", "/documents", "/blocks", "/vocabulary", "/sites"};
    MW_TRY(h5_put_int(w->file, w->partial, "schema", MW_STORE_SCHEMA));
    MW_TRY(h5_put_int(w->file, w->partial, "complete", 0));
    for (int64_t i = 0; i < layout->n_provenance; i++)
        MW_TRY(h5_put_text(w->file, w->partial, layout->provenance[i].key, layout->provenance[i].value));
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) MW_TRY(h5_make_group(w->file, w->partial, groups[i]));
    column columns[12];
    int n = list_columns(layout, columns);
    for (int i = 0; i < n; i++)
        MW_TRY(h5_make_data(w->file, w->partial, columns[i].name, columns[i].stored, columns[i].count, columns[i].width,
                            NULL));
    for (int64_t s = 0; s < layout->n_sites; s++) MW_TRY(make_site(w, s));
    return MW_OK;
}

/* Each rank writes its share of each column. */
static mw_status write_columns(const mw_store_writer *w) {
    column columns[12];
    int n = list_columns(w->layout, columns);
    for (int i = 0; i < n; i++) {
        const column *c = &columns[i];
        int64_t begin, end;
        mw_comm_share(mw_comm_rank(w->comm), mw_comm_size(w->comm), c->count, 1, &begin, &end);
        size_t item = H5Tget_size(c->in_memory) * (size_t)(c->width ? c->width : 1);
        mw_status status = h5_write_rows(w->file, w->partial, c->name, c->in_memory, begin, end - begin, c->width,
                                         (const char *)c->data + (size_t)begin * item, w->comm);
        MW_TRY(mw_comm_agree(w->comm, status));
    }
    return MW_OK;
}

/* ---- progress and resuming ----------------------------------------------------------------------------- */

/* Syncs the writes of all ranks to the disk. */
static mw_status sync_file(const mw_store_writer *w) {
    return H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0 ? h5_error(MW_ERR_IO, w->partial, "flush failed") : MW_OK;
}

static mw_status save_progress(const mw_store_writer *w, int64_t done) {
    MW_TRY(sync_file(w));
    if (mw_comm_rank(w->comm) != 0) return MW_OK;
    char text[64];
    int n = snprintf(text, sizeof text, "{\"blocks_done\": %lld}\n", (long long)done);
    return mw_file_write_atomic(w->progress, text, (size_t)n);
}

/* The commit of a build says nothing of its results: another build of the same version resumes. */
static const char build_key[] = "microw_git";

/* Whether the open file has this schema and provenance; `build` gets the commit that began it. The caller frees. */
static mw_status same_provenance(const mw_store_writer *w, bool *same, char **build) {
    int64_t schema;
    MW_TRY(h5_get_int(w->file, w->partial, "schema", &schema));
    *same = schema == MW_STORE_SCHEMA;
    for (int64_t i = 0; *same && i < w->layout->n_provenance; i++) {
        char *value;
        const mw_pair *pair = &w->layout->provenance[i];
        MW_TRY(h5_get_text(w->file, w->partial, pair->key, &value));
        bool equal = strcmp(value, pair->value) == 0;
        if (strcmp(pair->key, build_key) == 0 && !equal && !*build)
            *build = value;
        else
            mw_free(value);
        *same = equal || strcmp(pair->key, build_key) == 0;
    }
    return MW_OK;
}

static mw_status is_resumable(const mw_store_writer *w, bool *same, char **build) {
    hid_t file;
    MW_TRY(h5_open(w->partial, NULL, false, &file));
    mw_store_writer probe = *w;
    probe.file = file;
    mw_status status = same_provenance(&probe, same, build);
    H5Fclose(file);
    return status;
}

/* Counts the flushed blocks, and those after them whose checksums match. */
static mw_status count_blocks(const mw_store_writer *w, int64_t *out, char **build) {
    json_t *root = NULL;
    bool same = false;
    MW_TRY(mw_json_load(w->progress, &root));
    int64_t flushed = json_integer_value(json_object_get(root, "blocks_done"));
    json_decref(root);
    MW_TRY(is_resumable(w, &same, build));
    if (!same || flushed < 0 || flushed > w->layout->n_blocks) return MW_ERR_STATE;
    int64_t all;
    return mw_store_progress(w->partial, flushed, out, &all);
}

/* Returns the complete blocks of an earlier run with equal provenance; 0: none. Rank 0 only. */
static int64_t count_earlier_blocks(const mw_store_writer *w) {
    int64_t done = 0;
    if (!mw_file_exists(w->partial) || !mw_file_exists(w->progress)) return 0;
    mw_log_quiet(true); /* a damaged file or one of other provenance is replaced without an error */
    char *build = NULL;
    mw_status status = count_blocks(w, &done, &build);
    mw_log_quiet(false);
    if (status != MW_OK) done = 0;
    if (done && build)
        mw_log(MW_LOG_INFO, "%s: begun by another build of microw (commit %s), which its attribute %s names",
               w->partial, build, build_key);
    mw_free(build);
    return done;
}

static mw_status start_or_resume(mw_store_writer *w, int64_t *first_block) {
    int64_t done = mw_comm_rank(w->comm) == 0 ? count_earlier_blocks(w) : 0;
    MW_TRY(mw_comm_broadcast(w->comm, &done, sizeof done, 0));
    if (done > 0 && w->layout->restart) {
        mw_log(MW_LOG_WARNING, "%s: computing its %lld blocks again, since a hook needs all rows", w->partial,
               (long long)done);
        done = 0;
    }
    *first_block = done;
    if (done > 0) {
        mw_log(MW_LOG_INFO, "resuming %s at block %lld of %lld", w->partial, (long long)done,
               (long long)w->layout->n_blocks);
        return mw_comm_agree(w->comm, h5_open(w->partial, w->comm, true, &w->file));
    }
    /* a new file, not the truncated old one: another process may still have that open */
    if (mw_comm_rank(w->comm) == 0) unlink(w->partial);
    MW_TRY(mw_comm_barrier(w->comm));
    MW_TRY(mw_comm_agree(w->comm, h5_create(w->partial, w->comm, &w->file)));
    MW_TRY(mw_comm_agree(w->comm, make_file(w)));
    MW_TRY(write_columns(w));
    return mw_comm_agree(w->comm, save_progress(w, 0));
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static uint64_t bytes_needed(const mw_store_layout *layout) {
    uint64_t total = (uint64_t)layout->n_rows * 12 + (uint64_t)layout->n_sequences * 24 +
                     (uint64_t)layout->n_documents * 32 + layout->vocabulary_offset[layout->n_vocabulary] +
                     (uint64_t)layout->n_vocabulary * 8;
    for (int64_t s = 0; s < layout->n_sites; s++)
        total += (uint64_t)layout->n_rows * (uint64_t)layout->widths[s] * mw_dtype_size(layout->dtype) +
                 (uint64_t)layout->n_blocks * (uint64_t)(layout->widths[s] + 3) * 8;
    return total;
}

static mw_status check_space(const mw_store_writer *w, const char *folder) {
    uint64_t free_bytes, need = bytes_needed(w->layout), held = 0;
    MW_TRY(mw_free_space(folder, &free_bytes));
    if (mw_file_exists(w->partial)) MW_TRY(mw_file_size(w->partial, &held));
    if (need > free_bytes + held)
        return mw_error(MW_ERR_IO, "%s: the activations need %.3g GB, but only %.3g GB are free", folder,
                        (double)need / 1e9, (double)free_bytes / 1e9);
    double left = w->layout->allowed_bytes > 0 ? w->layout->allowed_bytes + (double)held : INFINITY;
    if ((double)need <= left) return MW_OK;
    return mw_error(MW_ERR_IO, "%s: the activations need %.3g GB, but quota_gb leaves %.3g GB", folder,
                    (double)need / 1e9, left / 1e9);
}

static mw_status prepare(mw_store_writer *w, const char *folder) {
    w->final = mw_path_join(folder, "activations.h5");
    w->partial = mw_path_join(folder, "activations.h5.partial");
    w->progress = mw_path_join(folder, "progress.json");
    if (!w->final || !w->partial || !w->progress) return MW_ERR_MEMORY;
    if (mw_comm_rank(w->comm) != 0) return MW_OK;
    MW_TRY(mw_make_directories(folder));
    return check_space(w, folder);
}

static mw_status record_inode(mw_store_writer *w) {
    struct stat info = {0};
    bool good = mw_comm_rank(w->comm) != 0 || stat(w->partial, &info) == 0;
    w->inode = info.st_ino;
    return mw_comm_agree(w->comm, good ? MW_OK : mw_error(MW_ERR_IO, "%s: %s", w->partial, strerror(errno)));
}

mw_status mw_store_writer_open(const char *folder, const mw_store_layout *layout, const mw_comm *comm,
                               mw_store_writer **out, int64_t *first_block) {
    mw_store_writer *w = mw_calloc(1, sizeof *w);
    MW_TRY(mw_comm_agree(comm, w ? MW_OK : MW_ERR_MEMORY));
    *w = (mw_store_writer){.layout = layout, .comm = comm, .file = -1, .writeback_fd = -1, .flushed = mw_seconds()};
    mw_status status = mw_comm_agree(comm, prepare(w, folder));
    if (status == MW_OK) status = start_or_resume(w, first_block);
    if (status == MW_OK) status = record_inode(w);
    if (status != MW_OK)
        mw_store_writer_free(&w);
    else
        *out = w;
    return status;
}

/* HDF5 keeps a file whose close failed, and crashes on it when MPI ends: then the communicator is abandoned. */
static mw_status close_file(mw_store_writer *w) {
    hid_t file = w->file;
    w->file = -1;
    if (file < 0 || H5Fclose(file) >= 0) return MW_OK;
    mw_status status = h5_error(MW_ERR_IO, w->partial, "close failed");
    mw_comm_abandon(w->comm);
    return status;
}

void mw_store_writer_free(mw_store_writer **slot) {
    mw_store_writer *w = *slot;
    if (!w) return;
    mw_log_quiet(true); /* an open file here means an earlier failure, already logged */
    mw_status closed = close_file(w);
    mw_log_quiet(false);
    (void)closed;
    if (w->writeback_fd >= 0) close(w->writeback_fd);
    mw_free(w->final);
    mw_free(w->partial);
    mw_free(w->progress);
    digester_close(&w->digester);
    block_digest_free(&w->digest);
    mw_free(w);
    *slot = NULL;
}

/* ---- blocks -------------------------------------------------------------------------------------------- */

/* This rank's part of writing a block. Every rank takes part in each write, which is collective: after a failure of its
 * own with no rows. */
typedef struct part {
    mw_store_writer *w;
    int64_t block;    /* -1: none */
    mw_status status; /* the first failure of this rank */
} part;

/* Writes `count` rows of an array of a site. */
static void write_rows(part *p, int64_t site, const char *array, hid_t type, int64_t begin, int64_t count,
                       int64_t columns, const void *data) {
    const mw_store_writer *w = p->w;
    bool none = p->block < 0 || p->status != MW_OK;
    char name[STORE_NAME];
    store_site_name(w->layout->sites[site], array, name);
    mw_status status =
        h5_write_rows(w->file, w->partial, name, type, none ? 0 : begin, none ? 0 : count, columns, data, w->comm);
    if (p->status == MW_OK) p->status = status;
}

/* The checksum comes last: a block without it is written again after a failure. */
static void write_site(part *p, int64_t s, const void *values, const site_digest *digest) {
    static const site_digest none;
    const mw_store_layout *layout = p->w->layout;
    const site_digest *of = digest ? digest : &none;
    int64_t block = p->block, width = layout->widths[s];
    int64_t begin = block >= 0 ? (int64_t)layout->block_row[block] : 0;
    int64_t rows = block >= 0 ? (int64_t)layout->block_row[block + 1] - begin : 0;
    hid_t type = make_type(layout->dtype);
    write_rows(p, s, "values", type, begin, rows, width, values);
    H5Tclose(type);
    write_rows(p, s, "block_sum", H5T_NATIVE_DOUBLE, block, 1, width, of->sums);
    write_rows(p, s, "block_norm", H5T_NATIVE_DOUBLE, block, 1, 2, of->norm);
    if (layout->keep_nan) write_rows(p, s, "block_rows", H5T_NATIVE_UINT64, block, 1, 0, &of->rows);
    write_rows(p, s, "checksum", H5T_NATIVE_UINT64, block, 1, 0, &of->checksum);
}

/* Starts writing to the disk while the next blocks are computed: the system otherwise keeps written pages until a
 * sync or until they are too many. Only a hint: without it, or if the file system ignores it, nothing is lost. */
static void start_writeback(mw_store_writer *w) {
#ifdef SYNC_FILE_RANGE_WRITE
    if (w->writeback_fd < 0) w->writeback_fd = open(w->partial, O_RDONLY | O_CLOEXEC);
    if (w->writeback_fd >= 0) (void)sync_file_range(w->writeback_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)w;
#endif
}

/* Syncs the written blocks, but at most every FLUSH_SECONDS: otherwise waiting for the disk would take longer than
 * writing. After a kill no block is lost, since blocks after the last flush are recognised by their checksums. */
static mw_status flush_sometimes(mw_store_writer *w) {
    int64_t due = mw_seconds() - w->flushed > FLUSH_SECONDS;
    if (++w->steps % FLUSH_STEPS) return MW_OK;
    MW_TRY(mw_comm_broadcast(w->comm, &due, sizeof due, 0));
    if (!due) return MW_OK;
    MW_TRY(mw_comm_agree(w->comm, save_progress(w, w->done)));
    w->flushed = mw_seconds();
    return MW_OK;
}

mw_status store_write_digested(mw_store_writer *w, int64_t block, const void *const *values, const block_digest *digest,
                               int64_t done, mw_status local) {
    part p = {w, block, MW_OK};
    if (local == MW_OK) local = mw_memory_room((size_t)32 << 20, "writing by MPI"); /* MPI crashes without memory */
    MW_TRY(mw_comm_agree(w->comm, local));
    for (int64_t s = 0; s < w->layout->n_sites; s++)
        write_site(&p, s, block >= 0 ? values[s] : NULL, block >= 0 ? &digest->site[s] : NULL);
    MW_TRY(mw_comm_agree(w->comm, p.status));
    w->done = done;
    start_writeback(w);
    return flush_sometimes(w);
}

/* The memory is made at the first block: a harvest digests by itself. */
static mw_status digest_here(mw_store_writer *w, int64_t block, const void *const *values) {
    if (!w->digest.site) MW_TRY(block_digest_make(w->layout, &w->digest));
    if (!w->digester.sums) MW_TRY(digester_open(w->layout, &w->digester));
    return digest_block(&w->digester, block, values, &w->digest);
}

mw_status mw_store_write_blocks(mw_store_writer *w, int64_t block, const void *const *values, int64_t done,
                                mw_status local) {
    if (local == MW_OK && block >= 0) local = digest_here(w, block, values);
    return store_write_digested(w, block, values, &w->digest, done, local);
}

mw_status mw_store_writer_flush(mw_store_writer *w, int64_t *blocks_done) {
    *blocks_done = w->done;
    return mw_comm_agree(w->comm, save_progress(w, w->done));
}

/* ---- finishing ----------------------------------------------------------------------------------------- */

/* Counts the rows that a site's sums include. */
static mw_status count_kept(const mw_store_writer *w, int64_t s, double *out) {
    const mw_store_layout *layout = w->layout;
    char name[STORE_NAME];
    *out = layout->n_rows ? (double)layout->n_rows : 1;
    if (!layout->keep_nan || !layout->n_blocks) return MW_OK;
    uint64_t *kept = mw_alloc((size_t)layout->n_blocks * sizeof *kept);
    if (!kept) return MW_ERR_MEMORY;
    store_site_name(layout->sites[s], "block_rows", name);
    mw_status status = h5_read_rows(w->file, w->partial, name, H5T_NATIVE_UINT64, 0, layout->n_blocks, 0, kept);
    *out = 0;
    for (int64_t b = 0; status == MW_OK && b < layout->n_blocks; b++) *out += (double)kept[b];
    mw_free(kept);
    return status;
}

/* Sets out[i] to the sum over blocks of column i of a data set [blocks, width], divided by `rows`. Sums in block
 * order, so the result does not depend on the number of ranks; in chunks, since all blocks may exceed the memory or
 * HDF5's largest read. */
static mw_status mean_of_blocks(const mw_store_writer *w, const char *name, int64_t width, double rows, double *out) {
    const mw_store_layout *layout = w->layout;
    int64_t most = SUM_BYTES / (width * (int64_t)sizeof *out) + 1;
    if (most > layout->n_blocks) most = layout->n_blocks;
    double *chunk = mw_alloc((size_t)(most * width) * sizeof *chunk);
    mw_status status = chunk ? MW_OK : MW_ERR_MEMORY;
    memset(out, 0, (size_t)width * sizeof *out);
    for (int64_t b = 0, n; b < layout->n_blocks && status == MW_OK; b += n) {
        n = layout->n_blocks - b < most ? layout->n_blocks - b : most;
        status = h5_read_rows(w->file, w->partial, name, H5T_NATIVE_DOUBLE, b, n, width, chunk);
        for (int64_t j = 0; j < n && status == MW_OK; j++)
            for (int64_t i = 0; i < width; i++) out[i] += chunk[j * width + i];
    }
    for (int64_t i = 0; i < width; i++) out[i] /= rows; /* NaN for no rows */
    mw_free(chunk);
    return status;
}

/* Writes a site's means; `mean` [width] is scratch. */
static mw_status write_means(const mw_store_writer *w, int64_t s, double *mean) {
    const mw_store_layout *layout = w->layout;
    double norms[2], rows; /* means of the norms and of their squares */
    char name[STORE_NAME];
    MW_TRY(count_kept(w, s, &rows));
    store_site_name(layout->sites[s], "block_sum", name);
    MW_TRY(mean_of_blocks(w, name, layout->widths[s], rows, mean));
    store_site_name(layout->sites[s], "block_norm", name);
    MW_TRY(mean_of_blocks(w, name, 2, rows, norms));
    store_site_name(layout->sites[s], "mean", name);
    MW_TRY(h5_write_rows(w->file, w->partial, name, H5T_NATIVE_DOUBLE, 0, layout->widths[s], 0, mean, NULL));
    store_site_name(layout->sites[s], "norm_mean", name);
    MW_TRY(h5_write_rows(w->file, w->partial, name, H5T_NATIVE_DOUBLE, 0, 1, 0, &norms[0], NULL));
    store_site_name(layout->sites[s], "square_mean", name);
    return h5_write_rows(w->file, w->partial, name, H5T_NATIVE_DOUBLE, 0, 1, 0, &norms[1], NULL);
}

/* Rank 0 only. */
static mw_status finish_site(const mw_store_writer *w, int64_t s) {
    double *mean = mw_alloc((size_t)w->layout->widths[s] * sizeof *mean);
    mw_status status = mean ? write_means(w, s, mean) : MW_ERR_MEMORY;
    mw_free(mean);
    return status;
}

/* MW_ERR_STATE if the partial file is no longer the written one: another process may have replaced it. */
static mw_status check_written(const mw_store_writer *w) {
    struct stat info;
    if (w->layout->lock) MW_TRY(mw_lock_check(w->layout->lock));
    if (stat(w->partial, &info) == 0 && info.st_ino == w->inode) return MW_OK;
    return mw_error(MW_ERR_STATE, "%s is no longer the file that was written: another process has replaced it",
                    w->partial);
}

static mw_status publish(const mw_store_writer *w) {
    if (mw_comm_rank(w->comm) != 0) return MW_OK;
    MW_TRY(check_written(w));
    if (rename(w->partial, w->final) != 0) return mw_error(MW_ERR_IO, "%s: rename failed", w->final);
    unlink(w->progress);
    return MW_OK;
}

mw_status mw_store_writer_finish(mw_store_writer *w) {
    mw_status status = MW_OK;
    for (int64_t s = 0; status == MW_OK && mw_comm_rank(w->comm) == 0 && s < w->layout->n_sites; s++)
        status = finish_site(w, s);
    MW_TRY(mw_comm_agree(w->comm, status));
    MW_TRY(mw_comm_agree(w->comm, h5_put_int(w->file, w->partial, "complete", 1)));
    MW_TRY(mw_comm_agree(w->comm, sync_file(w)));
    MW_TRY(mw_comm_agree(w->comm, close_file(w)));
    return mw_comm_agree(w->comm, publish(w));
}
