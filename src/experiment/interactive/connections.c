/* Connections to a server. */
#include "experiment/interactive/connections.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct connection {
    connection *next; /* newest first */
    int fd;
    double deadline;
    bool trusted, shut;
};

struct connections {
    pthread_mutex_t lock;
    pthread_t watch;
    connection *first;
    int64_t capacity;
    bool closing;
};

static void shut(connection *one) {
    one->shut = true;
    shutdown(one->fd, SHUT_RDWR);
}

static void shut_late(connections *all) {
    double now = mw_seconds();
    pthread_mutex_lock(&all->lock);
    for (connection *g = all->first; g; g = g->next)
        if (!g->shut && now > g->deadline) shut(g);
    pthread_mutex_unlock(&all->lock);
}

static bool is_closing(connections *all) {
    pthread_mutex_lock(&all->lock);
    bool closing = all->closing;
    pthread_mutex_unlock(&all->lock);
    return closing;
}

static void *watch(void *self) {
    enum { EVERY_MS = 200 };
    while (!is_closing(self)) {
        shut_late(self);
        nanosleep(&(struct timespec){.tv_nsec = EVERY_MS * 1000000}, NULL);
    }
    return NULL;
}

mw_status connections_open(int64_t capacity, connections **out) {
    connections *all = mw_calloc(1, sizeof *all);
    if (!all) return MW_ERR_MEMORY;
    all->capacity = capacity;
    pthread_mutex_init(&all->lock, NULL);
    int error = pthread_create(&all->watch, NULL, watch, all);
    if (!error) return *out = all, MW_OK;
    pthread_mutex_destroy(&all->lock);
    mw_free(all);
    return mw_error(MW_ERR_STATE, "cannot start a thread: %s", strerror(error));
}

void connections_close(connections **slot) {
    connections *all = *slot;
    if (!all) return;
    pthread_mutex_lock(&all->lock);
    all->closing = true;
    pthread_mutex_unlock(&all->lock);
    pthread_join(all->watch, NULL);
    pthread_mutex_destroy(&all->lock);
    mw_free(all);
    *slot = NULL;
}

static void make_room(connections *all) {
    connection *oldest = NULL;
    int64_t untrusted = 0;
    for (connection *g = all->first; g; g = g->next) {
        if (g->trusted || g->shut) continue;
        untrusted++;
        oldest = g;
    }
    if (untrusted > all->capacity) shut(oldest);
}

connection *connection_enter(connections *all, int fd, double seconds) {
    connection *one = mw_calloc(1, sizeof *one);
    if (!one) return NULL;
    *one = (connection){.fd = fd, .deadline = mw_seconds() + seconds};
    pthread_mutex_lock(&all->lock);
    one->next = all->first;
    all->first = one;
    make_room(all);
    pthread_mutex_unlock(&all->lock);
    return one;
}

void connection_trust(connections *all, connection *one) {
    if (!one) return;
    pthread_mutex_lock(&all->lock);
    one->trusted = true;
    pthread_mutex_unlock(&all->lock);
}

void connection_allow(connections *all, connection *one, double seconds) {
    if (!one) return;
    pthread_mutex_lock(&all->lock);
    one->deadline = mw_seconds() + seconds;
    pthread_mutex_unlock(&all->lock);
}

void connection_leave(connections *all, connection *one) {
    pthread_mutex_lock(&all->lock);
    connection **at = &all->first;
    while (*at && *at != one) at = &(*at)->next;
    if (*at) *at = one->next;
    pthread_mutex_unlock(&all->lock);
    mw_free(one);
}
