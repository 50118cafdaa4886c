#include "spawn.h"

#include <signal.h>
#include <unistd.h>

int spawn(const char *program, char *const *argv,
          posix_spawn_file_actions_t *actions, pid_t *pid_out, struct err *e)
{
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int r;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID |
                                              POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    r = posix_spawnp(pid_out, program, actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(actions);
    posix_spawnattr_destroy(&attributes);
    if (r == 0)
        return 0;
    errno = r;
    return err_errno(e, "cannot start %s", program);
}
