#include "builder.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "domus/job.h"
#include "domus/log.h"
#include "watcher.h"
#include "worker.h"

int builder_main(int argc, char **argv)
{
    const char *role = argc == 2 ? argv[1] : "";
    bool worker = strcmp(role, "worker") == 0;
    struct err e = ERR_INIT;
    int flags, r;

    if (!worker && strcmp(role, "watcher") != 0) {
        log_error("a builder is a \"worker\" or a \"watcher\"");
        return 2;
    }
    log_set_fields(worker ? "role=worker" : "role=watcher");
    flags = fcntl(JOB_FD, F_GETFL);
    /* Both roles wait for domusd to take an answer: there is no other work. */
    if (flags < 0 || fcntl(JOB_FD, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        fcntl(JOB_FD, F_SETFD, FD_CLOEXEC) < 0) {
        log_error("no socket of domusd on descriptor %d", JOB_FD);
        return 2;
    }
    /* A job whose answer nobody awaits must not go on. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGPIPE, SIG_IGN);

    r = worker ? worker_run(JOB_FD, &e) : watcher_run(JOB_FD, &e);
    if (r < 0) {
        log_error("%s", e.text);
        return 1;
    }
    return 0;
}
