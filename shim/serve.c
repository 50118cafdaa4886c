/*
 * The server that `start` leaves behind. Ends when containerd calls Shutdown
 * and no task is left, or by SIGTERM or SIGINT; then containerd runs `delete`.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actions.h"
#include "address.h"
#include "domus/log.h"
#include "domus/mem.h"
#include "events.h"
#include "server.h"
#include "service.h"
#include "task.h"

/* After Shutdown: so long for the last answers and events. */
#define FAREWELL_MS       10000
#define FAREWELL_CHECK_MS 5
#define LOG_FIFO          "log"
#define TTRPC_SUFFIX      ".ttrpc"

struct shim {
    struct loop *loop;
    struct events *events;
    struct task *task;
    struct server *server;
    struct service service;
    int64_t farewell_until; /* 0: Shutdown was not called */
};

/* containerd reads this FIFO; opened both ways so that its restart does not
 * end our writing. */
static int open_log(const struct options *options)
{
    _cleanup_fd_ int fd =
        open(LOG_FIFO, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_free_ char *fields =
        xasprintf("sandbox=%s namespace=%s pid=%d", options->id,
                  options->namespace, (int)getpid());
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)))
        close_fd(&fd);
    log_open(fd, options->debug ? LOG_DEBUG : LOG_INFO);
    log_set_fields(fields);
    return steal_fd(&fd);
}

static char *events_address(const struct options *options)
{
    const char *address = getenv("TTRPC_ADDRESS");

    if (address &&
        strncmp(address, ADDRESS_SCHEME, strlen(ADDRESS_SCHEME)) == 0)
        address += strlen(ADDRESS_SCHEME);
    if (address)
        return xstrdup(address);
    if (!options->address[0])
        return xstrdup("");
    return xasprintf("%s" TTRPC_SUFFIX, options->address);
}

static void farewell(void *context)
{
    struct shim *shim = context;

    /* A Create may have come after Shutdown. */
    if (!task_gone(shim->task)) {
        shim->farewell_until = 0;
        return;
    }
    if ((events_flushed(shim->events) && server_flushed(shim->server)) ||
        loop_now() >= shim->farewell_until)
        loop_stop(shim->loop);
    else
        (void)loop_add_timer(shim->loop, FAREWELL_CHECK_MS, farewell, shim);
}

static void end(void *context)
{
    struct shim *shim = context;

    if (shim->farewell_until)
        return;
    shim->farewell_until = loop_now() + FAREWELL_MS;
    (void)loop_add_timer(shim->loop, 0, farewell, shim);
}

static void signalled(void *context, short revents)
{
    struct shim *shim = context;

    (void)revents;
    log_info("ended by a signal");
    loop_stop(shim->loop);
}

/* The rest is ignored: a shim outlives the terminal and containerd. */
static int take_signals(void)
{
    static const int ignored[] = {SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2};
    sigset_t ours;

    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    (void)sigemptyset(&ours);
    (void)sigaddset(&ours, SIGTERM);
    (void)sigaddset(&ours, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ours, NULL);
    return signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int serve(const struct options *options, struct err *e)
{
    _cleanup_free_ char *address = events_address(options);
    _cleanup_fd_ int signals = take_signals();
    struct shim shim = {.loop = loop_new()};
    struct err left = ERR_INIT;
    struct loop_fd *source;
    int r;

    if (signals < 0) {
        r = err_errno(e, "signalfd");
        loop_free(shim.loop);
        return r;
    }
    source = loop_add_fd(shim.loop, signals, POLLIN, signalled, &shim);
    shim.events = events_new(shim.loop, address, options->namespace);
    shim.task = task_new(shim.loop, shim.events, options->namespace,
                         options->id, options->bundle);
    shim.service = (struct service){shim.task, end, &shim};
    shim.server = server_new(shim.loop, ACTION_SOCKET_FD, service_names,
                             service_call, &shim.service);
    log_debug("shim " DOMUS_VERSION " listens");
    r = loop_run(shim.loop, e);
    /* containerd may have removed the bundle by now, and the address with it.
     */
    if (task_gone(shim.task) && (address_remove(options->bundle, &left) < 0 ||
                                 address_remove_own(ACTION_SOCKET_FD, &left)))
        log_warn("%s", left.text);
    server_free(&shim.server);
    task_free(&shim.task);
    events_free(&shim.events);
    loop_remove_fd(&source);
    loop_free(shim.loop);
    return r;
}

int action_serve(const struct options *options)
{
    _cleanup_fd_ int log = -1;
    struct err e = ERR_INIT;
    int accepting = 0;
    socklen_t size = sizeof(accepting);

    if (action_check_names(options, &e) < 0 ||
        getsockopt(ACTION_SOCKET_FD, SOL_SOCKET, SO_ACCEPTCONN, &accepting,
                   &size) < 0 ||
        !accepting || options->bundle[0] != '/') {
        (void)fprintf(stderr, "domus: this needs an action, start or "
                              "delete; -help tells more\n");
        return EXIT_FAILURE;
    }
    /* Up to seven for each process by exec; a service's soft limit is 1024. */
    loop_raise_fd_limit();
    log = open_log(options);
    (void)!chdir("/");
    (void)fcntl(ACTION_SOCKET_FD, F_SETFD, FD_CLOEXEC);
    (void)prctl(PR_SET_NAME, "domus-shim");
    if (serve(options, &e) < 0) {
        log_error("%s", e.text);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
