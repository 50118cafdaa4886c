/*
 * The start action: makes the socket, leaves a server behind that listens at
 * it and prints where. containerd does not call delete when this fails, so a
 * failure leaves nothing behind; and it reads standard output and error
 * together, so nothing else is printed.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actions.h"
#include "address.h"
#include "bootstrap.h"
#include "domus/log.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "domus/spec.h"
#include "record.h"
#include "spawn.h"

#define LOCK_MS  5000
#define OOM_FILE "/proc/%d/oom_score_adj"
#define OOM_MAX  1000

int action_check_names(const struct options *options, struct err *e)
{
    if (!spec_id_valid(options->id))
        return err_set(e, EINVAL, "not a valid container id: \"%s\"",
                       LOG_Q(options->id, strlen(options->id)));
    if (!spec_id_valid(options->namespace))
        return err_set(e, EINVAL, "not a valid namespace: \"%s\"",
                       LOG_Q(options->namespace, strlen(options->namespace)));
    return 0;
}

static int read_stdin(struct buf *in, struct err *e)
{
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buf_reserve(in, 4096), 4096);

        if (n < 0 && errno == EINTR)
            continue;
        /* No standard input at all is as good as an empty one. */
        if (n == 0 || (n < 0 && errno == EBADF))
            return 0;
        if (n < 0)
            return err_errno(e, "cannot read standard input");
        buf_commit(in, (size_t)n);
        if (buf_len(in) > BOOTSTRAP_MAX)
            return err_set(e, EFBIG, "more than %d bytes on standard input",
                           BOOTSTRAP_MAX);
    }
}

/* Starts of one container, one after the other; the bundle is locked until the
 * descriptor is closed. */
static int lock_bundle(const char *bundle, int *fd_out, struct err *e)
{
    int64_t deadline = loop_now() + LOCK_MS;
    _cleanup_fd_ int fd = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, "bundle %s", bundle);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || loop_now() > deadline)
            return err_errno(e, "cannot lock bundle %s", bundle);
        (void)usleep(10000);
    }
    *fd_out = steal_fd(&fd);
    return 0;
}

/* A little more likely to be ended for want of memory than containerd, whose
 * value our children would have. */
static void raise_oom_score(void)
{
    char path[64], text[16];
    _cleanup_fclose_ FILE *in = NULL, *out = NULL;
    long score;

    (void)snprintf(path, sizeof(path), OOM_FILE, (int)getppid());
    in = fopen(path, "re");
    if (!in || !fgets(text, sizeof(text), in))
        return;
    score = strtol(text, NULL, 10) + 1;
    (void)snprintf(path, sizeof(path), OOM_FILE, (int)getpid());
    out = fopen(path, "we");
    if (out && score <= OOM_MAX)
        (void)fprintf(out, "%ld", score);
}

/* Nothing of ours is inherited but the socket: containerd waits until every
 * holder of our standard output has closed it. The bundle is named, since
 * containerd may have removed it before the server could ask where it is. */
static int spawn_server(const struct options *options, const char *bundle,
                        int fd, pid_t *pid_out, struct err *e)
{
    char *argv[] = {(char *)"containerd-shim-domus-v2",
                    (char *)"-namespace",
                    (char *)options->namespace,
                    (char *)"-id",
                    (char *)options->id,
                    (char *)"-address",
                    (char *)options->address,
                    (char *)"-bundle",
                    (char *)bundle,
                    options->debug ? (char *)"-debug" : NULL,
                    NULL};
    posix_spawn_file_actions_t actions;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, ACTION_SOCKET_FD);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, 0, 1);
    posix_spawn_file_actions_adddup2(&actions, 0, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, ACTION_SOCKET_FD + 1);
    if (spawn(SPAWN_SELF, argv, &actions, pid_out, e) < 0)
        return err_wrap(e, "the shim's server");
    return 0;
}

static int print_reply(const struct bootstrap *bootstrap, const char *address,
                       struct err *e)
{
    _cleanup_buf_ struct buf out = BUF_INIT;

