#include "record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "domus/mem.h"

#define RECORD_MAX 512

static int write_file(const char *path, const char *text, struct err *e)
{
    size_t n = strlen(text);
    _cleanup_fd_ int fd = -1;

    (void)unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "cannot create %s", path);
    if (write(fd, text, n) != (ssize_t)n || fsync(fd) < 0)
        return err_errno(e, "cannot write %s", path);
    return 0;
}

int record_write_file(const char *bundle, const char *name, const char *text,
                      struct err *e)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", bundle, name);
    _cleanup_free_ char *temporary = xasprintf("%s/.%s", bundle, name);
    int r = write_file(temporary, text, e);

    if (r < 0)
        return r;
    if (rename(temporary, path) < 0)
        return err_errno(e, "cannot rename %s", temporary);
    return 0;
}

int record_write(const char *bundle, const struct record *record, struct err *e)
{
    _cleanup_free_ char *text =
        xasprintf("shim=%d\nsandbox=%d\nexited=%d\nstatus=%" PRIu32
                  "\nexited_ns=%" PRIu64 "\n",
                  (int)record->shim, record->sandbox, record->exited,
                  record->status, record->exited_ns);

    return record_write_file(bundle, RECORD_FILE, text, e);
}

int record_read(const char *bundle, struct record *record_out, struct err *e)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", bundle, RECORD_FILE);
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct record record = {0};
    char text[RECORD_MAX];
    int shim, sandbox, exited;
    ssize_t n;

    if (fd < 0 && errno == ENOENT) {
        *record_out = record;
        return 0;
    }
    n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return err_errno(e, "cannot read %s", path);
    text[n] = '\0';
    if (sscanf(text,
               "shim=%d\nsandbox=%d\nexited=%d\nstatus=%" SCNu32
               "\nexited_ns=%" SCNu64,
               &shim, &sandbox, &exited, &record.status,
               &record.exited_ns) != 5)
        return err_set(e, EINVAL, "%s: not a record of this version", path);
    record.shim = shim;
    record.sandbox = sandbox != 0;
    record.exited = exited != 0;
    *record_out = record;
    return 0;
}
