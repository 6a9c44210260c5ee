/* Streams, events and copies: work of a stream waits until its result is needed. */
#include "emulator.h"

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>

namespace {

struct piece {
    std::function<void()> work;
    emulator::kind what;
};

struct queue {
    std::deque<piece> work;
    uint64_t done = 0; /* pieces of work since the stream was made */

    uint64_t appended() const {
        return done + work.size();
    }
};
typedef std::shared_ptr<queue> queue_of;

std::recursive_mutex one_at_a_time;
std::set<queue_of> all_queues;
std::map<const char *, size_t> pinned;

/* Does the first `at` pieces of a queue. A piece that waits for another stream runs that stream. A piece is counted
 * after it is done, because the stream that it waits for may read the count. */
void run_until(queue &q, uint64_t at) {
    if (q.done >= at) return;
    emulator::device_access here; /* once for all pieces: each change of access is a slow system call */
    while (q.done < at) {
        if (q.work.empty()) give_up("streams wait for each other");
        q.work.front().work();
        q.work.pop_front();
        q.done++;
    }
}

bool eager() {
    static const bool set = getenv("EMULATOR_STREAMS") && strcmp(getenv("EMULATOR_STREAMS"), "eager") == 0;
    return set;
}

bool is_pinned(const void *p) {
    auto after = pinned.upper_bound((const char *)p);
    if (after == pinned.begin()) return false;
    --after;
    return (const char *)p < after->first + after->second;
}

} // namespace

struct emulated_stream {
    queue_of all;
};
struct emulated_event {
    queue_of of; /* null: not recorded yet */
    uint64_t at;
};

namespace emulator {

locked::locked() {
    one_at_a_time.lock();
}

locked::~locked() {
    one_at_a_time.unlock();
}

void later(cudaStream_t stream, std::function<void()> work, kind what) {
    locked here;
    if (!stream) give_up("the project does not use the default stream, which waits for all others");
    stream->all->work.push_back({std::move(work), what});
    if (eager()) finish(stream);
}

void finish(cudaStream_t stream) {
    locked here;
    run_until(*stream->all, stream->all->appended());
}

void reach(cudaStream_t stream) {
    locked here;
    queue &q = *stream->all;
    uint64_t last = 0;
    for (size_t i = 0; i < q.work.size(); i++)
        if (q.work[i].what == WORK) last = i + 1;
    run_until(q, q.done + last);
    for (size_t i = 0; i < q.work.size(); i++)
        if (q.work[i].what == WAIT) std::function<void()>(q.work[i].work)();
}

void finish_all() {
    locked here;
    for (const queue_of &q : all_queues) run_until(*q, q->appended());
}

} // namespace emulator

/* ---- streams and events -------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    emulator::locked here;
    *out = new emulated_stream{std::make_shared<queue>()};
    all_queues.insert((*out)->all);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    emulator::locked here;
    emulator::finish(stream);
    all_queues.erase(stream->all);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    emulator::finish(stream);
    return cudaSuccess;
}
/* A query is a need. */
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return cudaStreamSynchronize(stream);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    emulator::locked here;
    queue_of of = event->of;
    uint64_t at = event->at;
    if (of && of != stream->all)
        emulator::later(
            stream, [=] { run_until(*of, at); }, emulator::WAIT);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    *out = new emulated_event{nullptr, 0};
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    emulator::locked here;
    *event = {stream->all, stream->all->appended()};
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    emulator::locked here;
    if (event->of) run_until(*event->of, event->at);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return cudaEventSynchronize(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

/* ---- pinned host memory, which copies read and write in place ------------------------------------------ */

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    emulator::locked here;
    size_t rounded = bytes ? bytes : 1;
    if (!(*out = malloc(rounded))) return cudaErrorMemoryAllocation;
    pinned[(char *)*out] = rounded;
    return cudaSuccess;
}
/* CUDA does not promise that cudaFreeHost waits for the device. */
cudaError_t cudaFreeHost(void *block) {
    emulator::locked here;
    pinned.erase((char *)block);
    free(block);
    return cudaSuccess;
}

/* ---- copies -------------------------------------------------------------------------------------------- */

static void check_sides(const void *to, const void *from, cudaMemcpyKind kind) {
    bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
    if (emulator::is_device(to) != to_device || emulator::is_device(from) != from_device)
        give_up("the pointers of a copy do not match its kind");
}

static void copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows) {
    emulator::device_access here;
    for (size_t r = 0; r < rows; r++) memmove((char *)to + r * to_pitch, (const char *)from + r * from_pitch, width);
}

/* Copies from plain memory read it before the call returns; copies to plain memory are done when the call returns. */
static cudaError_t copy_later(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
    if (rows == 0 || width == 0) return cudaSuccess;
    check_sides(to, from, kind);
    static const char *const names[] = {"", "up", "down", "across"};
    emulator::note("copy %s bytes %zu%s", names[kind], width * rows,
                   kind == cudaMemcpyDeviceToHost && !is_pinned(to) ? " pageable" : "");
    emulator::locked here;
    if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
        auto staged = std::make_shared<std::string>(width * rows, '\0');
        copy_rows(&(*staged)[0], width, from, from_pitch, width, rows);
        emulator::later(stream, [=] { copy_rows(to, to_pitch, staged->data(), width, width, rows); });
    } else {
        emulator::later(stream, [=] { copy_rows(to, to_pitch, from, from_pitch, width, rows); });
        if (kind == cudaMemcpyDeviceToHost && !is_pinned(to)) emulator::finish(stream);
    }
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy_later(to, bytes, from, bytes, bytes, 1, kind, stream);
}
/* Limits the pitch to cudaDevAttrMaxPitch of real devices. */
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
    if (width > to_pitch || width > from_pitch || to_pitch > INT32_MAX || from_pitch > INT32_MAX)
        return cudaErrorInvalidValue;
    return copy_later(to, to_pitch, from, from_pitch, width, rows, kind, stream);
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    if (bytes && !emulator::is_device(to)) give_up("cudaMemset of host memory");
    emulator::note("fill bytes %zu", bytes);
    emulator::later(stream, [=] {
        emulator::device_access here;
        memset(to, value, bytes);
    });
    return cudaSuccess;
}
