/*
 * Images for real: layers are merged and packed by mkfs.erofs, attached to
 * loop devices, mounted and looked at. Needs root.
 */
#include "tests/unit/scratch.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "domus/log.h"
#include "src/storage/image.h"
#include "src/storage/image_cache.h"

#define WAIT_MS 60000
#define MANY    (1ull << 40)

static struct loop *loop;
static struct image_store *store;
static struct image *images[8];
static struct err errors[8];
static unsigned int answers, wanted;
static size_t most_builds; /* at a time */
static struct loop_timer *late, *count;

static void on_late(void *context)
{
    (void)context;
    late = NULL;
    loop_stop(loop);
}

static void on_count(void *context)
{
    size_t n = scratch_count("var/images", IMAGE_BUILD_PREFIX);

    most_builds = n > most_builds ? n : most_builds;
    count = loop_add_timer(loop, 1, on_count, context);
}

static void wait_for(unsigned int n)
{
    struct err e = ERR_INIT;

    wanted = n;
    most_builds = 0;
    if (answers < wanted) {
        on_count(NULL);
        late = loop_add_timer(loop, WAIT_MS, on_late, NULL);
        assert_ok(loop_run(loop, &e), e);
        loop_remove_timer(&late);
        loop_remove_timer(&count);
    }
    assert_int_equal(answers, wanted);
    answers = 0;
}

static void on_image(void *context, struct image *image,
                     const struct err *error)
{
    size_t i = (size_t)context;

    images[i] = image;
    errors[i] = error ? *error : (struct err)ERR_INIT;
    if (++answers == wanted)
        loop_stop(loop);
}

static void on_released(void *context, const struct err *error)
{
    (void)context;
    if (error)
        fail_msg("%s", error->text);
    if (++answers == wanted)
        loop_stop(loop);
}

static void release(size_t i)
{
    image_release(images[i], on_released, NULL);
    images[i] = NULL;
    wait_for(1);
}

static void open_limited(const struct image_limits *limits)
{
    _cleanup_free_ char *dir = scratch_path("var/images");
    _cleanup_free_ char *staging = scratch_path("staging");
    struct err e = ERR_INIT;

    store = image_store_new(loop, dir, staging, limits, &e);
    if (!store)
        fail_msg("%s", e.text);
}

static void open_store(uint64_t cache_max)
{
    open_limited(&(struct image_limits){.cache_max = cache_max,
                                        .build_memory_max = MANY});
}

static int setup(void **state)
{
    if (scratch_make(state) < 0)
        return -1;
    scratch_mkdir("low");
    scratch_mkdir("low/gone");
    scratch_write("low/gone/inner", "x");
    scratch_write("low/file", "lower");
    scratch_write("low/both", "lower");
    scratch_mkdir("high");
    scratch_write("high/both", "higher");
    scratch_mkdir("upper");
    loop = loop_new();
    answers = 0;
    open_store(MANY);
    return 0;
}

static int teardown(void **state)
{
    image_store_free(store);
    loop_free(loop);
    return scratch_remove(state);
}

/* As containerd's overlayfs snapshotter gives it. */
static void prepare(size_t i)
{
    char type[] = "overlay";
    struct ctl_mount mount = {.type = type, .source = type};
    struct ctl_mount_list list = {.v = &mount, .n = 1};
    _cleanup_free_ char *lower =
        xasprintf("lowerdir=%s/high:%s/low", scratch, scratch);
    _cleanup_free_ char *upper = xasprintf("upperdir=%s/upper", scratch);

    string_list_add(&mount.options, upper);
    string_list_add(&mount.options, lower);
    image_prepare(store, &list, "", on_image, (void *)i);
    string_list_clear(&mount.options);
}

static void prepare_path(size_t i, const char *name)
{
    _cleanup_free_ char *path = scratch_path(name);
    struct ctl_mount_list none = {.n = 0};

    image_prepare(store, &none, path, on_image, (void *)i);
}

static char *in_image(const char *name)
{
    return xasprintf("%s/mnt/%s", scratch, name);
}

static void mount_image(const struct image *image)
{
    _cleanup_free_ char *target = scratch_path("mnt");

    (void)mkdir(target, 0700);
    if (mount(image_device(image)->path, target, "erofs", MS_RDONLY, NULL) < 0)
        fail_msg("mount: %s", strerror(errno));
}

static void unmount_image(void)
{
    _cleanup_free_ char *target = scratch_path("mnt");

    assert_int_equal(umount(target), 0);
}

static void stat_in_image(const char *name, struct stat *st)
{
    _cleanup_free_ char *path = in_image(name);

    if (lstat(path, st) < 0)
        fail_msg("%s: %s", name, strerror(errno));
}

