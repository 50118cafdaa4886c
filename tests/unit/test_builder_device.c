/*
 * The xenstore library is replaced by a flat store in memory, so that what a
 * transaction holds can be read back, and made to conflict.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "domus/mem.h"
#include "src/builder/device.h"

#define NODES_MAX 256
#define DOMID     7
#define BACKENDS  "/local/domain/0/backend/vbd/7/"
#define SYSFS     "/sys/bus/xen-backend/devices"

struct node {
    char *path;
    char *value;
    uint32_t owner, reader;
    unsigned int owner_perms, reader_perms; /* XS_PERM_ bits */
};

static struct {
    struct node nodes[NODES_MAX];
    size_t n;
    bool open;     /* a transaction is */
    int started;   /* transactions */
    int conflicts; /* how many of them shall fail */
    int committed;
    int fail_write;    /* errno of every write */
    int outside;       /* writes without a transaction */
    bool opened;       /* the host's driver has both devices */
    const char *state; /* of back ends, when read */
} store;

static struct node *node_at(const char *path)
{
    for (size_t i = 0; i < store.n; i++)
        if (strcmp(store.nodes[i].path, path) == 0)
            return &store.nodes[i];
    return NULL;
}

static struct node *node_make(const char *path)
{
    struct node *n = node_at(path);
    char parent[512];
    char *slash;

    if (n)
        return n;
    assert_true(store.n < NODES_MAX);
    n = &store.nodes[store.n++];
    *n = (struct node){.path = xstrdup(path), .value = xstrdup("")};
    (void)snprintf(parent, sizeof(parent), "%s", path);
    slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        struct node *up;

        *slash = '\0';
        up = node_make(parent);
        n->owner = up->owner;
        n->reader = up->reader;
        n->owner_perms = up->owner_perms;
        n->reader_perms = up->reader_perms;
    }
    return n;
}

static void store_clear(void)
{
    for (size_t i = 0; i < store.n; i++) {
        free(store.nodes[i].path);
        free(store.nodes[i].value);
    }
    store.n = 0;
}

static const char *value_of(const char *path)
{
    struct node *n = node_at(path);

    return n ? n->value : "(missing)";
}

static struct xs_handle *handle(void)
{
    return (struct xs_handle *)&store;
}

/* --- the library's functions ---------------------------------------------- */

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    (void)h;
    assert_false(store.open);
    store.open = true;
    store.started++;
    return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abandon)
{
    (void)h;
    assert_int_equal(t, 1);
    assert_true(store.open);
    store.open = false;
    if (abandon) {
        store_clear();
        return true;
    }
    if (store.conflicts > 0) {
        store.conflicts--;
        store_clear();
        errno = EAGAIN;
        return false;
    }
    store.committed++;
    return true;
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    (void)h;
    store.outside += t != 1;
    (void)node_make(path);
    return true;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path,
              const void *data, unsigned int length)
{
    struct node *n;

    (void)h;
    store.outside += t != 1;
    if (store.fail_write) {
        errno = store.fail_write;
        return false;
    }
    n = node_make(path);
    free(n->value);
    n->value = xstrndup(data, length);
    return true;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t,
                        const char *path, struct xs_permissions *perms,
                        unsigned int count)
{
    struct node *n = node_at(path);

    (void)h;
    store.outside += t != 1;
    assert_non_null(n);
    assert_int_equal(count, 2);
    n->owner = perms[0].id;
    n->owner_perms = perms[0].perms;
    n->reader = perms[1].id;
    n->reader_perms = perms[1].perms;
    return true;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path,
              unsigned int *length)
{
    struct node *n = node_at(path);

    (void)h;
    (void)t;
    if (!n) {
        errno = ENOENT;
        return NULL;
    }
    if (store.state && strncmp(path, BACKENDS, strlen(BACKENDS)) == 0 &&
        strstr(path, "/state")) {
        *length = (unsigned int)strlen(store.state);
        return xstrdup(store.state);
    }
    *length = (unsigned int)strlen(n->value);
    return xstrdup(n->value);
}

