#include "image_build.h"

#include <endian.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/mem.h"

#define STDERR_TAIL 512

/* The superblock, erofs_fs.h of Linux 6.1: offset and members used here. */
#define SUPER_OFFSET      1024
#define SUPER_MAGIC       0xe0f5e1e2u
#define SUPER_CHECKSUM    4  /* le32 */
#define SUPER_COMPAT      8  /* le32 */
#define SUPER_BLOCK_BITS  12 /* u8 */
#define SUPER_BUILD_TIME  24 /* le64, then le32 of nanoseconds */
#define SUPER_BLOCK_COUNT 36 /* le32 */
#define SUPER_SIZE        128
#define COMPAT_CHECKSUM   1u

static int read_super(int fd, uint8_t super[SUPER_SIZE], struct err *e)
{
    ssize_t n = pread(fd, super, SUPER_SIZE, SUPER_OFFSET);
    uint32_t magic;

    if (n < 0)
        return err_errno(e, "read");
    memcpy(&magic, super, 4);
    if (n != SUPER_SIZE || le32toh(magic) != SUPER_MAGIC)
        return err_set(e, EIO, "not an EROFS image");
    return 0;
}

int image_check(int fd, struct err *e)
{
    uint8_t super[SUPER_SIZE];
    uint32_t blocks;
    struct stat st;
    int r = read_super(fd, super, e);

    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "stat");
    memcpy(&blocks, super + SUPER_BLOCK_COUNT, 4);
    if (super[SUPER_BLOCK_BITS] != 12 ||
        (uint64_t)le32toh(blocks) << 12 != (uint64_t)st.st_size)
        return err_set(e, EIO, "image of %lld bytes is not whole",
                       (long long)st.st_size);
    return 0;
}

/*
 * mkfs.erofs writes the time of day into the superblock, and its option for
 * another time sets that of all files too. Without it, and without the
 * optional checksum over it, equal trees give equal images.
 */
static int clear_build_time(int fd, struct err *e)
{
    uint8_t super[SUPER_SIZE];
    uint32_t compat;
    int r = read_super(fd, super, e);

    if (r < 0)
        return r;
    memcpy(&compat, super + SUPER_COMPAT, 4);
    compat = htole32(le32toh(compat) & ~COMPAT_CHECKSUM);
    memcpy(super + SUPER_COMPAT, &compat, 4);
    memset(super + SUPER_CHECKSUM, 0, 4);
    memset(super + SUPER_BUILD_TIME, 0, 12);
    if (pwrite(fd, super, SUPER_SIZE, SUPER_OFFSET) != SUPER_SIZE)
        return err_errno(e, "write");
    return 0;
}

/* A layer with nothing but the attributes of the root. It was made just now;
 * its time is that of the layer below, so that equal trees give equal images.
 */
static int make_root_layer(const struct rootfs *rootfs, struct err *e)
{
    struct stat below;

    if (stat(rootfs->layers.v[0], &below) < 0)
        return err_errno(e, "layer '%s'", rootfs->layers.v[0]);
    const struct timespec times[2] = {below.st_atim, below.st_mtim};

    if (mkdir("root", 0700) < 0 ||
        chown("root", rootfs->root_uid, rootfs->root_gid) < 0 ||
        chmod("root", rootfs->root_mode) < 0 ||
        utimensat(AT_FDCWD, "root", times, 0) < 0)
        return err_errno(e, "the layer of the root directory");
    return 0;
}

/* In the child's mount namespace: the layers, merged, at staging/merged. */
static int mount_layers(const struct image_build *build, struct err *e)
{
    const struct rootfs *rootfs = build->rootfs;
    _cleanup_buf_ struct buf options = BUF_INIT;
    size_t n = rootfs->layers.n;

    if (unshare(CLONE_NEWNS) < 0)
        return err_errno(e, "mount namespace");
    /* Ours stay here; what the host unmounts goes here as well, lest a build
     * keep its device busy. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_errno(e, "mount namespace: slave");
    if (mount("domus", build->staging, "tmpfs", MS_NOSUID | MS_NODEV,
              "mode=0700,size=1m") < 0)
        return err_errno(e, "tmpfs at %s", build->staging);
    if (chdir(build->staging) < 0 || mkdir("merged", 0700) < 0 ||
        mkdir("empty", 0700) < 0)
        return err_errno(e, "%s", build->staging);
    /* Links with short names: the kernel takes one page of options, and
     * gives ':' and ',' in a path a meaning of their own. */
    buf_append(&options, "lowerdir=", 9);
    if (rootfs->has_root) {
        if (make_root_layer(rootfs, e) < 0)
            return -e->code;
        buf_append(&options, "root:", 5);
    }
    for (size_t i = 0; i < n; i++) {
        char name[24];

        (void)snprintf(name, sizeof(name), "%zu", i);
        if (symlink(rootfs->layers.v[i], name) < 0)
            return err_errno(e, "layer %zu", i);
        buf_append(&options, name, strlen(name));
        buf_append(&options, ":", 1);
    }
    /* An overlay without an upper layer wants at least two lower ones. */
    if (n == 1 && !rootfs->has_root)
        buf_append(&options, "empty:", 6);
    buf_data(&options)[buf_len(&options) - 1] = '\0';
    if (rootfs->userxattr) {
        buf_data(&options)[buf_len(&options) - 1] = ',';
        buf_append(&options, "userxattr", 10);
    }
    if (mount("domus", "merged", "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV,
              (const char *)buf_data(&options)) < 0)
        return err_errno(e, "overlay of %zu layers", n);
    return 0;
}

