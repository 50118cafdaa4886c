#include "daemon.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/ctl.h"
#include "domus/log.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "spawn.h"

#define LOG_NAME    "domusd.log"
#define LOG_TAIL    400
#define CHECK_EVERY 20000 /* microseconds */

const char *daemon_socket_path(void)
{
    const char *path = getenv("DOMUS_SOCKET");

    return path && path[0] ? path : CTL_SOCKET;
}

int daemon_connect(int *fd_out, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = daemon_socket_path();
    _cleanup_fd_ int fd = -1;

    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(e, ENAMETOOLONG, "%s is too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(e, "cannot reach domusd at %s", path);
    *fd_out = steal_fd(&fd);
    return 0;
}

/* DOMUS_DOMUSD (for tests), else installed beside the shim, else by PATH. */
static char *daemon_program(void)
{
    static const char *const places[] = {"../sbin/domusd", "domusd"};
    const char *named = getenv("DOMUS_DOMUSD");
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (named && named[0])
        return xstrdup(named);
    if (n > 0) {
        const char *directory;

        self[n] = '\0';
        directory = dirname(self);
        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
            _cleanup_free_ char *path =
                xasprintf("%s/%s", directory, places[i]);

            if (access(path, X_OK) == 0)
                return steal_ptr(&path);
        }
    }
    return xstrdup("domusd");
}

static char *daemon_log_path(void)
{
    _cleanup_free_ char *directory = xstrdup(daemon_socket_path());

    return xasprintf("%s/" LOG_NAME, dirname(directory));
}

int daemon_start(pid_t *pid_out, struct err *e)
{
    _cleanup_free_ char *program = daemon_program();
    _cleanup_free_ char *log = daemon_log_path();
    _cleanup_free_ char *directory = xstrdup(daemon_socket_path());
    char *argv[] = {(char *)"domusd", NULL};
    posix_spawn_file_actions_t actions;

    (void)mkdir(dirname(directory), 0700);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(
        &actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawn_file_actions_addchdir_np(&actions, "/");
    return spawn(program, argv, &actions, pid_out, e);
}

void daemon_add_log(struct err *e)
{
    _cleanup_free_ char *path = daemon_log_path();
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char text[LOG_TAIL + 1];
    size_t at = strlen(e->text);
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    n = pread(fd, text, LOG_TAIL,
              st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n > 0) {
        text[n] = '\0';
        (void)snprintf(e->text + at, sizeof(e->text) - at, "; its log: %s",
                       text);
    }
}

int daemon_connect_or_start(int64_t milliseconds, int *fd_out, struct err *e)
{
    int64_t deadline = loop_now() + milliseconds;
    pid_t pid = 0;
    int r;

    for (;;) {
        int status;

        r = daemon_connect(fd_out, e);
        /* EAGAIN: it is there, and has very many clients. */
        if (r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN)
            return r;
        if (r != -EAGAIN && pid == 0 && daemon_start(&pid, e) < 0)
            return -e->code;
        /* One that gives way to another, which is still coming up, ends. */
        if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid &&
            deadline > loop_now() + DAEMON_ENDED_MS)
            deadline = loop_now() + DAEMON_ENDED_MS;
        if (loop_now() >= deadline)
            break;
        (void)usleep(CHECK_EVERY);
    }
    daemon_add_log(e);
    return r;
}
