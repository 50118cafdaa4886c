#include "guest_files.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "domus/mem.h"

#define DIGESTS_BYTES_MAX 4096
#define GUEST_BYTES_MAX   (256 * 1024 * 1024)

void guest_files_init(struct guest_files *files, const char *dir)
{
    memset(files, 0, sizeof(*files));
    files->kernel = xasprintf("%s/" GUEST_KERNEL, dir);
    files->initramfs = xasprintf("%s/" GUEST_INITRAMFS, dir);
    files->digests = xasprintf("%s/" GUEST_DIGESTS, dir);
}

void guest_files_clear(struct guest_files *files)
{
    free(files->kernel);
    free(files->initramfs);
    free(files->digests);
}

/* The digest that the list gives for a name: "<64 digits>  name\n". */
static bool find_digest(const char *list, const char *name,
                        struct digest *digest_out)
{
    size_t length = strlen(name);

    while (*list) {
        size_t n = strcspn(list, "\n");

        if (n == DIGEST_HEX_LENGTH + 2 + length &&
            digest_hex_valid(list, DIGEST_HEX_LENGTH) &&
            list[DIGEST_HEX_LENGTH] == ' ' &&
            memcmp(list + DIGEST_HEX_LENGTH + 2, name, length) == 0) {
            memset(digest_out, 0, sizeof(*digest_out));
            memcpy(digest_out->hex, list, DIGEST_HEX_LENGTH);
            return true;
        }
        list += n + (list[n] == '\n');
    }
    return false;
}

static int read_digests(const char *path, char text[DIGESTS_BYTES_MAX + 1],
                        struct err *e)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = -1;

    if (fd >= 0)
        n = read(fd, text, DIGESTS_BYTES_MAX);
    if (n < 0)
        return err_errno(e, "digests of the guest's kernel and initramfs: %s",
                         path);
    text[n] = '\0';
    return 0;
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int check_one(struct guest_files *files, int index, const char *what,
                     const char *path, const struct digest *wanted,
                     struct err *e)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat *seen = &files->files[index].seen;
    struct digest *digest = &files->files[index].digest;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "%s %s", what, path);
    if (!S_ISREG(st.st_mode) || st.st_size > GUEST_BYTES_MAX)
        return err_set(e, EINVAL, "%s %s is not a file of at most %d bytes",
                       what, path, GUEST_BYTES_MAX);
    if (seen->st_ino == 0 || !unchanged(seen, &st)) {
        seen->st_ino = 0;
        if (digest_file(fd, digest, e) < 0)
            return err_wrap(e, "%s %s", what, path);
        *seen = st;
    }
    if (strcmp(digest->hex, wanted->hex) != 0)
        return err_set(e, EBADMSG,
                       "%s %s is not the one that was installed: its SHA-256 "
                       "digest is %s, %s says %s",
                       what, path, digest->hex, files->digests, wanted->hex);
    return 0;
}

int guest_files_check(struct guest_files *files, struct err *e)
{
    static const char *const names[GUEST_FILES] = {GUEST_KERNEL,
                                                   GUEST_INITRAMFS};
    static const char *const what[GUEST_FILES] = {"guest kernel",
                                                  "guest initramfs"};
    const char *const paths[GUEST_FILES] = {files->kernel, files->initramfs};
    char list[DIGESTS_BYTES_MAX + 1];
    int r = read_digests(files->digests, list, e);

    for (int i = 0; i < GUEST_FILES && r == 0; i++) {
        struct digest wanted;

        if (!find_digest(list, names[i], &wanted))
            return err_set(e, EBADMSG, "%s has no digest of %s", files->digests,
                           names[i]);
        r = check_one(files, i, what[i], paths[i], &wanted, e);
    }
    return r;
}
