/* Connections to a server: a deadline for each, and which one is shut down when there are too many. A deadline is a
 * fixed time, which received bytes do not move. Thread-safe. */
#ifndef MICROW_EXPERIMENT_INTERACTIVE_CONNECTIONS_H
#define MICROW_EXPERIMENT_INTERACTIVE_CONNECTIONS_H

#include "microw/base.h"

typedef struct connections connections;
typedef struct connection connection;

/* Starts a thread that shuts down connections after their deadlines. `capacity`: of connections that are not
 * trusted. */
mw_status connections_open(int64_t capacity, connections **out) MW_MUST_USE;
/* Ends the thread and frees; all connections must have left. */
void connections_close(connections **all);

/* Adds a connection with this socket and a deadline `seconds` from now. Above the capacity, the oldest connection
 * that is not trusted is shut down; its owner closes the socket. NULL: out of memory. */
connection *connection_enter(connections *all, int fd, double seconds);
/* Exempts a connection from the capacity. NULL, here and below: does nothing. */
void connection_trust(connections *all, connection *one);
/* Sets the deadline to `seconds` from now; INFINITY: none. */
void connection_allow(connections *all, connection *one, double seconds);
/* Removes and frees a connection, before its socket is closed. */
void connection_leave(connections *all, connection *one);

#endif
