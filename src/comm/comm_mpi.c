/* Communicators and collectives on host memory by MPI, and the report of held errors. */
#include "base/private_folder.h"
#include "comm/comm_nccl.h"
#include "comm/exchange.h"
#include "comm/message_limit.h"

#include <math.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mw_comm {
    MPI_Comm mpi;
    int rank, size, local_rank;
    bool alone, world, threads;
    bool *abandoned; /* shared by the world and its duplicates; the world owns it */
    mw_comm_device *device;
    private_folder session; /* of Open MPI, to remove after MPI_Finalize; the world owns it */
};

/* Allocates both or none. */
static mw_status allocate(mw_comm **comm, mw_comm_device **device) {
    *comm = mw_calloc(1, sizeof **comm);
    *device = mw_calloc(1, sizeof **device);
    if (*comm && *device) return MW_OK;
    mw_free(*comm);
    mw_free(*device);
    return MW_ERR_MEMORY;
}

static mw_status checked(int code, const char *call) {
    if (code == MPI_SUCCESS) return MW_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return mw_error(MW_ERR_COMM, "%s failed: %s", call, text);
}

mw_status mw_comm_self(mw_comm **out) {
    mw_comm *comm;
    mw_comm_device *device;
    MW_TRY(allocate(&comm, &device));
    *comm = (mw_comm){.mpi = MPI_COMM_NULL, .size = 1, .alone = true, .threads = true, .device = device};
    *out = comm;
    return MW_OK;
}

/* The caller frees the communicator of the ranks of `comm` on this node. */
static mw_status split_node(const mw_comm *comm, MPI_Comm *node) {
    return checked(MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, node),
                   "MPI_Comm_split_type");
}

/* This rank's number among the ranks of `comm` on its node, and their number. */
static mw_status find_node(const mw_comm *comm, int *local_rank, int *ranks) {
    MPI_Comm node;
    *local_rank = 0;
    *ranks = 1;
    if (comm->size == 1) return MW_OK;
    MW_TRY(split_node(comm, &node));
    MPI_Comm_rank(node, local_rank);
    MPI_Comm_size(node, ranks);
    return checked(MPI_Comm_free(&node), "MPI_Comm_free");
}

static bool has_launcher(void) {
    static const char *const launchers[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "SLURM_STEP_ID"};
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
        if (mw_environment(launchers[i])) return true;
    return false;
}

/* Returns how many ranks the launcher has started on this node; Slurm's largest node counts for all. 1: unknown. */
static int64_t ranks_here(void) {
    int64_t most = 1, n;
    const char *open_mpi = mw_environment("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (open_mpi && mw_parse_int(open_mpi, &n)) return n;
    const char *list = mw_environment("SLURM_STEP_TASKS_PER_NODE"); /* "4(x2),3" */
    for (; list && *list; list += strcspn(list, ","), list += *list == ',') {
        n = strtoll(list, NULL, 10);
        most = n > most ? n : most;
    }
    return most;
}

/* Returns the processors of this node's ranks: a launcher may have bound this one to some of them, but not itself. */
static double processors_here(void) {
    cpu_set_t set[MW_PROCESSORS_MAX / CPU_SETSIZE];
    memset(set, 0, sizeof set);
    int count = sched_getaffinity(getppid(), sizeof set, set) == 0 ? CPU_COUNT_S(sizeof set, set) : 0;
    return fmin(count > 0 ? (double)count : INFINITY, mw_processor_quota());
}

/* A setting of Open MPI, unless the user has chosen it. */
typedef struct setting {
    const char *name, *value;
    bool set; /* by this process */
} setting;

static void choose(setting *s) {
    s->set = s->value[0] && !mw_environment(s->name);
    if (s->set) setenv(s->name, s->value, 1);
}

/* Between hosts, Open MPI keeps a file's shared pointer, which is not used here, in files beside it, and leaves them
 * there if it is killed. It reads this setting when it first opens a file. */
static void forgo_shared_pointers(void) {
    choose(&(setting){"OMPI_MCA_sharedfp", "^lockedfile,individual", false});
}

/* Starts MPI. A process without a launcher has nobody to send to: it starts no daemon, which needs a network and takes
 * a quarter of the start, and opens no libraries of networks (two of Debian measure the processor's clock for 0.1 s
 * each, pinned to one core). All such processes would share one session folder, which the first to end removes, so
 * each gets a folder to itself. Ranks that have no processor each give theirs away while they wait: six ranks on two
 * took 40 times as long. Programs that this process starts later must not inherit the settings. */
static mw_status start_mpi(int *argc, char ***argv, int *provided, private_folder *session) {
    enum { ALONE = 3, SETTINGS };
    static const char without_daemon[] = "OMPI_MCA_ess_singleton_isolated",
                      session_base[] = "OMPI_MCA_orte_tmpdir_base";
    bool isolated = !has_launcher() && !mw_environment(without_daemon);
    bool crowded = has_launcher() && (double)ranks_here() > processors_here();
    *session = (private_folder){.fd = -1};
    if (isolated && !mw_environment(session_base)) private_folder_make("microw-mpi", session);
    setting settings[SETTINGS] = {{without_daemon, "1", false},
                                  {session_base, session->path, false},
                                  {"OMPI_MCA_pml", "ob1", false},
                                  {"OMPI_MCA_mpi_yield_when_idle", "1", false}};
    for (int i = 0; i < SETTINGS; i++)
        if (i < ALONE ? isolated : crowded) choose(&settings[i]);
    if (has_launcher()) forgo_shared_pointers();
    int started = MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, provided);
    for (int i = 0; i < SETTINGS; i++)
        if (settings[i].set) unsetenv(settings[i].name);
    if (started == MPI_SUCCESS) return MW_OK;
    private_folder_remove(session);
    return mw_error(MW_ERR_COMM, "MPI cannot start");
}

