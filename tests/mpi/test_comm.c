/* Collectives whose data needs several MPI messages. */
#include "microw/comm.h"
#include "comm/exchange.h"
#include "comm/message_limit.h"
#include "ranks.h"

enum { BYTES = 5003, NUMBERS = 701 };

static mw_comm *world;
static int rank, size;

/* Byte i of the test data of rank r. */
static unsigned char byte_of(int r, size_t i) {
    return (unsigned char)(r * 31 + (int)(i * 7 % 251) + 1);
}

static void fill(unsigned char *out, int r, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) out[i] = byte_of(r, i);
}

static bool is_filled(const unsigned char *out, int r, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (out[i] != byte_of(r, i)) return false;
    return true;
}

static void gathers(void) {
    unsigned char *mine = mw_alloc(BYTES), *all = mw_alloc((size_t)size * BYTES);
    size_t *bytes = mw_alloc((size_t)size * sizeof *bytes);
    NEED(mine && all && bytes);
    fill(mine, rank, BYTES);
    memset(all, 0, (size_t)size * BYTES);
    CHECK_OK(mw_comm_allgather(world, mine, BYTES, all));
    for (int r = 0; r < size; r++) CHECK(is_filled(all + (size_t)r * BYTES, r, BYTES));
    size_t at = 0;
    for (int r = 0; r < size; r++) bytes[r] = BYTES - (size_t)r * 1000;
    memset(all, 0, (size_t)size * BYTES);
    CHECK_OK(mw_comm_allgatherv(world, mine, bytes, all));
    for (int r = 0; r < size; at += bytes[r++]) CHECK(is_filled(all + at, r, bytes[r]));
    memset(all, 0, BYTES);
    if (rank == size - 1) fill(all, 9, BYTES);
    CHECK_OK(mw_comm_broadcast(world, all, BYTES, size - 1));
    CHECK(is_filled(all, 9, BYTES));
    memset(all, 0, BYTES);
    for (size_t i = (size_t)rank; i < BYTES; i += (size_t)size) all[i] = byte_of(5, i);
    CHECK_OK(mw_comm_allreduce_or(world, all, BYTES));
    CHECK(is_filled(all, 5, BYTES));
    mw_free(mine);
    mw_free(all);
    mw_free(bytes);
}

static void numbers(void) {
    double largest[NUMBERS];
    int64_t sum[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) {
        largest[i] = (i + rank) % size ? -i : i + 0.5;
        sum[i] = (int64_t)i << (20 + rank);
    }
    CHECK_OK(mw_comm_allreduce_max(world, largest, NUMBERS));
    CHECK_OK(mw_comm_allreduce_sum(world, sum, NUMBERS));
    for (int i = 0; i < NUMBERS; i++) {
        CHECK(largest[i] == i + 0.5);
        CHECK(sum[i] == ((int64_t)i << 20) * ((1 << size) - 1));
    }
}

/* Arrays of several kinds in one exchange: an array that is copied into the message, one too large for it, integers. */
static void exchanges(void) {
    enum { ROWS = 37, TILE = 4, LARGE = 2 << 20 };
    int64_t counts[ROWS] = {0}, start[ROWS + 1] = {0}, begin, end;
    int32_t index[ROWS * 5] = {0};
    double *large = mw_calloc(LARGE, sizeof *large);
    NEED(large);
    for (int r = 0; r < ROWS; r++) start[r + 1] = start[r] + r % 5;
    mw_comm_share(rank, size, ROWS, TILE, &begin, &end);
    for (int64_t r = begin; r < end; r++) counts[r] = 40000 + r;
    for (int64_t i = start[begin]; i < start[end]; i++) index[i] = (int32_t)(70000 + i);
    mw_comm_share(rank, size, LARGE, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) large[i] = (double)i + 0.25;
    exchange_share rows = {.ranks = size, .total = ROWS, .block = TILE}, entries = rows;
    entries.start = start;
    exchange e = exchange_of(world, NULL);
    exchange_add(&e, &(exchanged){.data = counts, .item = 8, .wire = exchange_wire(40000 + ROWS), .share = rows});
    exchange_add(&e, &(exchanged){.data = index, .item = 4, .wire = exchange_wire(80000), .share = entries});
    exchange_add(&e, &(exchanged){.data = large, .item = 8, .share = {.ranks = size, .total = LARGE, .block = 1}});
    CHECK(exchange_wire(40000 + ROWS) == 2 && exchange_wire(80000) == 4);
    CHECK_OK(exchange_run(&e, MW_OK));
    for (int r = 0; r < ROWS; r++) CHECK(counts[r] == 40000 + r);
    for (int64_t i = 0; i < start[ROWS]; i++) CHECK(index[i] == 70000 + i);
    for (int64_t i = 0; i < LARGE; i += 1013) CHECK(large[i] == (double)i + 0.25);
    mw_free(large);
    exchange_close(world);
}

/* A rank that has failed takes part: all get its status, and no array changes. */
static void failures(void) {
    int64_t own = rank, sums[2 + EXCHANGE_STATUSES];
    int64_t *all = mw_calloc((size_t)size, sizeof *all);
    NEED(all);
    for (int failing = 0; failing < size; failing++) {
        exchange e = exchange_of(world, NULL);
        mw_status local = rank == failing ? MW_ERR_BACKEND : rank == 0 ? MW_STOP : MW_OK;
        all[rank] = own;
        exchange_add(&e, &(exchanged){.data = all, .item = 8, .share = {.ranks = size, .total = size, .block = 1}});
        CHECK(exchange_run(&e, local) == MW_ERR_BACKEND);
        for (int r = 0; r < size; r++) CHECK(all[r] == (r == rank ? rank : 0));
        sums[0] = sums[1] = 1;
        CHECK(exchange_sums(world, local, sums, 2) == MW_ERR_BACKEND);
    }
    sums[0] = 1;
    sums[1] = rank;
    CHECK_OK(exchange_sums(world, MW_OK, sums, 2));
    CHECK(sums[0] == size && sums[1] == size * (size - 1) / 2);
    mw_free(all);
}

int main(int argc, char **argv) {
    static const size_t limits[] = {8, 20, 1000, 1 << 30};
    NEED_OK(mw_comm_world(&argc, &argv, &world));
    rank = mw_comm_rank(world);
    size = mw_comm_size(world);
    for (int i = 0; i < 4; i++) {
        comm_limit_message(limits[i]);
        RUN(gathers);
        RUN(numbers);
        RUN(exchanges);
        RUN(failures);
    }
    return test_end_of_ranks(&world);
}
