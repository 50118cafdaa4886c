#include "log_writer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "spawn.h"

#define DIRECTORY_MODE 0755
#define FILE_MODE      0644
#define REPORT_TEXT    512
#define COPY_SIZE      65536

/* Smaller than PIPE_BUF, so that it comes whole or not at all. */
struct report {
    int code;
    char text[REPORT_TEXT];
};

/* --- the program -----------------------------------------------------------
 */

static void tell(const struct err *e)
{
    struct report report = {.code = e->code};

    (void)snprintf(report.text, REPORT_TEXT, "%.*s", REPORT_TEXT - 1, e->text);
    (void)!write(STDOUT_FILENO, &report, sizeof(report));
}

static int make_parents(const char *path, struct err *e)
{
    _cleanup_free_ char *parent = xstrdup(path);

    for (char *slash = strchr(parent + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(parent, DIRECTORY_MODE) < 0 && errno != EEXIST)
            return err_errno(e, "cannot make %s",
                             LOG_Q(parent, strlen(parent)));
        *slash = '/';
    }
    return 0;
}

static int open_file(const char *path, int *fd_out, struct err *e)
{
    _cleanup_fd_ int fd = -1;
    struct stat st;
    int r = make_parents(path, e);

    if (r < 0)
        return r;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC,
              FILE_MODE);
    /* A FIFO without a reader cannot be opened like this. */
    if (fd < 0 && errno != ENXIO)
        return err_errno(e, "cannot open %s", LOG_Q(path, strlen(path)));
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "%s is not a regular file",
                       LOG_Q(path, strlen(path)));
    (void)fcntl(fd, F_SETFL, O_APPEND);
    *fd_out = steal_fd(&fd);
    return 0;
}

static bool write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);

        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            bytes += written;
            n -= (size_t)written;
        }
    }
    return true;
}

static void copy(const char *path, int fd)
{
    _cleanup_free_ char *bytes = xmalloc(COPY_SIZE);
    bool lossy = false;

    for (;;) {
        ssize_t n = read(STDIN_FILENO, bytes, COPY_SIZE);
        struct err e = ERR_INIT;

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        if (write_all(fd, bytes, (size_t)n)) {
            lossy = false;
            continue;
        }
        if (!lossy) {
            (void)err_errno(&e, "output for %s is lost",
                            LOG_Q(path, strlen(path)));
            tell(&e);
        }
        lossy = true;
    }
}

int log_writer_main(const char *path)
{
    /* It ends with its input, and not before; the shim may be gone first. */
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGTERM,
                                  SIGPIPE, SIGUSR1, SIGUSR2};
    struct err e = ERR_INIT;
    _cleanup_fd_ int fd = -1;

    (void)prctl(PR_SET_NAME, LOG_WRITER_NAME);
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    /* Files and directories are the client's, and read by others than root. */
    (void)umask(0022);
    (void)open_file(path, &fd, &e);
    tell(&e);
    if (e.code)
        return EXIT_FAILURE;
    copy(path, fd);
    return EXIT_SUCCESS;
}

/* --- the shim's side -------------------------------------------------------
 */

int log_writer_start(const char *path, int input, int *reports_out,
                     pid_t *pid_out, struct err *e)
{
    char *argv[] = {(char *)LOG_WRITER_NAME, (char *)path, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], r;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    r = spawn(SPAWN_SELF, argv, &actions, pid_out, e);
    close_fd(&ends[1]);
    if (r < 0) {
        close_fd(&ends[0]);
        return err_wrap(e, "the writer of %s", LOG_Q(path, strlen(path)));
    }
    *reports_out = ends[0];
    return 0;
}

int log_writer_read(int reports, struct err *said)
{
    struct report report;
    ssize_t n = read(reports, &report, sizeof(report));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n != (ssize_t)sizeof(report))
        return -1;
    said->code = report.code;
    (void)snprintf(said->text, sizeof(said->text), "%.*s", REPORT_TEXT - 1,
                   report.text);
    return 1;
}