mw_status mw_comm_world(int *argc, char ***argv, mw_comm **out) {
    /* MPI_Init forks, and OpenBLAS then waits for its threads, each of which retries to allocate 128 MB. */
    enum { MPI_ROOM = 192 << 20 };
    int provided = MPI_THREAD_SINGLE;
    MW_TRY(mw_memory_room(MPI_ROOM, "the start of MPI"));
    private_folder session;
    MW_TRY(start_mpi(argc, argv, &provided, &session));
    mw_comm *comm;
    mw_comm_device *device;
    MW_TRY(allocate(&comm, &device));
    *comm =
        (mw_comm){.mpi = MPI_COMM_WORLD, .world = true, .threads = provided == MPI_THREAD_MULTIPLE, .device = device};
    comm->session = session;
    if (!(comm->abandoned = mw_calloc(1, sizeof *comm->abandoned))) {
        mw_free(device);
        mw_free(comm);
        return MW_ERR_MEMORY;
    }
    MPI_Comm_rank(comm->mpi, &comm->rank);
    MPI_Comm_size(comm->mpi, &comm->size);
    MPI_Comm_set_errhandler(comm->mpi, MPI_ERRORS_RETURN);
    int ranks;
    *out = comm;
    return find_node(comm, &comm->local_rank, &ranks);
}

