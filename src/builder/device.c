#include "device.h"

#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <xen/io/xenbus.h>

#include "domus/log.h"
#include "domus/loop.h"
#include "domus/mem.h"

#define XVD_MAJOR        202
#define TRANSACTIONS_MAX 20
#define SYSFS_BACKENDS   "/sys/bus/xen-backend/devices"

/* What libxl runs when `xl destroy` removes the device: it insists on one. */
#define REMOVE_SCRIPT "/bin/true"

int device_vbd_number(const char *name, uint32_t *number_out, struct err *e)
{
    if (strlen(name) != 4 || strncmp(name, "xvd", 3) != 0 || name[3] < 'a' ||
        name[3] > 'p')
        return err_set(e, EINVAL, "block device \"%s\" is none of xvda to xvdp",
                       LOG_Q(name, strlen(name)));
    *number_out = XVD_MAJOR << 8 | (uint32_t)(name[3] - 'a') << 4;
    return 0;
}

int device_vbd_check(const struct job_vbd *vbd, struct err *e)
{
    struct stat st;

    if (stat(vbd->path, &st) < 0)
        return err_errno(e, "%s: %s", vbd->name, vbd->path);
    if (!S_ISBLK(st.st_mode) || st.st_rdev != makedev(vbd->major, vbd->minor))
        return err_set(e, ENODEV, "%s: %s is not block device %u:%u", vbd->name,
                       vbd->path, vbd->major, vbd->minor);
    return 0;
}

/* --- attach --------------------------------------------------------------- */

struct transaction {
    struct xs_handle *xs;
    xs_transaction_t id;
    int error; /* errno of the first call that failed */
};

static void put(struct transaction *t, const char *directory, const char *key,
                const char *format, ...) __attribute__((format(printf, 4, 5)));

static void put(struct transaction *t, const char *directory, const char *key,
                const char *format, ...)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", directory, key);
    char value[4096];
    va_list args;
    int n;

    if (t->error)
        return;
    va_start(args, format);
    n = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(value))
        t->error = EMSGSIZE;
    else if (!xs_write(t->xs, t->id, path, value, (unsigned int)n))
        t->error = errno;
}

/* What is written below later inherits these permissions. */
static void make(struct transaction *t, const char *path, uint32_t owner,
                 uint32_t reader)
{
    struct xs_permissions perms[2] = {
        {.id = owner, .perms = XS_PERM_NONE},
        {.id = reader, .perms = XS_PERM_READ},
    };

    if (t->error)
        return;
    if (!xs_mkdir(t->xs, t->id, path) ||
        !xs_set_permissions(t->xs, t->id, path, perms, 2))
        t->error = errno;
}

/* What libxl, which believes no back end, keeps a copy of. */
static void put_description(struct transaction *t, const char *path,
                            const char *front, const struct job_vbd *vbd)
{
    put(t, path, "frontend", "%s", front);
    put(t, path, "params", "%s", vbd->path);
    put(t, path, "script", REMOVE_SCRIPT);
    put(t, path, "dev", "%s", vbd->name);
    put(t, path, "type", "phy");
    put(t, path, "mode", "%s", vbd->writable ? "w" : "r");
    put(t, path, "device-type", "disk");
    put(t, path, "removable", "0");
    put(t, path, "discard-enable", "%d", vbd->writable);
}

static void put_vbd(struct transaction *t, uint32_t domid, uint32_t number,
                    const struct job_vbd *vbd)
{
    _cleanup_free_ char *front =
        xasprintf("/local/domain/%u/device/vbd/%u", domid, number);
    _cleanup_free_ char *back =
        xasprintf("/local/domain/0/backend/vbd/%u/%u", domid, number);
    _cleanup_free_ char *ours =
        xasprintf("/libxl/%u/device/vbd/%u", domid, number);

    make(t, front, domid, 0);
    put(t, front, "backend", "%s", back);
    put(t, front, "backend-id", "0");
    put(t, front, "state", "%d", XenbusStateInitialising);
    put(t, front, "virtual-device", "%u", number);
    put(t, front, "device-type", "disk");

    put(t, ours, "backend", "%s", back);
    put_description(t, ours, front, vbd);

    make(t, back, 0, domid);
    put_description(t, back, front, vbd);
    put(t, back, "frontend-id", "%u", domid);
    put(t, back, "physical-device", "%x:%x", vbd->major, vbd->minor);
    put(t, back, "hotplug-status", "connected");
    put(t, back, "online", "1");
    put(t, back, "state", "%d", XenbusStateInitialising);
}

/* 0, or the errno of what failed; EAGAIN: somebody else was faster. */
static int attach_once(struct xs_handle *xs, uint32_t domid,
                       const struct job_vbd_list *vbds)
{
    struct transaction t = {.xs = xs};

    t.id = xs_transaction_start(xs);
    if (t.id == XBT_NULL)
        return errno;
    for (size_t i = 0; i < vbds->n && !t.error; i++) {
        uint32_t number;
        struct err ignored;

        if (device_vbd_number(vbds->v[i].name, &number, &ignored) < 0)
            t.error = EINVAL;
        else
            put_vbd(&t, domid, number, &vbds->v[i]);
    }
    if (!xs_transaction_end(xs, t.id, t.error != 0) && !t.error)
        t.error = errno;
    return t.error;
}

