/* Connections to a server: how long each may take for what it is at, and who goes when there are too many. Deadlines are fixed moments:
 * a byte now and then does not move them. Safe among threads. */
#ifndef MICROW_EXPERIMENT_INTERACTIVE_CONNECTIONS_H
#define MICROW_EXPERIMENT_INTERACTIVE_CONNECTIONS_H

#include "microw/base.h"

typedef struct connections connections;
typedef struct connection connection;

/* Room for `places` of those that are not trusted. A thread of its own shuts down what is late. */
mw_status connections_open(int64_t places, connections **out) MW_MUST_USE;
/* After the last has left. */
void connections_close(connections **all);

/* A connection with this socket, which has `seconds` from now. Where that makes too many that are not trusted, the oldest of them is shut
 * down (its socket is not closed: who owns it sees its end). NULL: out of memory. */
connection *connection_enter(connections *all, int fd, double seconds);
/* In these two NULL is one that could not enter, and nothing is done. It is never shut down for another's sake from here on. */
void connection_trust(connections *all, connection *one);
/* A new deadline, `seconds` from now; INFINITY: none. */
void connection_allow(connections *all, connection *one, double seconds);
/* Before its socket is closed. */
void connection_leave(connections *all, connection *one);

#endif