/* Fills `copy` as a communicator of some of the ranks of `from`; owns `made`. */
static mw_status wrap(const mw_comm *from, MPI_Comm made, mw_comm_device *device, mw_comm *copy) {
    *copy = *from;
    copy->device = device;
    copy->world = false;
    copy->mpi = made;
    MPI_Comm_rank(made, &copy->rank);
    MPI_Comm_size(made, &copy->size);
    return checked(MPI_Comm_set_errhandler(made, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

/* Derives a communicator; color < 0: all ranks. */
static mw_status derive(const mw_comm *comm, int color, mw_comm **out) {
    if (comm->alone) return mw_comm_self(out);
    MPI_Comm made = MPI_COMM_NULL;
    mw_comm *copy;
    mw_comm_device *device;
    MW_TRY(mw_comm_agree(comm, allocate(&copy, &device)));
    mw_status status = color < 0 ? checked(MPI_Comm_dup(comm->mpi, &made), "MPI_Comm_dup")
                                 : checked(MPI_Comm_split(comm->mpi, color, comm->rank, &made), "MPI_Comm_split");
    if (status == MW_OK) status = wrap(comm, made, device, copy);
    if (status == MW_OK) {
        *out = copy;
        return MW_OK;
    }
    mw_free(device);
    mw_free(copy);
    return status;
}

mw_status mw_comm_duplicate(const mw_comm *comm, mw_comm **out) {
    return derive(comm, -1, out);
}

mw_status mw_comm_split(const mw_comm *comm, int color, mw_comm **out) {
    return derive(comm, color, out);
}

/* Reports the first line up to a comma; the packager and date follow. */
void mw_comm_libraries(mw_library_callback *report, void *self) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING + 1] = "";
    int length = 0;
    MPI_Get_library_version(version, &length);
    version[strcspn(version, ",\n")] = '\0';
    report(self, "MPI", version);
}

mw_comm_device *mw_comm_device_of(const mw_comm *comm) {
    return comm->device;
}

int mw_comm_local_rank(const mw_comm *comm) {
    return comm->local_rank;
}

mw_status mw_comm_free_memory(const mw_comm *comm, double *out) {
    int local_rank, ranks;
    MW_TRY(find_node(comm, &local_rank, &ranks));
    double least = -(double)mw_free_memory() / ranks; /* the largest negative one */
    MW_TRY(mw_comm_allreduce_max(comm, &least, 1));
    *out = -least;
    return MW_OK;
}

/* The processors that a process may use. */
typedef struct processors {
    uint64_t word[MW_PROCESSORS_WORDS];
} processors;

static int count_both(const processors *a, const processors *b) {
    int count = 0;
    for (int i = 0; i < MW_PROCESSORS_WORDS; i++) count += __builtin_popcountll(a->word[i] & b->word[i]);
    return count;
}

/* Sets the number of ranks on this node, and of those that may use a processor of `own`. */
static mw_status gather_processors(const mw_comm *comm, const processors *own, int *sharers, int *ranks) {
    MPI_Comm node;
    MW_TRY(split_node(comm, &node));
    MPI_Comm_size(node, ranks);
    processors *all = mw_alloc((size_t)*ranks * sizeof *all);
    mw_status status = mw_comm_agree(comm, all ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK)
        status = checked(MPI_Allgather(own, sizeof *own, MPI_BYTE, all, sizeof *all, MPI_BYTE, node), "MPI_Allgather");
    *sharers = 0;
    for (int r = 0; r < *ranks && status == MW_OK; r++) *sharers += count_both(own, &all[r]) > 0;
    mw_free(all);
    mw_status freed = checked(MPI_Comm_free(&node), "MPI_Comm_free");
    return status == MW_OK ? freed : status;
}

mw_status mw_comm_share_processors(const mw_comm *comm, int *out) {
    processors own;
    int sharers = 1, ranks = 1;
    double quota = mw_processor_quota();
    mw_processors_allowed(own.word);
    if (comm->size > 1) MW_TRY(gather_processors(comm, &own, &sharers, &ranks));
    *out = count_both(&own, &own) / (sharers > 0 ? sharers : 1);
    if (*out * ranks > quota) *out = (int)(quota / ranks);
    if (*out < 1) *out = 1;
    return MW_OK;
}

void mw_comm_free(mw_comm **comm) {
    mw_comm *c = *comm;
    if (!c) return;
    exchange_close(c);
    mw_nccl_free(&c->device->nccl);
    mw_free(c->device->transfers);
    mw_free(c->device);
    if (c->world) {
        mw_free(c->abandoned);
        MPI_Finalize();
        private_folder_remove(&c->session);
    } else if (!c->alone) {
        MPI_Comm_free(&c->mpi);
    }
    mw_free(c);
    *comm = NULL;
}

void mw_comm_abandon(const mw_comm *comm) {
    if (comm->abandoned) *comm->abandoned = true;
}

bool mw_comm_abandoned(const mw_comm *comm) {
    return comm->abandoned && *comm->abandoned;
}

int mw_comm_rank(const mw_comm *comm) {
    return comm->rank;
}

int mw_comm_size(const mw_comm *comm) {
    return comm->size;
}

bool mw_comm_threads(const mw_comm *comm) {
    return comm->threads;
}

void *mw_comm_mpi_handle(const mw_comm *comm) {
    return comm->alone ? NULL : (void *)(uintptr_t)&comm->mpi;
}

mw_status mw_comm_agree(const mw_comm *comm, mw_status local) {
    if (comm->size == 1) return local;
    int worst = (int)local;
    MW_TRY(checked(MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, comm->mpi), "MPI_Allreduce"));
    return (mw_status)worst;
}

