/*
 * The delete action: containerd runs it when it has lost the shim, after a
 * crash and after an orderly end alike. Takes down whatever is left within
 * containerd's 5 s, and tells how the task ended.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "actions.h"
#include "address.h"
#include "daemon.h"
#include "domus/ctl.h"
#include "domus/log.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "oci.h"
#include "record.h"
#include "task.h"
#include "task.pb-c.h"

/* Less than containerd's 5 s, together with starting domusd. */
#define CONNECT_MS 2000
#define DESTROY_MS 4000
#define KILLED     (128 + 9)

/* The server of this very container, or something else by now? */
static bool is_our_shim(pid_t pid, const struct options *options)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/cmdline", (int)pid);
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[2048];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    bool named = false, spaced = false;

    if (n <= 0)
        return false;
    text[n] = '\0';
    if (!strstr(text, "containerd-shim-domus"))
        return false;
    for (const char *at = text; at < text + n; at += strlen(at) + 1) {
        const char *next = at + strlen(at) + 1;

        if (strcmp(at, "-id") == 0 && next < text + n)
            named = strcmp(next, options->id) == 0;
        if (strcmp(at, "-namespace") == 0 && next < text + n)
            spaced = strcmp(next, options->namespace) == 0;
        if (strcmp(at, "start") == 0 || strcmp(at, "delete") == 0)
            return false;
    }
    return named && spaced;
}

/* It may hang, or have lost only its connection to containerd. */
static void end_shim(pid_t pid, const struct options *options)
{
    _cleanup_fd_ int pidfd = -1;
    struct err ignored = ERR_INIT;

    if (pid <= 1)
        return;
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || !is_our_shim(pid, options))
        return;
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0)
        (void)packet_wait(pidfd, 500, &ignored);
}

/* The type is the request's id as well: each is sent once. */
static int ask(int fd, enum ctl_type type, const void *body, int64_t deadline,
               struct err *e)
{
    int r = packet_send(fd, &ctl_protocol, (uint16_t)type, type, body, e);

    while (r == 0) {
        struct packet packet;
        int64_t left = deadline - loop_now();
        bool answer;

        r = packet_wait(fd, left > 0 ? left : 0, e);
        if (r == 0)
            r = packet_receive(fd, &ctl_protocol, &packet, e);
        if (r == -EAGAIN) {
            r = 0;
            continue;
        }
        if (r < 0)
            break;
        answer = packet.type == CTL_RESULT && packet.id == (uint32_t)type;
        if (answer) {
            const struct ctl_result *result = packet.body;

            if (result->code)
                r = err_set(e, (int)result->code, "%s", result->text);
        }
        packet_clear(&ctl_protocol, &packet);
        if (answer)
            break;
    }
    return r;
}

/* The shim did not come to it. Failing, they are only told of. */
static void run_poststop(int fd, const struct options *options,
                         const char *bundle, const struct record *record,
                         int64_t deadline)
{
    _cleanup_(oci_config_clear) struct oci_config config = {0};
    struct ctl_hooks body = {
        .namespace = (char *)options->namespace,
        .id = (char *)options->id,
        .kind = (char *)"poststop",
        .bundle = (char *)bundle,
    };
    _cleanup_free_ char *state = NULL;
    struct err e = ERR_INIT;

    if (oci_load(bundle, options->id, &config, &e) < 0 ||
        config.poststop_hooks.n == 0)
        return;
    state = task_hook_state(config.hook_state, "stopped", record->shim);
    body.hooks = config.poststop_hooks;
    body.state = state;
    if (ask(fd, CTL_HOOKS, &body, deadline, &e) < 0)
        (void)fprintf(stderr, "domus: delete: poststop hooks: %s\n", e.text);
}

/* domusd is only started for this when it may know the sandbox. */
static int destroy(const struct record *record, const struct options *options,
                   const char *bundle, struct err *e)
{
    struct ctl_name name = {(char *)options->namespace, (char *)options->id};
    int64_t deadline = loop_now() + DESTROY_MS;
    _cleanup_fd_ int fd = -1;
    int r;

    if (record->sandbox) {
        r = daemon_connect_or_start(CONNECT_MS, &fd, e);
        if (r < 0)
            return r;
    } else if (record->shim != 0 || daemon_connect(&fd, e) < 0) {
        return 0;
    }
    r = ask(fd, CTL_DESTROY, &name, deadline, e);
    if (r == -ETIMEDOUT) {
        (void)fprintf(stderr, "domus: delete: domusd still works on it\n");
        return 0;
    }
    if (r == 0 && record->sandbox && bundle[0])
        run_poststop(fd, options, bundle, record, deadline);
    return r;
}

static int print_response(const struct record *record)
{
    Task__DeleteResponse response = TASK__DELETE_RESPONSE__INIT;
    Wellknown__Timestamp when = WELLKNOWN__TIMESTAMP__INIT;
    _cleanup_free_ uint8_t *bytes = NULL;
    struct timespec now;
    size_t n;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    when.seconds = now.tv_sec;
    when.nanos = (int32_t)now.tv_nsec;
    if (record->exited) {
        when.seconds = (int64_t)(record->exited_ns / 1000000000);
        when.nanos = (int32_t)(record->exited_ns % 1000000000);
    }
    response.pid = (uint32_t)record->shim;
    response.exit_status = record->exited ? record->status : KILLED;
    response.exited_at = &when;
    n = protobuf_c_message_get_packed_size(&response.base);
    bytes = xmalloc(n);
    n = protobuf_c_message_pack(&response.base, bytes);
    if (write(STDOUT_FILENO, bytes, n) == (ssize_t)n)
        return EXIT_SUCCESS;
    (void)fprintf(stderr, "domus: delete: cannot write the answer\n");
    return EXIT_FAILURE;
}

int action_delete(const struct options *options)
{
    _cleanup_free_ char *rootfs = NULL;
    struct record record = {0};
    struct err e = ERR_INIT;
    char bundle[PATH_MAX] = "";

    if (options->bundle[0])
        (void)snprintf(bundle, sizeof(bundle), "%s", options->bundle);
    else if (!getcwd(bundle, sizeof(bundle)))
        bundle[0] = '\0';
    if (action_check_names(options, &e) < 0 ||
        (bundle[0] && record_read(bundle, &record, &e) < 0)) {
        (void)fprintf(stderr, "domus: delete: %s\n", e.text);
        return EXIT_FAILURE;
    }
    end_shim(record.shim, options);
    if (destroy(&record, options, bundle, &e) < 0) {
        (void)fprintf(stderr, "domus: delete: %s\n", e.text);
        return EXIT_FAILURE;
    }
    if (bundle[0]) {
        if (address_remove(bundle, &e) < 0) {
            (void)fprintf(stderr, "domus: delete: %s\n", e.text);
            return EXIT_FAILURE;
        }
        /* domus mounts nothing there, but whoever did relies on delete. */
        rootfs = xasprintf("%s/rootfs", bundle);
        (void)umount2(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW);
        record.sandbox = false;
        if (record.shim)
            (void)record_write(bundle, &record, &e);
    }
    return print_response(&record);
}
