#include "xl.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "domus/mem.h"

#define XENSTORE_DEADLINE_MS 5000

void xl_close(struct xl *xl)
{
    if (xl->ctx)
        (void)libxl_ctx_free(xl->ctx);
    if (xl->xs)
        xs_close(xl->xs);
    xl->ctx = NULL;
    xl->xs = NULL;
}

static int host_check(struct err *e)
{
    _cleanup_fclose_ FILE *f = fopen("/sys/hypervisor/type", "re");
    char line[64] = "";

    if (!f || !fgets(line, sizeof(line), f) || strcmp(line, "xen\n") != 0)
        return err_set(e, ENODEV,
                       "this host does not run Xen: /sys/hypervisor/type %s",
                       f ? "names another hypervisor" : "is missing");
    if (access("/dev/xen/privcmd", R_OK | W_OK) < 0)
        return err_errno(e, "this host runs Xen but offers no hypercalls: "
                            "/dev/xen/privcmd");
    return 0;
}

/*
 * A xenstored that does not run, or hangs, blocks its clients for ever in
 * the kernel: a child asks first, and can be killed.
 */
static int xenstore_check(struct err *e)
{
    _cleanup_fd_ int pidfd = -1;
    struct pollfd p = {.events = POLLIN};
    int status = 0, n;
    pid_t pid = fork();

    if (pid < 0)
        return err_errno(e, "fork");
    if (pid == 0) {
        struct xs_handle *xs = xs_open(0);
        unsigned int length;

        _exit(xs && xs_read(xs, XBT_NULL, "/local/domain/0/domid", &length)
                  ? 0
                  : 1);
    }
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    p.fd = pidfd;
    do {
        n = pidfd < 0 ? -1 : poll(&p, 1, XENSTORE_DEADLINE_MS);
    } while (n < 0 && pidfd >= 0 && errno == EINTR);
    if (n != 1)
        (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    if (n != 1)
        return err_set(e, ETIMEDOUT, "xenstored does not answer");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(e, ECONNREFUSED,
                       "xenstored is not running, or has not set up "
                       "domain 0 (is the service \"xen\" started?)");
    return 0;
}

int xl_open(struct xl *xl, struct err *e)
{
    int rc, r;

    xl_log_reset(&xl->log);
    if (xl->ctx && xl->xs)
        return 0;
    r = host_check(e);
    if (r == 0)
        r = xenstore_check(e);
    if (r < 0)
        return r;
    rc = libxl_ctx_alloc(&xl->ctx, LIBXL_VERSION, 0, &xl->log.vtable);
    if (rc) {
        xl->ctx = NULL;
        return xl_fail(xl, rc, e, "cannot reach Xen");
    }
    xl->xs = xs_open(0);
    if (!xl->xs) {
        (void)err_errno(e, "cannot reach xenstored");
        xl_close(xl);
        return -e->code;
    }
    return 0;
}