mw_status mw_comm_barrier(const mw_comm *comm) {
    return comm->size == 1 ? MW_OK : checked(MPI_Barrier(comm->mpi), "MPI_Barrier");
}

/* Bytes of one MPI message. MPI counts in int, and some algorithms add the counts of all ranks in int too, so larger
 * data is sent in several messages, the same on all ranks. */
static size_t message_limit = 1 << 30;

void comm_limit_message(size_t bytes) {
    message_limit = bytes;
}

static int message_bytes(size_t bytes) {
    return bytes < message_limit ? (int)bytes : (int)message_limit;
}

static int64_t message_items(int64_t count, size_t item) {
    int64_t most = (int64_t)(message_limit / item);
    return count < most ? count : most;
}

mw_status mw_comm_broadcast(const mw_comm *comm, void *data, size_t bytes, int root) {
    if (comm->size == 1) return MW_OK;
    for (char *p = data; bytes > 0;) {
        int n = message_bytes(bytes);
        MW_TRY(checked(MPI_Bcast(p, n, MPI_BYTE, root, comm->mpi), "MPI_Bcast"));
        p += n;
        bytes -= (size_t)n;
    }
    return MW_OK;
}

/* Logs the first line in which two texts differ. */
static mw_status name_difference(const char *what, const char *own, const char *first) {
    enum { SHOWN = 160 };
    while (*own && *first) {
        size_t a = strcspn(own, "\n"), b = strcspn(first, "\n");
        if (a != b || memcmp(own, first, a) != 0) break;
        own += a + (own[a] == '\n');
        first += b + (first[b] == '\n');
    }
    size_t a = strcspn(own, "\n"), b = strcspn(first, "\n");
    return mw_error(MW_ERR_CONFIG, "ranks differ in %s: here '%.*s', on rank 0 '%.*s'", what,
                    (int)(a < SHOWN ? a : SHOWN), own, (int)(b < SHOWN ? b : SHOWN), first);
}

mw_status mw_comm_require_same(const mw_comm *comm, const char *what, const char *text) {
    if (comm->size == 1) return MW_OK;
    uint64_t length = strlen(text);
    MW_TRY(mw_comm_broadcast(comm, &length, sizeof length, 0));
    char *first = mw_alloc((size_t)length + 1);
    MW_TRY(mw_comm_agree(comm, first ? MW_OK : MW_ERR_MEMORY));
    if (comm->rank == 0) memcpy(first, text, (size_t)length);
    mw_status status = mw_comm_broadcast(comm, first, (size_t)length, 0);
    first[length] = '\0';
    if (status == MW_OK && strcmp(first, text) != 0) status = name_difference(what, text, first);
    mw_free(first);
    return mw_comm_agree(comm, status);
}

mw_status mw_comm_send(const mw_comm *comm, const void *data, size_t bytes, int to) {
    for (const char *p = data; bytes > 0;) {
        int n = message_bytes(bytes);
        MW_TRY(checked(MPI_Send(p, n, MPI_BYTE, to, 0, comm->mpi), "MPI_Send"));
        p += n;
        bytes -= (size_t)n;
    }
    return MW_OK;
}

mw_status mw_comm_receive(const mw_comm *comm, void *data, size_t bytes, int from) {
    for (char *p = data; bytes > 0;) {
        int n = message_bytes(bytes);
        MW_TRY(checked(MPI_Recv(p, n, MPI_BYTE, from, 0, comm->mpi, MPI_STATUS_IGNORE), "MPI_Recv"));
        p += n;
        bytes -= (size_t)n;
    }
    return MW_OK;
}

struct transfers {
    MPI_Request request[MW_COMM_TRANSFERS];
};

/* The request of a transfer; NULL: it needs several messages, or there is no memory, and it is made at once. */
static MPI_Request *request_of(const mw_comm *comm, size_t bytes, int transfer) {
    transfers *all = comm->device->transfers;
    if (!all && (all = mw_alloc(sizeof *all)))
        for (int i = 0; i < MW_COMM_TRANSFERS; i++) all->request[i] = MPI_REQUEST_NULL;
    comm->device->transfers = all;
    return all && bytes <= message_limit ? &all->request[transfer] : NULL;
}