int device_attach_vbds(struct xs_handle *xs, uint32_t domid,
                       const struct job_vbd_list *vbds, struct err *e)
{
    int error = 0;

    for (int i = 0; i < TRANSACTIONS_MAX; i++) {
        error = attach_once(xs, domid, vbds);
        if (error != EAGAIN)
            break;
        (void)poll(NULL, 0, i); /* the more often, the more room */
    }
    if (error)
        return err_set(e, error, "cannot write block devices to xenstore: %s",
                       strerror(error));
    return 0;
}

/* --- wait ----------------------------------------------------------------- */

static int read_state(struct xs_handle *xs, const char *path)
{
    _cleanup_free_ char *node = xasprintf("%s/state", path);
    unsigned int length;
    _cleanup_free_ char *value = xs_read(xs, XBT_NULL, node, &length);

    /* The back end's own node, but a digit is all that is believed. */
    if (!value || length != 1 || value[0] < '0' || value[0] > '9')
        return XenbusStateUnknown;
    return value[0] - '0';
}

static int backend_error(struct xs_handle *xs, uint32_t domid, uint32_t number,
                         const struct job_vbd *vbd, struct err *e)
{
    _cleanup_free_ char *node = xasprintf(
        "/local/domain/0/error/backend/vbd/%u/%u/error", domid, number);
    unsigned int length = 0;
    _cleanup_free_ char *text = xs_read(xs, XBT_NULL, node, &length);

    return err_set(e, EIO, "the host's block driver refused %s (%s): %s",
                   vbd->name, vbd->path,
                   text ? LOG_Q(text, length) : "it does not say why");
}

/*
 * State 2 says that the driver is there; sysfs has the node once it opened
 * the device, which is all that it ever tells of success.
 */
static bool backend_ready(uint32_t domid, uint32_t number, int state)
{
    _cleanup_free_ char *opened =
        xasprintf(SYSFS_BACKENDS "/vbd-%u-%u/physical_device", domid, number);

    return state >= XenbusStateInitWait && access(opened, F_OK) == 0;
}

/* 1 when all are ready, 0 while not. */
static int backends_ready(struct xs_handle *xs, uint32_t domid,
                          const struct job_vbd_list *vbds, struct err *e)
{
    for (size_t i = 0; i < vbds->n; i++) {
        _cleanup_free_ char *path = NULL;
        uint32_t number;
        int state, r = device_vbd_number(vbds->v[i].name, &number, e);

        if (r < 0)
            return r;
        path = xasprintf("/local/domain/0/backend/vbd/%u/%u", domid, number);
        state = read_state(xs, path);
        if (state >= XenbusStateClosing)
            return backend_error(xs, domid, number, &vbds->v[i], e);
        if (!backend_ready(domid, number, state))
            return 0;
    }
    return 1;
}

int device_wait_backends(struct xs_handle *xs, uint32_t domid,
                         const struct job_vbd_list *vbds, int64_t milliseconds,
                         struct err *e)
{
    int64_t deadline = loop_now() + milliseconds;

    for (int pause = 1;; pause = pause < 16 ? pause * 2 : 16) {
        int r = backends_ready(xs, domid, vbds, e);

        if (r != 0)
            return r < 0 ? r : 0;
        if (loop_now() >= deadline)
            return err_set(e, ETIMEDOUT,
                           "the host's block driver did not take the devices "
                           "within %lld ms (is xen-blkback loaded?)",
                           (long long)milliseconds);
        (void)poll(NULL, 0, pause);
    }
}

void device_forget_errors(struct xs_handle *xs, uint32_t domid)
{
    _cleanup_free_ char *path =
        xasprintf("/local/domain/0/error/backend/vbd/%u", domid);

    (void)xs_rm(xs, XBT_NULL, path); /* mostly, there is none */
}

/* 1 while blkback has a device for this domain. */
static int blkback_serves(uint32_t domid)
{
    _cleanup_free_ char *prefix = xasprintf("vbd-%u-", domid);
    _cleanup_closedir_ DIR *d = opendir(SYSFS_BACKENDS);
    struct dirent *entry;

    while (d && (entry = readdir(d)))
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            return 1;
    return 0;
}

int device_wait_released(uint32_t domid, int64_t milliseconds, struct err *e)
{
    int64_t deadline = loop_now() + milliseconds;

    while (blkback_serves(domid)) {
        if (loop_now() >= deadline)
            return err_set(e, ETIMEDOUT,
                           "the host's block driver still serves domain %u "
                           "after %lld ms",
                           domid, (long long)milliseconds);
        (void)poll(NULL, 0, 2);
    }
    return 0;
}
