/* Counts allocations of at least LEAST bytes; loaded before a process's own malloc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>

#ifndef LEAST
#define LEAST 16384
#endif

static atomic_long counted;

long allocations(void) { return counted; }

static void *(*next(const char *name))() { return (void *(*)())dlsym(RTLD_NEXT, name); }

void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (!real) real = (void *(*)(size_t))next("malloc");
    counted += size >= LEAST;
    return real(size);
}

void *realloc(void *old, size_t size) {
    static void *(*real)(void *, size_t);
    if (!real) real = (void *(*)(void *, size_t))next("realloc");
    counted += size >= LEAST;
    return real(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    static void *(*real)(size_t, size_t);
    if (!real) real = (void *(*)(size_t, size_t))next("aligned_alloc");
    counted += size >= LEAST;
    return real(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    static int (*real)(void **, size_t, size_t);
    if (!real) real = (int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
    counted += size >= LEAST;
    return real(out, alignment, size);
}
