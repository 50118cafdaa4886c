/*
 * program.h - programs of this host that others ask for: hooks and loggers.
 * Host policy names them by path, each is looked at through a descriptor, and
 * the descriptor is what is executed.
 */
#ifndef DOMUS_PROGRAM_H
#define DOMUS_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "domus/wire.h"

#define PROGRAM_FDS_MAX 8

struct program {
    int fd; /* owned */
    bool script;
};

/*
 * The error does not name the program. allowed: the list; setting: its name in
 * domus.conf, for the error, which is -EPERM for what is not in the list, or
 * could be changed by others than root.
 */
int program_open(const struct string_list *allowed, const char *setting,
                 const char *path, struct program *program_out, struct err *e);
void program_close(struct program *program);

/* How it is started: in a session of its own, with nothing of ours but this. */
struct program_start {
    char *const *argv;
    char *const *envp;
    const char *cwd; /* NULL: the root directory */
    /* They become 0, 1, 2, …; -1: /dev/null. Borrowed. */
    int fds[PROGRAM_FDS_MAX];
    size_t fd_count;
    bool outlives_us;
};

/*
 * Forks. status_fd_out does not block, and ends when the program runs; see
 * program_status().
 */
int program_start(const struct program *program,
                  const struct program_start *start, pid_t *pid_out,
                  int *status_fd_out, struct err *e);

/* 1: it runs, 0: not known yet, negative: it could not be executed. */
int program_status(int status_fd, struct err *e);

#endif
