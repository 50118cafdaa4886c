#include "timens.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "domus/mem.h"

/* The file takes them in one write, and only before anybody is inside. */
static int write_offsets(const struct spec_time_offset *monotonic,
                         const struct spec_time_offset *boottime, struct err *e)
{
    _cleanup_free_ char *text =
        xasprintf("monotonic %lld %u\nboottime %lld %u\n",
                  (long long)monotonic->seconds, monotonic->nanoseconds,
                  (long long)boottime->seconds, boottime->nanoseconds);
    _cleanup_fd_ int fd =
        open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return err_errno(e,
                         "set the offsets of a time namespace: monotonic "
                         "%lld s, boottime %lld s",
                         (long long)monotonic->seconds,
                         (long long)boottime->seconds);
    return 0;
}

int timens_enter(const struct spec_time_offset *monotonic,
                 const struct spec_time_offset *boottime, struct err *e)
{
    _cleanup_fd_ int fd = -1;
    int r;

    if (unshare(CLONE_NEWTIME) < 0)
        return err_errno(e, "make a time namespace");
    r = write_offsets(monotonic, boottime, e);
    if (r < 0)
        return r;
    /* It is meant for children; Linux before 6.3 does not enter it on exec. */
    fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
        return err_errno(e, "enter the time namespace");
    return 0;
}
