/* Holds fsync and fdatasync back while the file named by STALL_FDATASYNC_FILE
 * exists, and notes each call that waits by a line in "FILE.stalled".
 *
 * Preloaded into nodes by tests/src/shim.rs, to prove that no acknowledgement
 * leaves before the disk has answered. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_while_held(const char *call) {
    const char *control = getenv("STALL_FDATASYNC_FILE");
    if (control == NULL || access(control, F_OK) != 0) {
        return;
    }
    char path[4096];
    if (snprintf(path, sizeof path, "%s.stalled", control) < (int)sizeof path) {
        int note = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (note >= 0) {
            char line[64];
            int length = snprintf(line, sizeof line, "%s\n", call);
            if (write(note, line, (size_t)length) != length) { /* the file's existence is enough */ }
            close(note);
        }
    }
    const struct timespec moment = {.tv_sec = 0, .tv_nsec = 1000 * 1000};
    while (access(control, F_OK) == 0) {
        nanosleep(&moment, NULL);
    }
}

/* The C library's own function, whose calls this one stands before. */
static int real(const char *name, int file) {
    int (*function)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (function == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return function(file);
}

int fsync(int file) {
    wait_while_held("fsync");
    return real("fsync", file);
}

int fdatasync(int file) {
    wait_while_held("fdatasync");
    return real("fdatasync", file);
}
