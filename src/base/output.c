/* Standard descriptors of a program: opens missing ones at the start, reports unwritten output at the end. */
#include "microw/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Opens closed descriptors on /dev/null: otherwise the next opened files would get their numbers, and messages would be
 * written into those files. Opened for reading only, they refuse writes. */
static mw_status open_missing(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0)
            return mw_error(MW_ERR_IO, "/dev/null: cannot open: %s", strerror(errno));
    return MW_OK;
}

mw_status mw_output_begin(void) {
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    if (sigaction(SIGPIPE, &ignore, NULL) != 0)
        return mw_error(MW_ERR_STATE, "SIGPIPE cannot be ignored: %s", strerror(errno));
    return open_missing();
}

/* Whether the other end of a pipe, socket or terminal is closed. */
static bool reader_is_gone(int fd) {
    struct pollfd end = {.fd = fd, .events = POLLOUT};
    return poll(&end, 1, 0) == 1 && (end.revents & (POLLERR | POLLHUP));
}

mw_status mw_output_end(void) {
    bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) != 0) failed = true;
    if (!failed) { /* network file systems may report errors only at close */
        int copy = dup(STDOUT_FILENO);
        failed = copy < 0 || close(copy) != 0;
    }
    if (!failed || reader_is_gone(STDOUT_FILENO)) return MW_OK;
    return mw_error(MW_ERR_IO, "standard output: write failed%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
}