    bootstrap_reply(bootstrap, getenv("MAX_SHIM_VERSION"), address, &out);
    while (buf_len(&out) > 0) {
        ssize_t n = write(STDOUT_FILENO, buf_data(&out), buf_len(&out));

        if (n < 0)
            return err_errno(e, "cannot write the answer");
        buf_consume(&out, (size_t)n);
    }
    return 0;
}

/* What a start leaves behind. All of it is named before any of it is made. */
struct started {
    char *path;    /* of the socket; owned */
    char *address; /* the same as a URI; owned */
    char *file;    /* with the address, in the bundle; owned */
    bool listening;
    pid_t server;
};

static void started_clear(struct started *started)
{
    free(started->path);
    free(started->address);
    free(started->file);
}

/* Safe in a handler of signals. */
static void take_back(const struct started *started)
{
    if (!started->listening)
        return;
    if (started->server > 0)
        (void)kill(started->server, SIGKILL);
    (void)unlink(started->file);
    (void)unlink(started->path);
}

/* For aborted() alone; NULL when nothing is to be taken back. */
static const struct started *volatile unfinished;

/* Want of memory ends the process wherever it is, and nobody calls delete for a
 * start that failed. */
static void aborted(int signal)
{
    (void)signal;
    if (unfinished)
        take_back(unfinished);
}

static int make_all(const struct options *options, const char *bundle,
                    const struct bootstrap *bootstrap, struct started *started,
                    struct err *e)
{
    _cleanup_fd_ int fd = -1;
    struct record record = {0};
    int r = address_listen(started->path, &fd, e);

    if (r < 0)
        return r;
    started->listening = true;
    r = record_write_file(bundle, ADDRESS_FILE, started->address, e);
    if (r == 0)
        r = spawn_server(options, bundle, fd, &started->server, e);
    record.shim = started->server;
    if (r == 0)
        r = record_write(bundle, &record, e);
    if (r == 0)
        r = print_reply(bootstrap, started->address, e);
    if (r < 0)
        take_back(started);
    return r;
}

static int start_locked(const struct options *options, const char *bundle,
                        const struct bootstrap *bootstrap, struct err *e)
{
    const char *directory =
        bootstrap->socket_dir ? bootstrap->socket_dir : ADDRESS_DIR;
    _cleanup_(started_clear) struct started started = {
        .path = options->socket[0] ? xstrdup(options->socket)
                                   : address_path(directory, options),
        .file = xasprintf("%s/" ADDRESS_FILE, bundle),
    };
    int r;

    started.address = xasprintf("%s%s", ADDRESS_SCHEME, started.path);
    unfinished = &started;
    (void)signal(SIGABRT, aborted);
    r = make_all(options, bundle, bootstrap, &started, e);
    unfinished = NULL;
    if (r == -EADDRINUSE)
        r = print_reply(bootstrap, started.address, e);
    return r;
}

static int start(const struct options *options, struct err *e)
{
    _cleanup_buf_ struct buf in = BUF_INIT;
    _cleanup_(bootstrap_clear) struct bootstrap bootstrap = {0};
    _cleanup_fd_ int lock = -1;
    char bundle[PATH_MAX];
    int r = action_check_names(options, e);

    if (r < 0)
        return r;
    if (!getcwd(bundle, sizeof(bundle)))
        return err_errno(e, "cannot tell the bundle's directory");
    r = read_stdin(&in, e);
    if (r < 0)
        return r;
    r = bootstrap_parse(buf_data(&in), buf_len(&in), options, &bootstrap, e);
    if (r < 0)
        return r;
    r = lock_bundle(bundle, &lock, e);
    if (r < 0)
        return r;
    raise_oom_score();
    if (bootstrap.ttrpc_address)
        (void)setenv("TTRPC_ADDRESS", bootstrap.ttrpc_address, 0);
    return start_locked(options, bundle, &bootstrap, e);
}

int action_start(const struct options *options)
{
    struct err e = ERR_INIT;

    if (start(options, &e) < 0) {
        (void)fprintf(stderr, "domus: start: %s\n", e.text);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
