#!/bin/bash
# Expectation: a program with a signal handler may call a library's matrix product; a handler's frame is on the stack.
# Observation (oneDNN 2.6.3, with AVX-512): the sgemm kernels let rsp point into a block of the heap and count on nobody
# else to push. Of the signals that arrive during a product, more than 9 of 10 find rsp off the stack for many shapes;
# without an alternate stack the kernel writes the frame, 3 kB with AVX-512 and 11 kB with AMX, over what is below that
# block. The program ends much later in "double free or corruption", or continues with changed values. oneDNN 3.12
# keeps rsp (https://github.com/uxlfoundation/oneDNN/issues/4845).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/off.c" <<'END_C'
#define _GNU_SOURCE
#include <dnnl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static uintptr_t low, high;
static volatile long on, off;

static void count(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    uintptr_t rsp = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RSP];
    if (rsp >= low && rsp < high)
        on++;
    else
        off++;
}

int main(void) {
    enum { M = 128, N = 256, K = 512, ALTERNATE = 1 << 20 };
    pthread_attr_t here;
    void *base;
    size_t size;
    pthread_getattr_np(pthread_self(), &here);
    pthread_attr_getstack(&here, &base, &size);
    low = (uintptr_t)base;
    high = low + size;
    sigaltstack(&(stack_t){.ss_sp = malloc(ALTERNATE), .ss_size = ALTERNATE}, NULL);
    sigaction(SIGALRM, &(struct sigaction){.sa_sigaction = count, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK}, NULL);
    float *a = calloc(M * K, 4), *b = calloc(K * N, 4), *c = calloc(M * N, 4);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 200}, {0, 200}}, NULL);
    for (time_t end = time(NULL) + 3; time(NULL) < end;)
        dnnl_sgemm('N', 'N', M, N, K, 1, a, K, b, N, 0, c, N);
    const dnnl_version_t *v = dnnl_version();
    printf("oneDNN %d.%d.%d: rsp on the stack at %ld signals, elsewhere at %ld\n", v->major, v->minor, v->patch, on, off);
    return off > 0 ? 0 : 1;
}
END_C
cc -O1 -o "$work/off" "$work/off.c" -ldnnl
OMP_NUM_THREADS=1 "$work/off" && echo "as described" && exit 0
echo "this has changed"
exit 1