static void exec_mkfs(const struct image_build *b, const char *tree, int errors)
{
    const struct rlimit memory = {b->memory_max, b->memory_max};
    const char *const argv[] = {
        "mkfs.erofs",
        "--quiet",
        "--preserve-mtime",
        "-Eforce-inode-extended",
        "-x2",
        "-U00000000-0000-0000-0000-000000000000",
        b->output,
        tree,
        NULL,
    };
    const char *const envp[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C", NULL};
    static const char text[] = "mkfs.erofs not found, install erofs-utils";
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0 || dup2(errors, STDERR_FILENO) < 0 ||
        setrlimit(RLIMIT_DATA, &memory) < 0)
        _exit(126);
    (void)execvpe(argv[0], (char *const *)argv, (char *const *)envp);
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(127);
}

/* The last bytes of fd to its end, as printable text. */
static void read_tail(int fd, char text[STDERR_TAIL + 1])
{
    char chunk[STDERR_TAIL];
    size_t n = 0;
    ssize_t got;

    while ((got = read(fd, chunk, sizeof(chunk))) > 0 ||
           (got < 0 && errno == EINTR)) {
        size_t more = got > 0 ? (size_t)got : 0;
        size_t drop = n + more > STDERR_TAIL ? n + more - STDERR_TAIL : 0;

        memmove(text, text + drop, n - drop);
        n -= drop;
        memcpy(text + n, chunk, more);
        n += more;
    }
    for (size_t i = 0; i < n; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            text[i] = ' ';
    while (n > 0 && text[n - 1] == ' ')
        n--;
    text[n] = '\0';
}

/* With too little memory it says so, or the loader or a library does, or it
 * crashes. */
static bool lacked_memory(int status, const char *tail)
{
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    return signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS ||
           strstr(tail, "allocate memory") || strstr(tail, "failed to map");
}

static int mkfs_failed(const struct image_build *b, int status,
                       const char *tail, struct err *e)
{
    int r = strstr(tail, "No space left") ? ENOSPC
            : lacked_memory(status, tail) ? ENOMEM
                                          : EIO;

    r = WIFSIGNALED(status)
            ? err_set(e, r, "mkfs.erofs: killed by signal %d: %s",
                      WTERMSIG(status), tail)
            : err_set(e, r, "mkfs.erofs: exit status %d: %s",
                      WEXITSTATUS(status), tail);
    return r == -ENOMEM
               ? err_wrap(e, "with %llu MiB of memory (image-build-memory-max)",
                          (unsigned long long)b->memory_max >> 20)
               : r;
}

static int run_mkfs(const struct image_build *b, const char *tree,
                    struct err *e)
{
    char tail[STDERR_TAIL + 1];
    int errors[2], status;
    pid_t pid;

    if (pipe2(errors, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid = fork();
    if (pid < 0)
        return err_errno(e, "fork");
    if (pid == 0)
        exec_mkfs(b, tree, errors[1]);
    (void)close(errors[1]);
    read_tail(errors[0], tail);
    (void)close(errors[0]);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, "wait for mkfs.erofs");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return mkfs_failed(b, status, tail, e);
    return 0;
}

int image_build_run(const void *job, void *answer, struct err *e)
{
    const struct image_build *b = job;
    _cleanup_free_ char *merged = NULL;
    _cleanup_fd_ int fd = -1;
    const char *tree = b->rootfs->layers.v[0];
    int r;

    if (b->rootfs->overlay) {
        r = mount_layers(b, e);
        if (r < 0)
            return r;
        tree = merged = xasprintf("%s/merged", b->staging);
    }
    r = run_mkfs(b, tree, e);
    if (r < 0)
        return r;
    fd = open(b->output, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(e, "%s", b->output);
    r = clear_build_time(fd, e);
    if (r == 0)
        r = image_check(fd, e);
    if (r == 0 && fsync(fd) < 0)
        r = err_errno(e, "fsync");
    if (r == 0)
        r = digest_file(fd, answer, e);
    return r < 0 ? err_wrap(e, "%s", b->output) : 0;
}