static void make_special_files(void)
{
    const struct timespec old[2] = {{1577934245, 5}, {1577934245, 5}};
    _cleanup_free_ char *file = scratch_path("low/file");
    _cleanup_free_ char *hard = scratch_path("high/hard");
    _cleanup_free_ char *both = scratch_path("high/both");
    _cleanup_free_ char *device = scratch_path("high/zero");
    _cleanup_free_ char *soft = scratch_path("high/soft");
    _cleanup_free_ char *gone = scratch_path("high/gone");

    assert_int_equal(chown(file, 12, 34), 0);
    assert_int_equal(chmod(file, 04711), 0);
    assert_int_equal(setxattr(file, "security.capability",
                              "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20,
                              0),
                     0);
    assert_int_equal(utimensat(AT_FDCWD, file, old, 0), 0);
    assert_int_equal(link(both, hard), 0);
    assert_int_equal(mknod(device, S_IFCHR | 0666, makedev(1, 5)), 0);
    assert_int_equal(symlink("/etc/shadow", soft), 0);
    /* A whiteout of the overlay. */
    assert_int_equal(mknod(gone, S_IFCHR, makedev(0, 0)), 0);
}

static void what_is_in_it(void **state)
{
    _cleanup_free_ char *gone = in_image("gone");
    _cleanup_free_ char *file = in_image("file");
    char value[32];
    struct stat st, other;

    (void)state;
    make_special_files();
    prepare(0);
    wait_for(1);
    if (!images[0])
        fail_msg("%s", errors[0].text);
    mount_image(images[0]);
    stat_in_image("file", &st);
    assert_int_equal(st.st_mode, S_IFREG | 04711);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(st.st_gid, 34);
    assert_int_equal(st.st_size, 5);
    assert_int_equal(st.st_mtim.tv_sec, 1577934245);
    assert_int_equal(st.st_mtim.tv_nsec, 5);
    assert_int_equal(
        getxattr(file, "security.capability", value, sizeof(value)), 20);
    stat_in_image("both", &st);
    stat_in_image("hard", &other);
    assert_int_equal(st.st_size, 6);
    assert_int_equal(st.st_nlink, 2);
    assert_true(st.st_ino == other.st_ino);
    stat_in_image("zero", &st);
    assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5));
    stat_in_image("soft", &st);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(access(gone, F_OK), -1);
    unmount_image();
    release(0);
    assert_int_equal(scratch_count("var/images", IMAGE_BUILD_PREFIX), 0);
    assert_int_equal(scratch_count("staging", ""), 0);
}

/* The snapshotter makes it, whatever the image's own is. */
static void root_is_the_upper_layers(void **state)
{
    _cleanup_free_ char *upper = scratch_path("upper");
    _cleanup_free_ char *high = scratch_path("high");
    char digest[DIGEST_HEX_LENGTH + 1];
    struct stat st, of_high;

    (void)state;
    assert_int_equal(chmod(high, 0700), 0);
    assert_int_equal(stat(high, &of_high), 0);
    assert_int_equal(chmod(upper, 01755), 0);
    assert_int_equal(chown(upper, 12, 34), 0);
    prepare(0);
    wait_for(1);
    mount_image(images[0]);
    stat_in_image("", &st);
    assert_int_equal(st.st_mode, S_IFDIR | 01755);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(st.st_gid, 34);
    /* Not when it was made, so that equal trees are equal images. */
    assert_int_equal(st.st_mtim.tv_sec, of_high.st_mtim.tv_sec);
    assert_int_equal(st.st_mtim.tv_nsec, of_high.st_mtim.tv_nsec);
    stat_in_image("file", &st);
    unmount_image();
    (void)snprintf(digest, sizeof(digest), "%s", image_digest(images[0]));
    release(0);
    assert_int_equal(chmod(upper, 0755), 0);
    prepare(0);
    wait_for(1);
    assert_string_not_equal(digest, image_digest(images[0]));
    release(0);
}

static void is_read_only(void **state)
{
    int read_only = 0;
    _cleanup_fd_ int fd = -1;
    char one;

    (void)state;
    prepare(0);
    wait_for(1);
    assert_non_null(images[0]);
    fd = open(image_device(images[0])->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, BLKROGET, &read_only), 0);
    assert_int_equal(read_only, 1);
    assert_int_equal(pread(fd, &one, 1, 1024), 1);
    close_fd(&fd);
    /* Opening may be allowed, writing is not. */
    fd = open(image_device(images[0])->path, O_RDWR | O_CLOEXEC | O_DIRECT);
    if (fd >= 0) {
        static const char block[4096] __attribute__((aligned(4096)));

        assert_int_equal(pwrite(fd, block, sizeof(block), 0), -1);
        assert_int_equal(errno, EPERM);
    }
    close_fd(&fd);
    release(0);
}

