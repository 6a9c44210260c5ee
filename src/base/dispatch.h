/* Inner loops that are compiled for several instruction sets, of which one is chosen when the program is loaded. */
#ifndef MICROW_BASE_DISPATCH_H
#define MICROW_BASE_DISPATCH_H

/* Sanitizers and load-time dispatch do not go together: their start-up runs after the dispatchers. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define DISPATCHED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DISPATCHED
#endif

#endif
