/* Signals: where handlers run, what children of the program inherit, and the heap below products under signals. */
#include "microw/backend.h"
#include "microw/base.h"
#include "test.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const int watched[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};

static bool blocks_all(void) {
    sigset_t now;
    bool all = pthread_sigmask(SIG_BLOCK, NULL, &now) == 0;
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) all = all && sigismember(&now, watched[i]) == 1;
    return all;
}

static bool arrives(int number) {
    kill(getpid(), number);
    for (int i = 0; i < 10000 && mw_signal_seen() != number; i++) usleep(1000);
    return mw_signal_seen() == number;
}

static void threads_block_them(void) {
    int blocking = 0, threads = 0;
    CHECK(blocks_all());
#pragma omp parallel num_threads(3) reduction(+ : blocking, threads)
    {
        blocking += blocks_all();
        threads++;
    }
    CHECK(threads == 3 && blocking == threads);
}

static void commands_get_them(void) {
    mw_text out = {0};
    CHECK_SAYS(MW_ERR_IO, "was ended by signal 15", mw_command_run("kill -TERM $$; sleep 20", "", 0, 60, 100, &out));
    mw_text_free(&out);
}

enum { BLOCKS = 4000, BLOCK_BYTES = 8192, PATTERN = 0xa5 };

/* Leaves holes of half a MB between blocks that hold a pattern. */
static void fill_heap(unsigned char *blocks[BLOCKS]) {
    for (int i = 0; i < BLOCKS; i++) {
        NEED(blocks[i] = mw_alloc(BLOCK_BYTES));
        memset(blocks[i], PATTERN, BLOCK_BYTES);
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (i % 200 >= 64) continue;
        mw_free(blocks[i]);
        blocks[i] = NULL;
    }
}

static int64_t changed_bytes(unsigned char *const blocks[BLOCKS]) {
    int64_t changed = 0;
    for (int i = 0; i < BLOCKS; i++)
        for (int j = 0; blocks[i] && j < BLOCK_BYTES; j++) changed += blocks[i][j] != PATTERN;
    return changed;
}

/* A process that sends signals until it is killed or this one has ended. */
static pid_t start_sender(void) {
    pid_t here = getpid(), child = fork();
    if (child != 0) return child;
    while (getppid() == here) {
        kill(here, SIGUSR1);
        usleep(200);
    }
    _exit(0);
}

static void multiply_often(void) {
    enum { M = 128, N = 256, K = 512, CALLS = 300 };
    mw_backend *cpu = NULL;
    float *a = mw_calloc(M * K, sizeof *a), *b = mw_calloc(K * N, sizeof *b), *c = mw_calloc(M * N, sizeof *c);
    NEED(a && b && c);
    NEED_OK(mw_backend_open("cpu", &cpu));
    mw_matmul product = {
        .m = M, .n = N, .k = K, .a = a, .lda = K, .b = b, .ldb = N, .b_dtype = MW_F32, .c = c, .ldc = N};
    for (int i = 0; i < CALLS; i++) CHECK_OK(cpu->ops->matmul(cpu, &product));
    mw_backend_close(&cpu);
    mw_free(a);
    mw_free(b);
    mw_free(c);
}

/* oneDNN's kernels compute with the stack pointer in a block of the heap (findings/onednn_signal_frame_in_heap.sh). */
static void products_keep_the_heap(void) {
    static unsigned char *blocks[BLOCKS];
    fill_heap(blocks);
    pid_t sender = start_sender();
    multiply_often();
    kill(sender, SIGKILL);
    waitpid(sender, NULL, 0);
    CHECK(changed_bytes(blocks) == 0);
    for (int i = 0; i < BLOCKS; i++) mw_free(blocks[i]);
}

static void all_are_recorded(void) {
    CHECK(arrives(SIGHUP) && arrives(SIGTERM) && arrives(SIGUSR1) && arrives(SIGINT));
    CHECK(mw_if_interrupted(MW_OK) == MW_INTERRUPTED && mw_if_interrupted(MW_ERR_IO) == MW_ERR_IO);
}

int main(void) {
    CHECK(mw_signal_seen() == 0);
    NEED_OK(mw_signals_watch());
    NEED_OK(mw_signals_watch()); /* the second call does nothing */
    RUN(threads_block_them);
    RUN(commands_get_them);
    RUN(products_keep_the_heap);
    RUN(all_are_recorded);
    return test_end();
}