/* Two at once, then one from the cache: one build, one file, one device. */
static void shared(void **state)
{
    (void)state;
    prepare(0);
    prepare(1);
    wait_for(2);
    assert_int_equal(most_builds, 1);
    assert_non_null(images[0]);
    assert_ptr_equal(images[0], images[1]);
    prepare(2);
    wait_for(1);
    assert_int_equal(most_builds, 0);
    assert_ptr_equal(images[0], images[2]);
    release(0);
    release(1);
    assert_int_equal(access(image_device(images[2])->path, F_OK), 0);
    mount_image(images[2]);
    unmount_image();
    release(2);
    assert_int_equal(scratch_count("var/images/keys", ""), 1);
}

static void equal_trees_are_one_image(void **state)
{
    struct digest first;

    (void)state;
    prepare_path(0, "low");
    wait_for(1);
    assert_non_null(images[0]);
    memcpy(first.hex, image_digest(images[0]), sizeof(first.hex));
    release(0);
    /* No key leads to it, so it is gone; built again it is the same. */
    assert_int_equal(scratch_count("var/images", ""), 1);
    prepare_path(0, "low");
    wait_for(1);
    assert_string_equal(image_digest(images[0]), first.hex);
    release(0);
}

static size_t strays;

static void count_stray(void *context, const struct loopdev *dev,
                        const char *file_name, dev_t device, ino_t inode)
{
    (void)context;
    (void)dev;
    (void)file_name;
    (void)device;
    (void)inode;
    strays++;
}

static size_t devices(void)
{
    _cleanup_free_ char *dir = scratch_path("var/images");
    struct err e = ERR_INIT;

    strays = 0;
    assert_ok(loopdev_scan(dir, count_stray, NULL, &e), e);
    return strays;
}

/* The next daemon: adopts what is used, sweeps what is not. */
static void after_a_restart(void **state)
{
    struct digest digest;
    struct err e = ERR_INIT;
    int number;

    (void)state;
    prepare(0);
    prepare_path(1, "low");
    wait_for(2);
    assert_non_null(images[0]);
    assert_non_null(images[1]);
    memcpy(digest.hex, image_digest(images[0]), sizeof(digest.hex));
    number = image_device(images[0])->number;
    image_store_free(store);
    scratch_write("var/images/" IMAGE_BUILD_PREFIX "left", "half");
    open_store(MANY);
    assert_int_equal(devices(), 2);
    assert_int_equal(
        image_adopt(store, digest.hex, number + 100, &images[0], &e), -ENODEV);
    assert_ok(image_adopt(store, digest.hex, number, &images[0], &e), e);
    image_sweep(store);
    assert_int_equal(devices(), 1);
    assert_int_equal(scratch_count("var/images", IMAGE_BUILD_PREFIX), 0);
    prepare(1);
    wait_for(1);
    assert_ptr_equal(images[1], images[0]);
    release(0);
    release(1);
    assert_int_equal(devices(), 0);
}

static void cache_is_bounded(void **state)
{
    (void)state;
    image_store_free(store);
    open_store(0);
    prepare(0);
    wait_for(1);
    assert_non_null(images[0]);
    assert_int_equal(scratch_count("var/images/keys", ""), 1);
    image_sweep(store);
    assert_int_equal(devices(), 1);
    release(0);
    assert_int_equal(scratch_count("var/images/keys", ""), 0);
    assert_int_equal(scratch_count("var/images", ""), 1);
}

static void damaged_image_is_made_again(void **state)
{
    _cleanup_free_ char *path = NULL;

    (void)state;
    prepare(0);
    wait_for(1);
    assert_non_null(images[0]);
    path =
        xasprintf("%s/var/images/%s.erofs", scratch, image_digest(images[0]));
    release(0);
    assert_int_equal(truncate(path, 100), 0);
    prepare(0);
    wait_for(1);
    if (!images[0])
        fail_msg("%s", errors[0].text);
    mount_image(images[0]);
    unmount_image();
    release(0);
}

