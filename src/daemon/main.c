/*
 * domusd - the host daemon: owns the table of sandboxes, images and loop
 * devices, and the builder processes. As "domus-builder" this program is one
 * of those instead.
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../builder/builder.h"
#include "adopt.h"
#include "domus/mem.h"
#include "hooks.h"
#include "logger.h"
#include "requests.h"
#include "sandbox.h"
#include "spawn.h"

static const char usage[] =
    "usage: domusd [--config FILE]\n"
    "The host daemon of domus; stays in the foreground.\n"
    "  --config FILE  read FILE instead of " CONFIG_FILE "\n"
    "  --help         this text\n"
    "  --version      the version\n";

static int open_dir(const char *path, int *fd_out, struct err *e)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(e, "make the directory %s", path);
    *fd_out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd_out < 0 || fchmod(*fd_out, 0700) < 0)
        return err_errno(e, "%s", path);
    return 0;
}

static void on_signal(void *context, short revents)
{
    struct daemon *daemon = context;

    (void)revents;
    log_info("asked to end; containers go on");
    loop_stop(daemon->loop);
}

static int catch_signals(struct daemon *daemon, int *fd_out, struct err *e)
{
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return err_errno(e, "sigprocmask");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    /* Inherited as ignored, it would take our children's status away. */
    (void)signal(SIGCHLD, SIG_DFL);
    *fd_out = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (*fd_out < 0)
        return err_errno(e, "signalfd");
    (void)loop_add_fd(daemon->loop, *fd_out, POLLIN, on_signal, daemon);
    return 0;
}

struct startup {
    struct daemon daemon; /* first: adopt_all() gives it back */
    int listening;
};

static void serve(struct daemon *daemon)
{
    struct startup *startup = (struct startup *)daemon;

    daemon->server = server_new(daemon->loop, steal_fd(&startup->listening),
                                &requests_handler, daemon);
    log_info("domusd %s is ready", DOMUS_VERSION);
    (void)sd_notify(0, "READY=1");
}

static int run(struct daemon *daemon, struct err *e)
{
    struct startup *startup = (struct startup *)daemon;
    _cleanup_fd_ int run_fd = -1, lock = -1, signals = -1;
    _cleanup_free_ char *records =
        xasprintf("%s/sandboxes", daemon->config.run_dir);
    _cleanup_free_ char *staging =
        xasprintf("%s/staging", daemon->config.run_dir);
    const struct image_limits limits = {
        .cache_max = (uint64_t)daemon->config.image_cache_max_mib << 20,
        .build_memory_max = (uint64_t)daemon->config.image_build_memory_max_mib
                            << 20,
    };
    int r = open_dir(daemon->config.run_dir, &run_fd, e);

    if (r == 0)
        r = server_lock(daemon->config.run_dir, &lock, e);
    if (r == 0)
        r = open_dir(records, &daemon->records_fd, e);
    if (r == 0)
        r = catch_signals(daemon, &signals, e);
    if (r < 0)
        return r;
    daemon->images = image_store_new(daemon->loop, daemon->config.image_dir,
                                     staging, &limits, e);
    if (!daemon->images)
        return -e->code;
    daemon->pool =
        pool_new(daemon->loop, daemon->config.builder, daemon->config.workers);
    daemon->watch = watch_new(daemon->loop, daemon->config.builder,
                              &sandbox_watch_handler, daemon);
    r = server_listen(daemon->config.run_dir, &startup->listening, e);
    if (r < 0)
        return r;
    if (daemon_check_xen(daemon, e) < 0)
        log_warn("%s", e->text);
    else
        pool_prestart(daemon->pool);
    *e = (struct err)ERR_INIT;
    /* The digests of kernel and initramfs, before the first is asked for. */
    if (guest_files_check(&daemon->guest, e) < 0)
        log_warn("%s", e->text);
    *e = (struct err)ERR_INIT;
    r = adopt_all(daemon, serve, e);
    return r < 0 ? r : loop_run(daemon->loop, e);
}

static void finish(struct daemon *daemon)
{
    if (daemon->server)
        server_free(daemon->server);
    if (daemon->watch)
        watch_free(daemon->watch);
    if (daemon->pool)
        pool_free(daemon->pool);
    hooks_free(daemon);
    loggers_free(daemon);
    sandboxes_free(daemon);
    if (daemon->images)
        image_store_free(daemon->images);
    close_fd(&daemon->records_fd);
    guest_files_clear(&daemon->guest);
    config_clear(&daemon->config);
    loop_free(daemon->loop);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    struct startup startup = {.daemon = {.records_fd = -1}, .listening = -1};
    struct daemon *daemon = &startup.daemon;
    const char *config = NULL;
    struct err e = ERR_INIT;
    int option, r;

    if (argc > 0 && strcmp(argv[0], SPAWN_BUILDER_NAME) == 0)
        return builder_main(argc, argv);
    while ((option = getopt_long(argc, argv, "c:hv", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            config = optarg;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        case 'v':
            (void)puts("domusd " DOMUS_VERSION);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    if (optind != argc) {
        (void)fprintf(stderr, "domusd: unexpected argument '%s'\n%s",
                      argv[optind], usage);
        return 2;
    }
    (void)umask(0077);
    if (config_load(config, &daemon->config, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    log_set_level(daemon->config.log_level);
    /* Every connection and every guest takes a descriptor or two. */
    loop_raise_fd_limit();
    guest_files_init(&daemon->guest, daemon->config.guest_dir);
    daemon->loop = loop_new();
    r = run(daemon, &e);
    if (r < 0)
        log_error("%s", e.text);
    close_fd(&startup.listening);
    finish(daemon);
    return r < 0 ? 1 : 0;
}
