/* DISPATCHED: compiles a function for several instruction sets; the loader selects one for the CPU. */
#ifndef MICROW_BASE_DISPATCH_H
#define MICROW_BASE_DISPATCH_H

/* Not with sanitizers: their start-up runs after the dispatchers. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define DISPATCHED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DISPATCHED
#endif

#endif
