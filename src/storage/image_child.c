#include "image_child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"

/* What comes through the pipe: this, then the answer or an error's text. */
struct header {
    int32_t code; /* 0 or errno's value */
};

struct image_child {
    struct image_child_setup setup;
    char *late;
    int pidfd; /* kills no other that got its number */
    int fd;    /* the answer */
    struct loop_fd *source;
    struct loop_timer *timer;
    char bytes[sizeof(struct header) + IMAGE_CHILD_ANSWER_MAX];
    size_t n;
};

/* The unit spares domusd when memory runs out; a tree of who knows what size is
 * not to be walked with that. */
static void reset_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    (void)!write(fd, "0", 1);
    close_fd(&fd);
}

static void run(const struct image_child_setup *setup, pid_t parent, int answer)
{
    char bytes[sizeof(struct header) + IMAGE_CHILD_ANSWER_MAX] = {0};
    char *body = bytes + sizeof(struct header);
    struct header header = {.code = 0};
    struct err e = ERR_INIT;
    size_t n = setup->answer_size;
    sigset_t none;
    int fd;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    (void)prctl(PR_SET_NAME, "domus-image");
    reset_oom_score();
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    /* No descriptor of domusd's but the answer's. */
    fd = fcntl(answer, F_DUPFD_CLOEXEC, 3);
    if (fd > 3 && dup3(fd, 3, O_CLOEXEC) != 3)
        _exit(1);
    (void)close_range(4, ~0u, 0);
    (void)umask(0077);
    if (setup->run(setup->job, body, &e) < 0) {
        header.code = e.code;
        n = strnlen(e.text, IMAGE_CHILD_ANSWER_MAX);
        memcpy(body, e.text, n);
    }
    memcpy(bytes, &header, sizeof(header));
    (void)!write(3, bytes, sizeof(header) + n);
    _exit(0);
}

static void child_free(struct image_child *child)
{
    loop_remove_fd(&child->source);
    loop_remove_timer(&child->timer);
    close_fd(&child->fd);
    close_fd(&child->pidfd);
    free(child->late);
    free(child);
}

static void ended(struct image_child *child)
{
    const struct image_child_setup setup = child->setup;
    char body[IMAGE_CHILD_ANSWER_MAX];
    struct err e = ERR_INIT;
    struct header header;
    size_t n;

    memcpy(&header, child->bytes, sizeof(header));
    n = child->n < sizeof(header) ? 0 : child->n - sizeof(header);
    memcpy(body, child->bytes + sizeof(header), sizeof(body));
    child_free(child);
    if (n > 0 && header.code > 0 && header.code <= 4095)
        (void)err_set(&e, header.code, "%.*s", (int)n, body);
    else if (n == 0 || header.code != 0 || n != setup.answer_size)
        (void)err_set(&e, EIO, "the process that reads the layers ended early");
    setup.done(setup.context, e.code ? NULL : body, e.code ? &e : NULL);
}

static void readable(void *context, short revents)
{
    struct image_child *child = context;
    ssize_t n = read(child->fd, child->bytes + child->n,
                     sizeof(child->bytes) - child->n);

    (void)revents;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0)
        child->n += (size_t)n;
    else
        ended(child);
}

static void kill_it(const struct image_child *child)
{
    (void)pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
}

static void late(void *context)
{
    struct image_child *child = context;
    const struct image_child_setup setup = child->setup;
    struct err e = ERR_INIT;

    child->timer = NULL;
    kill_it(child);
    (void)err_set(&e, ETIMEDOUT, "%s within %d s", child->late,
                  setup.deadline_s);
    child_free(child);
    setup.done(setup.context, NULL, &e);
}

static void reaped(void *context, pid_t pid, int status)
{
    (void)context;
    (void)pid;
    (void)status;
}

static struct image_child *child_new(const struct image_child_setup *setup,
                                     int pidfd, int fd)
{
    struct image_child *child = xcalloc(1, sizeof(*child));

    child->setup = *setup;
    child->setup.job = NULL;
    child->late = xstrdup(setup->late);
    child->pidfd = pidfd;
    child->fd = fd;
    child->source = loop_add_fd(setup->loop, fd, POLLIN, readable, child);
    child->timer =
        loop_add_timer(setup->loop, setup->deadline_s * 1000, late, child);
    return child;
}

struct image_child *image_child_start(const struct image_child_setup *setup,
                                      struct err *e)
{
    _cleanup_fd_ int from = -1, to = -1, pidfd = -1;
    pid_t parent = getpid(), pid;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) {
        (void)err_errno(e, "pipe");
        return NULL;
    }
    from = ends[0];
    to = ends[1];
    pid = fork();
    if (pid < 0) {
        (void)err_errno(e, "fork");
        return NULL;
    }
    if (pid == 0)
        run(setup, parent, to);
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        (void)err_errno(e, "cannot watch process %d", (int)pid);
    if (loop_add_child(setup->loop, pid, reaped, NULL, e) < 0 || pidfd < 0) {
        (void)kill(pid, SIGKILL);
        return NULL;
    }
    return child_new(setup, steal_fd(&pidfd), steal_fd(&from));
}

void image_child_kill(struct image_child **child)
{
    if (!*child)
        return;
    kill_it(*child);
    child_free(*child);
    *child = NULL;
}
