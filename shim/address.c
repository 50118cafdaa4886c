#include "address.h"

#include <fcntl.h>
#include <libgen.h>
#include <sha256.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "domus/mem.h"

#define BACKLOG 128

char *address_path(const char *directory, const struct options *options)
{
    _cleanup_free_ char *name = xasprintf("%s/%s/%s", options->address,
                                          options->namespace, options->id);
    char hex[SHA256_DIGEST_STRING_LENGTH];

    (void)SHA256Data((const uint8_t *)name, strlen(name), hex);
    return xasprintf("%s/%s", directory, hex);
}

static int make_directory(const char *path, struct err *e)
{
    _cleanup_free_ char *copy = xstrdup(path);
    char *directory = dirname(copy);

    for (char *at = directory + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        (void)mkdir(directory, 0711);
        *at = '/';
    }
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return err_errno(e, "cannot make %s", directory);
    return 0;
}

static bool someone_listens(const struct sockaddr_un *address)
{
    _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 &&
           connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
}

int address_listen(const char *path, int *fd_out, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_fd_ int fd = -1;
    int r = make_directory(path, e);

    if (r < 0)
        return r;
    if (strlen(path) >= sizeof(address.sun_path) - 1)
        return err_set(e, ENAMETOOLONG, "%s is too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "socket");
    r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    if (r < 0 && errno == EADDRINUSE) {
        if (someone_listens(&address))
            return err_set(e, EADDRINUSE, "another shim listens at %s", path);
        (void)unlink(path);
        r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    }
    if (r == 0 && listen(fd, BACKLOG) < 0) {
        r = err_errno(e, "cannot listen at %s", path);
        (void)unlink(path);
        return r;
    }
    if (r < 0)
        return err_errno(e, "cannot listen at %s", path);
    *fd_out = steal_fd(&fd);
    return 0;
}

/* Only what is a socket, whatever the file says. */
static int remove_socket(const char *path, struct err *e)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "%s", path);
    if (S_ISSOCK(st.st_mode) && unlink(path) < 0 && errno != ENOENT)
        return err_errno(e, "cannot remove %s", path);
    return 0;
}

int address_remove(const char *bundle, struct err *e)
{
    _cleanup_free_ char *file = xasprintf("%s/%s", bundle, ADDRESS_FILE);
    _cleanup_fd_ int fd = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 16];
    const char *path = text + strlen(ADDRESS_SCHEME);
    ssize_t n;

    if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENOTDIR))
        return 0;
    n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return err_errno(e, "cannot read %s", file);
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    /* The file stays while the socket does, for another try. */
    if (strncmp(text, ADDRESS_SCHEME, strlen(ADDRESS_SCHEME)) == 0 &&
        path[0] == '/' && remove_socket(path, e) < 0)
        return -e->code;
    (void)unlink(file);
    return 0;
}

int address_remove_own(int fd, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNSPEC};
    /* So that a path without a NUL at its end has one here. */
    socklen_t size = sizeof(address) - 1;

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return err_errno(e, "the name of the socket");
    return address.sun_path[0] == '/' ? remove_socket(address.sun_path, e) : 0;
}
