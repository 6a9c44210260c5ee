/* hold FILE COMMAND...: runs a command while this process has FILE open for writing, with HDF5's lock on it. */
#include "store/h5_file.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    hid_t file;
    void *handle = NULL;
    if (argc < 3 || h5_open(argv[1], NULL, true, &file) != MW_OK) return 125;
    /* the lock lasts as long as a descriptor is open, also in daemons that the command starts */
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) < 0 || fcntl(*(int *)handle, F_SETFD, FD_CLOEXEC) != 0)
        return 125;
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        _exit(126);
    }
    int ended = 0;
    bool good = child > 0 && waitpid(child, &ended, 0) == child && WIFEXITED(ended);
    return H5Fclose(file) >= 0 && good ? WEXITSTATUS(ended) : 125;
}