static void failures_leave_nothing(void **state)
{
    _cleanup_free_ char *images_dir = scratch_path("var/images");
    _cleanup_free_ char *big = xcalloc(1, 1 << 20);

    (void)state;
    prepare_path(0, "missing");
    wait_for(1);
    assert_null(images[0]);
    assert_said(errors[0], ENOENT, "missing");
    prepare_path(0, "upper");
    wait_for(1);
    assert_said(errors[0], EINVAL, "is an empty directory");

    /* No room: a file system of 64 KiB under the images. */
    image_store_free(store);
    assert_int_equal(mount("t", images_dir, "tmpfs", 0, "size=64k"), 0);
    open_store(MANY);
    memset(big, 'x', (1 << 20) - 1);
    scratch_write("low/big", big);
    prepare(0);
    wait_for(1);
    assert_null(images[0]);
    assert_said(errors[0], ENOSPC, "mkfs.erofs");
    assert_int_equal(scratch_count("var/images", ""), 1);
    assert_int_equal(scratch_count("var/images/keys", ""), 0);
    image_store_free(store);
    assert_int_equal(umount(images_dir), 0);
    open_store(MANY);
}

/* Another file under the same name, so the layer is another one. */
static void replace(const char *name, size_t size)
{
    _cleanup_free_ char *path = scratch_path(name);
    _cleanup_free_ uint8_t *bytes = xmalloc(size);
    _cleanup_fd_ int fd = -1;

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random();
    (void)unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, size), size);
}

static void use_once(size_t big, struct digest *digest_out)
{
    replace("low/big", big << 10);
    prepare(0);
    wait_for(1);
    if (!images[0])
        fail_msg("%s", errors[0].text);
    memcpy(digest_out->hex, image_digest(images[0]), sizeof(digest_out->hex));
    release(0);
}

static void a_full_disk_loses_unused_images(void **state)
{
    _cleanup_free_ char *images_dir = scratch_path("var/images");
    struct digest first, second, third, fourth;

    (void)state;
    image_store_free(store);
    assert_int_equal(mount("t", images_dir, "tmpfs", 0, "size=4m"), 0);
    open_store(MANY);
    use_once(1000, &first);
    use_once(2000, &second);
    assert_int_equal(scratch_count("var/images", first.hex), 1);
    /* It has room, but too little of the disk would be left. */
    use_once(950, &third);
    assert_int_equal(scratch_count("var/images", first.hex), 0);
    assert_int_equal(scratch_count("var/images", second.hex), 1);
    /* It has room without the others only. */
    use_once(3500, &fourth);
    assert_int_equal(scratch_count("var/images", second.hex), 0);
    assert_int_equal(scratch_count("var/images", third.hex), 0);
    assert_int_equal(scratch_count("var/images", fourth.hex), 1);
    assert_int_equal(scratch_count("var/images/keys", ""), 1);
    image_store_free(store);
    assert_int_equal(umount(images_dir), 0);
    open_store(MANY);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    image_store_free(store);
    open_limited(&(struct image_limits){MANY, 4 << 20});
    prepare(0);
    wait_for(1);
    assert_null(images[0]);
    assert_said(errors[0], ENOMEM, "image-build-memory-max");
    assert_int_equal(scratch_count("var/images", IMAGE_BUILD_PREFIX), 0);
}

static void so_many_are_built_at_a_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(images); i++)
        prepare_path(i, "low");
    wait_for(ARRAY_SIZE(images));
    assert_int_equal(most_builds, IMAGE_BUILDS_MAX);
    for (size_t i = 0; i < ARRAY_SIZE(images); i++)
        if (!images[i])
            fail_msg("%zu: %s", i, errors[i].text);
    for (size_t i = 0; i < ARRAY_SIZE(images); i++)
        release(i);
    assert_int_equal(scratch_count("var/images", IMAGE_BUILD_PREFIX), 0);
}

/* Whoever detaches an image that was in use has no say in what the device
 * carries afterwards. */
static void a_device_is_given_again(void **state)
{
    char bytes[1024];
    int fd;

    (void)state;
    prepare(0);
    wait_for(1);
    fd = open(image_device(images[0])->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    image_release(images[0], on_released, NULL);
    assert_int_equal(answers, 0);
    assert_int_equal(close(fd), 0);
    prepare(1); /* is faster than the next try to detach */
    wait_for(2);
    assert_non_null(images[1]);
    fd = open(image_device(images[1])->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(close(fd), 0);
    release(1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_in_it),
        TEST(root_is_the_upper_layers),
        TEST(is_read_only),
        TEST(shared),
        TEST(equal_trees_are_one_image),
        TEST(after_a_restart),
        TEST(cache_is_bounded),
        TEST(damaged_image_is_made_again),
        TEST(failures_leave_nothing),
        TEST(a_full_disk_loses_unused_images),
        TEST(memory_is_bounded),
        TEST(so_many_are_built_at_a_time),
        TEST(a_device_is_given_again),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