/* sysfs, where the host's driver shows the devices that it opened. */
int access(const char *path, int mode)
{
    (void)mode;
    if (store.opened &&
        (strcmp(path, SYSFS "/vbd-7-51712/physical_device") == 0 ||
         strcmp(path, SYSFS "/vbd-7-51728/physical_device") == 0))
        return 0;
    errno = ENOENT;
    return -1;
}

/* --- tests ---------------------------------------------------------------- */

static struct job_vbd two[] = {
    {.name = (char *)"xvda",
     .major = 7,
     .minor = 171,
     .path = (char *)"/dev/loop171"},
    {.name = (char *)"xvdb",
     .major = 259,
     .minor = 16,
     .writable = true,
     .path = (char *)"/dev/nvme0n1"},
};
static const struct job_vbd_list vbds = {.v = two, .n = 2};

static int setup(void **state)
{
    (void)state;
    store_clear();
    memset(&store, 0, sizeof(store));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_clear();
    return 0;
}

static void one_transaction(void **state)
{
    static const char front[] = "/local/domain/7/device/vbd/51712";
    static const char back[] = "/local/domain/0/backend/vbd/7/51712";
    struct err e = ERR_INIT;
    struct node *n;

    (void)state;
    assert_ok(device_attach_vbds(handle(), DOMID, &vbds, &e), e);
    assert_int_equal(store.started, 1);
    assert_int_equal(store.committed, 1);
    assert_int_equal(store.outside, 0);

    assert_string_equal(value_of("/local/domain/7/device/vbd/51712/backend"),
                        back);
    assert_string_equal(value_of("/local/domain/7/device/vbd/51712/state"),
                        "1");
    assert_string_equal(
        value_of("/local/domain/7/device/vbd/51712/virtual-device"), "51712");
    assert_string_equal(
        value_of("/local/domain/0/backend/vbd/7/51712/frontend"), front);
    assert_string_equal(
        value_of("/local/domain/0/backend/vbd/7/51712/physical-device"),
        "7:ab");
    assert_string_equal(value_of("/local/domain/0/backend/vbd/7/51712/mode"),
                        "r");
    assert_string_equal(
        value_of("/local/domain/0/backend/vbd/7/51712/hotplug-status"),
        "connected");
    assert_string_equal(value_of("/local/domain/0/backend/vbd/7/51728/mode"),
                        "w");
    assert_string_equal(
        value_of("/local/domain/0/backend/vbd/7/51728/physical-device"),
        "103:10");
    assert_string_equal(value_of("/libxl/7/device/vbd/51712/backend"), back);
    assert_string_equal(value_of("/libxl/7/device/vbd/51712/frontend"), front);
    assert_string_equal(value_of("/libxl/7/device/vbd/51728/params"),
                        "/dev/nvme0n1");

    /* The guest owns its end, may read the other, nothing of libxl's. */
    n = node_at("/local/domain/7/device/vbd/51712/state");
    assert_int_equal(n->owner, DOMID);
    assert_int_equal(n->owner_perms, XS_PERM_NONE);
    assert_int_equal(n->reader, 0);
    assert_int_equal(n->reader_perms, XS_PERM_READ);
    n = node_at("/local/domain/0/backend/vbd/7/51712/physical-device");
    assert_int_equal(n->owner, 0);
    assert_int_equal(n->owner_perms, XS_PERM_NONE);
    assert_int_equal(n->reader, DOMID);
    assert_int_equal(n->reader_perms, XS_PERM_READ);
    n = node_at("/libxl/7/device/vbd/51712/backend");
    assert_int_equal(n->owner, 0);
    assert_int_equal(n->reader, 0);
}

static void conflicts_are_tried_again(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    store.conflicts = 3;
    assert_ok(device_attach_vbds(handle(), DOMID, &vbds, &e), e);
    assert_int_equal(store.started, 4);
    assert_int_equal(store.committed, 1);
}