mw_status mw_comm_begin_send(const mw_comm *comm, const void *data, size_t bytes, int to, int transfer) {
    MPI_Request *request = request_of(comm, bytes, transfer);
    if (!request) return mw_comm_send(comm, data, bytes, to);
    return checked(MPI_Isend(data, (int)bytes, MPI_BYTE, to, 0, comm->mpi, request), "MPI_Isend");
}

mw_status mw_comm_begin_receive(const mw_comm *comm, void *data, size_t bytes, int from, int transfer) {
    MPI_Request *request = request_of(comm, bytes, transfer);
    if (!request) return mw_comm_receive(comm, data, bytes, from);
    return checked(MPI_Irecv(data, (int)bytes, MPI_BYTE, from, 0, comm->mpi, request), "MPI_Irecv");
}

mw_status mw_comm_end_transfer(const mw_comm *comm, int transfer) {
    transfers *all = comm->device->transfers;
    return all ? checked(MPI_Wait(&all->request[transfer], MPI_STATUS_IGNORE), "MPI_Wait") : MW_OK;
}

mw_status mw_comm_allgatherv(const mw_comm *comm, const void *in, const size_t *bytes, void *out) {
    char *to = out;
    size_t total = 0, own_offset = 0;
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank) own_offset = total;
        total += bytes[r];
    }
    if (in && bytes[comm->rank]) memmove(to + own_offset, in, bytes[comm->rank]);
    if (comm->size == 1) return MW_OK;
    if (total > message_limit || comm->size > 4096) { /* one broadcast per rank */
        size_t at = 0;
        for (int r = 0; r < comm->size; at += bytes[r++]) MW_TRY(mw_comm_broadcast(comm, to + at, bytes[r], r));
        return MW_OK;
    }
    int counts[4096], offsets[4096];
    for (int r = 0, at = 0; r < comm->size; at += counts[r++]) {
        counts[r] = (int)bytes[r];
        offsets[r] = at;
    }
    return checked(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out, counts, offsets, MPI_BYTE, comm->mpi),
                   "MPI_Allgatherv");
}

mw_status mw_comm_allgather(const mw_comm *comm, const void *in, size_t bytes, void *out) {
    if (comm->size == 1) {
        memmove(out, in, bytes);
        return MW_OK;
    }
    if (bytes <= message_limit / (size_t)comm->size)
        return checked(MPI_Allgather(in, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, comm->mpi), "MPI_Allgather");
    memmove((char *)out + (size_t)comm->rank * bytes, in, bytes);
    for (int r = 0; r < comm->size; r++) MW_TRY(mw_comm_broadcast(comm, (char *)out + (size_t)r * bytes, bytes, r));
    return MW_OK;
}

mw_status mw_comm_allreduce_sum(const mw_comm *comm, int64_t *values, int64_t count) {
    for (int64_t at = 0, n; at < count && comm->size > 1; at += n) {
        n = message_items(count - at, sizeof *values);
        MW_TRY(checked(MPI_Allreduce(MPI_IN_PLACE, values + at, (int)n, MPI_INT64_T, MPI_SUM, comm->mpi),
                       "MPI_Allreduce"));
    }
    return MW_OK;
}

mw_status mw_comm_allreduce_or(const mw_comm *comm, void *data, size_t bytes) {
    if (comm->size == 1) return MW_OK;
    char *at = data;
    while (bytes > 0) {
        int count = message_bytes(bytes);
        MW_TRY(checked(MPI_Allreduce(MPI_IN_PLACE, at, count, MPI_BYTE, MPI_BOR, comm->mpi), "MPI_Allreduce"));
        at += count;
        bytes -= (size_t)count;
    }
    return MW_OK;
}

mw_status mw_comm_allreduce_max(const mw_comm *comm, double *values, int64_t count) {
    for (int64_t at = 0, n; at < count && comm->size > 1; at += n) {
        n = message_items(count - at, sizeof *values);
        MW_TRY(
            checked(MPI_Allreduce(MPI_IN_PLACE, values + at, (int)n, MPI_DOUBLE, MPI_MAX, comm->mpi), "MPI_Allreduce"));
    }
    return MW_OK;
}

