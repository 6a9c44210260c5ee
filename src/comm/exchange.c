/* Exchanges: packing, the message, unpacking. */
#include "comm/exchange.h"
#include "comm/comm_nccl.h"

#include <string.h>

/* Shares begin at multiples of so many bytes of a message. */
enum { ALIGNMENT = 8 };

exchange exchange_of(const mw_comm *comm, mw_backend *backend) {
    return (exchange){.comm = comm, .backend = backend};
}

void exchange_add(exchange *e, const exchanged *array) {
    e->array[e->count++] = *array;
}

size_t exchange_wire(int64_t limit) {
    return limit <= UINT16_MAX + 1 ? sizeof(uint16_t) : sizeof(uint32_t);
}

/* ---- shares ------------------------------------------------------------------------------------------------------ */

/* The items of a rank, counted from the first item of rank 0. */
static void items_of(const exchange_share *s, int rank, int64_t *begin, int64_t *end) {
    int64_t first, unused;
    *begin = 0;
    *end = rank == s->first ? s->total : 0;
    if (s->one) return;
    mw_comm_share(s->first, s->ranks, s->total, s->block, &first, &unused);
    mw_comm_share(s->first + rank, s->ranks, s->total, s->block, begin, end);
    if (s->start) {
        first = s->start[first];
        *begin = s->start[*begin];
        *end = s->start[*end];
    }
    *begin -= first;
    *end -= first;
}

static size_t wire_of(const exchanged *a) {
    return a->wire && a->wire < a->item ? a->wire : a->item;
}

