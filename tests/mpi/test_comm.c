/* Collectives whose data needs several MPI messages. */
#include "microw/comm.h"
#include "comm/message_limit.h"
#include "test.h"

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

int main(int argc, char **argv) {
    static const size_t limits[] = {8, 20, 1000, 1 << 30};
    NEED_OK(mw_comm_world(&argc, &argv, &world));
    rank = mw_comm_rank(world);
    size = mw_comm_size(world);
    for (int i = 0; i < 4; i++) {
        comm_limit_message(limits[i]);
        RUN(gathers);
        RUN(numbers);
    }
    int64_t failed = test_failures;
    NEED_OK(mw_comm_allreduce_sum(world, &failed, 1));
    test_failures = (int)failed;
    mw_comm_free(&world);
    return test_end();
}