mw_status mw_comm_allreduce_first(const mw_comm *comm, int64_t index, int64_t *first) {
    const double none = 0x1p53;
    double least = index < 0 ? -none : -(double)index; /* the largest negative one */
    MW_TRY(mw_comm_allreduce_max(comm, &least, 1));
    *first = least == -none ? -1 : (int64_t)-least;
    return MW_OK;
}

void mw_comm_share(int rank, int size, int64_t total, int64_t block, int64_t *begin, int64_t *end) {
    int64_t blocks = (total + block - 1) / block;
    int64_t first = blocks * rank / size * block, last = blocks * (rank + 1) / size * block;
    *begin = first < total ? first : total;
    *end = last < total ? last : total;
}

mw_status mw_comm_allgather_shares(const mw_comm *comm, void *data, int64_t total, int64_t block, size_t item_bytes) {
    enum { FEW = 4096 };
    size_t few[FEW] = {0}, *bytes = few;
    if (comm->size == 1) return MW_OK;
    if (comm->size > FEW) {
        bytes = mw_alloc((size_t)comm->size * sizeof *bytes);
        MW_TRY(mw_comm_agree(comm, bytes ? MW_OK : MW_ERR_MEMORY));
    }
    for (int r = 0; r < comm->size; r++) {
        int64_t begin, end;
        mw_comm_share(r, comm->size, total, block, &begin, &end);
        bytes[r] = (size_t)(end - begin) * item_bytes;
    }
    mw_status status = mw_comm_allgatherv(comm, NULL, bytes, data);
    if (bytes != few) mw_free(bytes);
    return status;
}

enum { SLOT = 4096, HOST = 64 };

/* Names a rank, and its host if there are several. */
static void show_rank(const char *hosts, int rank, int size, char *out, size_t room) {
    bool several = false;
    for (int r = 0; r < size; r++) several = several || strcmp(hosts + (size_t)r * HOST, hosts) != 0;
    snprintf(out, room, "rank %d%s%s", rank, several ? " on " : "", several ? hosts + (size_t)rank * HOST : "");
}

/* Prints each distinct text of `all` [size, SLOT] once, line by line, with its ranks. */
static void print_once(const char *all, const char *hosts, int size) {
    for (int r = 0; r < size; r++) {
        const char *text = all + (size_t)r * SLOT;
        bool seen = false;
        char rank[2 * HOST];
        int same = 0;
        for (int q = 0; q < size; q++) {
            if (strcmp(text, all + (size_t)q * SLOT) != 0) continue;
            if (q < r) seen = true;
            same++;
        }
        if (!text[0] || seen) continue;
        show_rank(hosts, r, size, rank, sizeof rank);
        for (const char *line = text; *line;) {
            size_t length = strcspn(line, "\n");
            if (same == size)
                fprintf(stderr, "microw: error: %.*s\n", (int)length, line);
            else
                fprintf(stderr, "microw: error: %s%s: %.*s\n", rank, same > 1 ? " and others" : "", (int)length, line);
            line += length + (line[length] == '\n');
        }
    }
}

void mw_comm_report_errors(const mw_comm *comm) {
    if (comm->size == 1) return; /* printed when they were logged */
    char own[SLOT] = "", host[HOST] = "";
    char *held = mw_log_take_held();
    if (held) snprintf(own, sizeof own, "%s", held);
    mw_free(held);
    mw_host_name(host, sizeof host);
    char *all = mw_calloc((size_t)comm->size, SLOT), *hosts = mw_calloc((size_t)comm->size, HOST);
    mw_status status = mw_comm_agree(comm, all && hosts ? MW_OK : MW_ERR_MEMORY);
    if (status == MW_OK) status = mw_comm_allgather(comm, own, SLOT, all);
    if (status == MW_OK) status = mw_comm_allgather(comm, host, HOST, hosts);
    if (status == MW_OK && comm->rank == 0) {
        mw_progress_clear();
        print_once(all, hosts, comm->size);
    }
    mw_free(all);
    mw_free(hosts);
}
