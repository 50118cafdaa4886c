#include "seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "domus/mem.h"

/* A listener would need somebody who answers it. */
#define FLAGS_KNOWN                                        \
    (SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | \
     SECCOMP_FILTER_FLAG_SPEC_ALLOW)

int seccomp_load(const struct byte_list *program, uint64_t flags, struct err *e)
{
    _cleanup_free_ struct sock_filter *filter = NULL;
    struct sock_fprog prog;

    if (program->n == 0)
        return 0;
    if (program->n % sizeof(*filter) ||
        program->n / sizeof(*filter) > BPF_MAXINSNS)
        return err_set(e, EINVAL,
                       "the seccomp filter has %zu bytes; it must be at most "
                       "%d instructions of %zu bytes",
                       program->n, BPF_MAXINSNS, sizeof(*filter));
    if (flags & ~(uint64_t)FLAGS_KNOWN)
        return err_set(e, EINVAL, "seccomp flags 0x%llx are not supported",
                       (unsigned long long)flags & ~(uint64_t)FLAGS_KNOWN);
    /* The bytes may lie at any address. */
    filter = xmalloc(program->n);
    memcpy(filter, program->v, program->n);
    prog.len = (unsigned short)(program->n / sizeof(*filter));
    prog.filter = filter;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) < 0)
        return err_errno(e, "load the seccomp filter");
    return 0;
}
