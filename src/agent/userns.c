#include "userns.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/buf.h"
#include "domus/mem.h"
#include "mount.h"
#include "rootfs.h"

#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

int userns_map(const struct spec_id_map_list *maps, uint32_t inside,
               uint32_t *outside_out, struct err *e)
{
    for (size_t i = 0; i < maps->n; i++) {
        const struct spec_id_map *m = &maps->v[i];

        if (inside >= m->inside && inside - m->inside < m->size) {
            *outside_out = m->outside + (inside - m->inside);
            return 0;
        }
    }
    return err_set(e, EINVAL, "the user namespace has no id %u", inside);
}

static int mount_fresh(const char *type, const char *path, struct err *e)
{
    _cleanup_fd_ int place = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_fd_ int fs = -1;
    int r;

    if (place < 0)
        return err_errno(e, "open %s", path);
    r = mount_create(type, type, SAFE, NULL, &fs, e);
    return r < 0 ? r : mount_attach(fs, place, e);
}

int userns_prepare(struct err *e)
{
    int r = mount_fresh("proc", ROOTFS_PROC, e);

    return r < 0 ? r : mount_fresh("sysfs", ROOTFS_SYSFS, e);
}

static int write_map(int proc, const char *name,
                     const struct spec_id_map_list *maps)
{
    char line[64];
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_fd_ int fd = openat(proc, name, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return errno;
    for (size_t i = 0; i < maps->n; i++) {
        int n = snprintf(line, sizeof(line), "%u %u %u\n", maps->v[i].inside,
                         maps->v[i].outside, maps->v[i].size);

        buf_append(&text, line, (size_t)n);
    }
    /* One write is all that the file takes. */
    return write(fd, buf_data(&text), buf_len(&text)) < 0 ? errno : 0;
}

/* The helper: it stays behind in the guest's user namespace, whose root may
 * write any map, and does so when it is told that there is one to write. */
static _Noreturn void write_maps(const struct spec_container *spec, int proc,
                                 int told)
{
    char word;
    int code = ECANCELED;

    if (read(told, &word, 1) == 1)
        code = write_map(proc, "uid_map", &spec->uid_maps);
    if (code == 0)
        code = write_map(proc, "gid_map", &spec->gid_maps);
    _exit(code);
}

static int wait_for_maps(pid_t helper, struct err *e)
{
    int status;

    while (waitpid(helper, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, "wait for the id maps");
    if (!WIFEXITED(status))
        return err_set(e, EIO, "the id maps were not written");
    if (WEXITSTATUS(status))
        return err_set(e, WEXITSTATUS(status),
                       "write the id maps of the user namespace: %s",
                       strerror(WEXITSTATUS(status)));
    return 0;
}

int userns_leave(const struct spec_container *spec, struct err *e)
{
    _cleanup_fd_ int proc = open("/proc/self", O_PATH | O_CLOEXEC);
    _cleanup_fd_ int told = -1;
    _cleanup_fd_ int tell = -1;
    pid_t helper;
    int ends[2];
    int r, waited;
    struct err late = ERR_INIT;

    if (spec->uid_maps.n == 0 || spec->gid_maps.n == 0)
        return err_set(e, EINVAL,
                       "a user namespace needs uid and gid mappings");
    if (proc < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "prepare the id maps");
    told = ends[0];
    tell = ends[1];
    helper = fork();
    if (helper < 0)
        return err_errno(e, "make a process for the id maps");
    if (helper == 0) {
        (void)close(tell);
        write_maps(spec, proc, told);
    }
    r = unshare(CLONE_NEWUSER) < 0 ? err_errno(e, "make a user namespace") : 0;
    if (r == 0 && write(tell, "", 1) != 1)
        r = err_errno(e, "ask for the id maps");
    close_fd(&tell);
    waited = wait_for_maps(helper, &late);
    if (r == 0 && waited < 0)
        r = err_set(e, late.code, "%s", late.text);
    return r;
}

/* The others come last: a message queue's file system is made by whoever makes
 * its namespace. */
int userns_become_root(const struct spec_container *spec, struct err *e)
{
    const uint64_t others = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

    if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 ||
        setresuid(0, 0, 0) < 0)
        return err_errno(e, "become root of the user namespace; its maps must "
                            "have the id 0");
    if (unshare(CLONE_NEWNS | (int)(spec->namespaces & others)) < 0)
        return err_errno(e, "make the namespaces of a user namespace");
    return 0;
}
