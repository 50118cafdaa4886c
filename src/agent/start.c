#include "start.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void start_report(int sync, const struct err *e)
{
    struct child_report r = {.code = (uint32_t)e->code};

    (void)snprintf(r.text, sizeof(r.text), "%.*s", START_TEXT_MAX - 1, e->text);
    /* Not send(): the container's filter holds already, and what it denies a
     * program without network it may not deny here. */
    if (write(sync, &r, sizeof(r)) < 0)
        return; /* nobody waits for it any more */
}

/* The system call itself, since the C library leaves alone the two signals
 * that it uses for threads. */
void start_reset_signals(void)
{
    static const struct kernel_sigaction {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } by_default = {0};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        (void)syscall(SYS_rt_sigaction, sig, &by_default, NULL,
                      sizeof(by_default.mask));
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int start_take_stdio(const int *stdio, const char *terminal, struct err *e)
{
    for (int i = 0; i < 3; i++)
        if (dup2(stdio[i], i) < 0)
            return err_errno(e, "set up standard stream %d", i);
    if (setsid() < 0)
        return err_errno(e, "make a session");
    if (terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
        return err_errno(e, "take the terminal %s", terminal);
    return 0;
}

/* No descriptor of the agent may be reached, not even by a working directory
 * such as /proc/self/fd/5, so they go before anything looks at one. */
int start_keep_only(int *sync, struct err *e)
{
    if (*sync != START_SYNC_FD && dup3(*sync, START_SYNC_FD, O_CLOEXEC) < 0)
        return err_errno(e, "keep the agent's socket");
    *sync = START_SYNC_FD;
    if (close_range(START_SYNC_FD + 1, ~0u, 0) < 0)
        return err_errno(e, "close the agent's descriptors");
    return 0;
}