static size_t packed_bytes(const exchanged *a, int rank) {
    int64_t begin, end;
    items_of(&a->share, rank, &begin, &end);
    return ((size_t)(end - begin) * wire_of(a) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool is_packed(const exchange *e, const exchanged *a) {
    size_t bytes = 0;
    if (a->device && !e->backend->ops->host_memory) return false;
    if (wire_of(a) != a->item) return true;
    for (int r = 0; r < mw_comm_size(e->comm); r++) bytes += packed_bytes(a, r);
    return bytes <= EXCHANGE_COPIED;
}

/* ---- items in a message ------------------------------------------------------------------------------------------ */

static int64_t integer_at(const char *at, size_t bytes) {
    uint16_t two;
    uint32_t four;
    int64_t eight;
    memcpy(&two, at, sizeof two);
    if (bytes == sizeof two) return two;
    memcpy(&four, at, sizeof four);
    if (bytes == sizeof four) return four;
    memcpy(&eight, at, sizeof eight);
    return eight;
}

static void put_integer(char *at, size_t bytes, int64_t value) {
    uint16_t two = (uint16_t)value;
    uint32_t four = (uint32_t)value;
    if (bytes == sizeof two)
        memcpy(at, &two, sizeof two);
    else if (bytes == sizeof four)
        memcpy(at, &four, sizeof four);
    else
        memcpy(at, &value, sizeof value);
}

/* Copies `count` items of `from_bytes` each to items of `to_bytes`: integers that are not negative, if these differ. */
static void copy_items(char *to, size_t to_bytes, const char *from, size_t from_bytes, int64_t count) {
    if (count == 0) return;
    if (to_bytes == from_bytes) {
        memcpy(to, from, (size_t)count * to_bytes);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        put_integer(to + (size_t)i * to_bytes, to_bytes, integer_at(from + (size_t)i * from_bytes, from_bytes));
}

static char *items_at(const exchanged *a, int64_t item) {
    return (char *)a->data + (size_t)item * a->item;
}

static void pack(const exchange *e, int rank, char *message) {
    for (int i = 0; i < e->count; i++) {
        const exchanged *a = &e->array[i];
        int64_t begin, end;
        if (!a->packed) continue;
        items_of(&a->share, rank, &begin, &end);
        copy_items(message, wire_of(a), items_at(a, begin), a->item, end - begin);
        message += packed_bytes(a, rank);
    }
}

static void unpack(const exchange *e, int rank, const char *message) {
    for (int i = 0; i < e->count; i++) {
        const exchanged *a = &e->array[i];
        int64_t begin, end;
        if (!a->packed) continue;
        items_of(&a->share, rank, &begin, &end);
        copy_items(items_at(a, begin), a->item, message, wire_of(a), end - begin);
        message += packed_bytes(a, rank);
    }
}

/* ---- the message ------------------------------------------------------------------------------------------------- */

/* Each rank's status is the first word of its message. */
enum { STATUS_BYTES = sizeof(int64_t) };

static size_t message_bytes(const exchange *e, int rank) {
    size_t bytes = STATUS_BYTES;
    for (int i = 0; i < e->count; i++)
        if (e->array[i].packed) bytes += packed_bytes(&e->array[i], rank);
    return bytes;
}

/* Makes room for the messages of all ranks. All ranks have the same room, so they grow, and agree on it, together. */
static mw_status reserve(const exchange *e, message_room *room) {
    int size = mw_comm_size(e->comm);
    size_t total = 0;
    for (int r = 0; r < size; r++) total += message_bytes(e, r);
    if (total > room->capacity) {
        mw_free(room->data);
        if (!room->bytes) room->bytes = mw_alloc((size_t)size * sizeof *room->bytes);
        room->capacity = total + total / 4;
        room->data = mw_alloc(room->capacity);
        mw_status status = mw_comm_agree(e->comm, room->data && room->bytes ? MW_OK : MW_ERR_MEMORY);
        if (status != MW_OK) exchange_close(e->comm);
        MW_TRY(status);
    }
    for (int r = 0; r < size; r++) room->bytes[r] = message_bytes(e, r);
    return MW_OK;
}

static mw_status exchange_packed(const exchange *e, const message_room *room, mw_status local) {
    int own = mw_comm_rank(e->comm), size = mw_comm_size(e->comm);
    int64_t worst = MW_OK;
    char *message = room->data;
    for (int r = 0; r < own; r++) message += room->bytes[r];
    put_integer(message, STATUS_BYTES, local);
    if (local == MW_OK)
        pack(e, own, message + STATUS_BYTES);
    else
        memset(message + STATUS_BYTES, 0, room->bytes[own] - STATUS_BYTES);
    MW_TRY(mw_comm_allgatherv(e->comm, NULL, room->bytes, room->data));
    message = room->data;
    for (int r = 0; r < size; message += room->bytes[r++]) {
        int64_t status = integer_at(message, STATUS_BYTES);
        if (status > worst) worst = status;
    }
    message = room->data;
    for (int r = 0; r < size && worst == MW_OK; message += room->bytes[r++])
        if (r != own) unpack(e, r, message + STATUS_BYTES);
    return (mw_status)worst;
}

/* An array in a message of its own. */
static mw_status exchange_alone(const exchange *e, const exchanged *a, size_t *bytes) {
    for (int r = 0; r < mw_comm_size(e->comm); r++) {
        int64_t begin, end;
        items_of(&a->share, r, &begin, &end);
        bytes[r] = (size_t)(end - begin) * a->item;
    }
    if (!a->device) return mw_comm_allgatherv(e->comm, NULL, bytes, a->data);
    if (!a->beside) return mw_comm_allgather_device(e->comm, e->backend, bytes, a->data);
    return mw_comm_begin_allgather(e->comm, e->backend, bytes, a->data, a->request);
}

mw_status exchange_run(exchange *e, mw_status local) {
    if (mw_comm_size(e->comm) == 1) return local;
    message_room *room = &mw_comm_device_of(e->comm)->room;
    for (int i = 0; i < e->count; i++) e->array[i].packed = is_packed(e, &e->array[i]);
    MW_TRY(reserve(e, room));
    MW_TRY(exchange_packed(e, room, local));
    for (int i = 0; i < e->count; i++)
        if (!e->array[i].packed) MW_TRY(exchange_alone(e, &e->array[i], room->bytes));
    return MW_OK;
}

void exchange_close(const mw_comm *comm) {
    message_room *room = &mw_comm_device_of(comm)->room;
    mw_free(room->data);
    mw_free(room->bytes);
    *room = (message_room){0};
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* Behind the values the message counts the ranks with each status. */
mw_status exchange_sums(const mw_comm *comm, mw_status local, int64_t *values, int64_t count) {
    int64_t *ranks = values + count;
    int worst = EXCHANGE_STATUSES - 1;
    if (mw_comm_size(comm) == 1) return local;
    memset(ranks, 0, EXCHANGE_STATUSES * sizeof *ranks);
    ranks[local] = 1;
    MW_TRY(mw_comm_allreduce_sum(comm, values, count + EXCHANGE_STATUSES));
    while (ranks[worst] == 0) worst--;
    return (mw_status)worst;
}