static void conflicts_end(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    store.conflicts = 1000;
    assert_int_equal(device_attach_vbds(handle(), DOMID, &vbds, &e), -EAGAIN);
    assert_said(e, EAGAIN, "cannot write block devices");
    assert_true(store.started > 1 && store.started < 100);
    assert_int_equal(store.n, 0);
}

static void failure_leaves_nothing(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    store.fail_write = ENOSPC;
    assert_int_equal(device_attach_vbds(handle(), DOMID, &vbds, &e), -ENOSPC);
    assert_int_equal(store.started, 1);
    assert_int_equal(store.committed, 0);
    assert_int_equal(store.n, 0);
    assert_false(store.open);
}

static void wait_for_backends(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(device_attach_vbds(handle(), DOMID, &vbds, &e), e);
    store.state = "2";
    store.opened = true;
    assert_ok(device_wait_backends(handle(), DOMID, &vbds, 1000, &e), e);
}

static void backend_refuses(void **state)
{
    struct err e = ERR_INIT;
    struct node *n;

    (void)state;
    assert_ok(device_attach_vbds(handle(), DOMID, &vbds, &e), e);
    n = node_make("/local/domain/0/error/backend/vbd/7/51712/error");
    free(n->value);
    n->value = xstrdup("-2 creating\nvbd");
    store.state = "5";
    assert_int_equal(device_wait_backends(handle(), DOMID, &vbds, 1000, &e),
                     -EIO);
    assert_said(e, EIO, "refused xvda (/dev/loop171): -2 creating\\x0avbd");
}

static void backend_opened_nothing(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(device_attach_vbds(handle(), DOMID, &vbds, &e), e);
    store.state = "2";
    assert_int_equal(device_wait_backends(handle(), DOMID, &vbds, 20, &e),
                     -ETIMEDOUT);
    assert_said(e, ETIMEDOUT, "did not take the devices");
}

static void backend_says_nothing(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(device_attach_vbds(handle(), DOMID, &vbds, &e), e);
    store.opened = true;
    store.state = "22"; /* no state: as good as none */
    assert_int_equal(device_wait_backends(handle(), DOMID, &vbds, 20, &e),
                     -ETIMEDOUT);
    assert_said(e, ETIMEDOUT, "xen-blkback");
}

static void names(void **state)
{
    static const char *const bad[] = {"",      "xvd",   "xvdq", "xvdaa",
                                      "xvda1", "sda",   "XVDA", "xvd/",
                                      "hda",   "/xvda", "xvd`"};
    uint32_t number = 0;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(device_vbd_number("xvda", &number, &e), e);
    assert_int_equal(number, 51712);
    assert_ok(device_vbd_number("xvdp", &number, &e), e);
    assert_int_equal(number, 51712 + 15 * 16);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(device_vbd_number(bad[i], &number, &e), -EINVAL);
    assert_int_equal(number, 51712 + 15 * 16);
}

static void only_the_device_that_was_meant(void **state)
{
    struct job_vbd vbd = {.name = (char *)"xvda", .path = (char *)"/dev/null"};
    struct err e = ERR_INIT;
    struct stat st;

    (void)state;
    assert_int_equal(stat("/dev/null", &st), 0);
    vbd.major = major(st.st_rdev);
    vbd.minor = minor(st.st_rdev);
    assert_int_equal(device_vbd_check(&vbd, &e), -ENODEV);
    assert_said(e, ENODEV, "is not block device");
    vbd.path = (char *)"/nonexistent/loop0";
    assert_int_equal(device_vbd_check(&vbd, &e), -ENOENT);
    assert_said(e, ENOENT, "/nonexistent/loop0");
}

static void unknown_domain_is_released(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(device_wait_released(4000000000, 10, &e), e);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_transaction),
        TEST(conflicts_are_tried_again),
        TEST(conflicts_end),
        TEST(failure_leaves_nothing),
        TEST(wait_for_backends),
        TEST(backend_refuses),
        TEST(backend_opened_nothing),
        TEST(backend_says_nothing),
        TEST(names),
        TEST(only_the_device_that_was_meant),
        TEST(unknown_domain_is_released),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
