#include "server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "permit.h"

#define BACKLOG         128
#define ACCEPT_PAUSE_MS 200
/* How long another domusd may take to end. */
#define LOCK_MS       10000
#define LOCK_RETRY_MS 50

struct outgoing {
    struct outgoing *next;
    enum ctl_type type;
    uint32_t id;
    union ctl_body *body; /* owned */
};

struct peer {
    struct peer *next;
    struct server *server; /* borrowed */
    uint64_t serial;
    enum role role;
    int fd;
    struct loop_fd *source;
    struct outgoing *queue;
    size_t queued;
};

struct server {
    struct loop *loop;
    const struct server_handler *handler;
    void *context;
    int fd;
    struct loop_fd *source;
    struct loop_timer *pause;
    struct peer *peers;
    size_t peer_count;
    uint64_t last_serial;
};

/*
 * Not flock(): between fork and exec a child has that too, and when domusd is
 * killed just then, the next one must not find the directory taken. A record
 * lock is its process's alone.
 */
static bool lock_now(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fcntl(fd, F_SETLK, &lock) == 0;
}

/* The name, lest the holder's number is another process's by now. */
static void ask_to_end(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _cleanup_free_ char *path = NULL;
    _cleanup_fd_ int comm = -1;
    char name[16] = "";

    if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK ||
        lock.l_pid <= 1)
        return;
    path = xasprintf("/proc/%d/comm", (int)lock.l_pid);
    comm = open(path, O_RDONLY | O_CLOEXEC);
    if (comm < 0 || read(comm, name, sizeof(name) - 1) <= 0 ||
        strcmp(name, "domusd\n") != 0)
        return;
    log_info("asking the domusd that runs already, process %d, to end",
             (int)lock.l_pid);
    (void)kill(lock.l_pid, SIGTERM);
}

static int take_lock(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};
    int64_t deadline = loop_now() + LOCK_MS;
    bool given = sd_listen_fds(0) > 0;

    if (lock_now(fd))
        return 0;
    if (given)
        ask_to_end(fd);
    while (given && loop_now() < deadline) {
        (void)nanosleep(&pause, NULL);
        if (lock_now(fd))
            return 0;
    }
    return -EALREADY;
}

int server_lock(const char *run_dir, int *lock_out, struct err *e)
{
    _cleanup_free_ char *path = xasprintf("%s/" SERVER_LOCK_NAME, run_dir);
    _cleanup_fd_ int fd =
        open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(e, "%s", path);
    if (take_lock(fd) < 0)
        return err_set(e, EALREADY, "another domusd serves %s", run_dir);
    *lock_out = steal_fd(&fd);
    return 0;
}

static int bind_new(const char *run_dir, int *fd_out, struct err *e)
{
    _cleanup_free_ char *path = xasprintf("%s/" SERVER_SOCKET_NAME, run_dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_fd_ int fd = -1;
    int n =
        snprintf(address.sun_path, sizeof(address.sun_path), "%s.new", path);

    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        return err_set(e, ENAMETOOLONG, "%s: too long for a socket", path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "socket");
    /* We have the lock: what lies there is a dead domusd's. Renamed once it
     * listens, so that nobody finds a socket that does not. */
    (void)unlink(address.sun_path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(address.sun_path, 0600) < 0 || listen(fd, BACKLOG) < 0 ||
        rename(address.sun_path, path) < 0)
        return err_errno(e, "%s", path);
    *fd_out = steal_fd(&fd);
    return 0;
}

int server_listen(const char *run_dir, int *fd_out, struct err *e)
{
    int n = sd_listen_fds(1);
    int fd = SD_LISTEN_FDS_START;

    if (n <= 0)
        return bind_new(run_dir, fd_out, e);
    if (n != 1 || sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return err_set(e, EINVAL,
                       "systemd must pass one listening SOCK_SEQPACKET "
                       "socket, see domusd.socket");
    *fd_out = fd;
    return 0;
}

static struct peer *peer_find(struct server *server, uint64_t serial)
{
    struct peer *peer = server->peers;

    while (peer && peer->serial != serial)
        peer = peer->next;
    return peer;
}

static void pop(struct peer *peer)
{
    struct outgoing *out = peer->queue;
    const struct wire_desc *desc = ctl_protocol.types[out->type].desc;

    peer->queue = out->next;
    peer->queued--;
    if (desc)
        wire_clear(desc, out->body);
    free(out->body);
    free(out);
}

static void peer_free(struct peer *peer)
{
    struct peer **at = &peer->server->peers;

    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    peer->server->peer_count--;
    loop_remove_fd(&peer->source);
    close_fd(&peer->fd);
    while (peer->queue)
        pop(peer);
    free(peer);
}

static void peer_drop(struct peer *peer)
{
    struct server *server = peer->server;
    uint64_t serial = peer->serial;

    peer_free(peer);
    server->handler->gone(server->context, serial);
}

/* False when the peer is to be dropped. */
static bool flush(struct peer *peer)
{
    while (peer->queue) {
        struct outgoing *out = peer->queue;
        struct err e = ERR_INIT;
        int r = packet_send(peer->fd, &ctl_protocol, (uint16_t)out->type,
                            out->id, out->body, &e);

        if (r == -EAGAIN)
            break;
        if (r < 0) {
            if (r != -EPIPE && r != -ECONNRESET)
                log_warn("connection %llu: %s",
                         (unsigned long long)peer->serial, e.text);
            return false;
        }
        pop(peer);
    }
    loop_fd_events(peer->source, (short)(POLLIN | (peer->queue ? POLLOUT : 0)));
    return true;
}

void server_send(struct server *server, uint64_t serial, enum ctl_type type,
                 uint32_t id, const void *body)
{
    struct peer *peer = peer_find(server, serial);
    struct outgoing **at, *out;
    struct err e = ERR_INIT;

    if (!peer)
        return;
    if (peer->queued >= SERVER_QUEUE_MAX) {
        /* Not dropped here: callers iterate over what that would change. */
        log_warn("connection %llu does not read its packets",
                 (unsigned long long)serial);
        (void)shutdown(peer->fd, SHUT_RDWR);
        return;
    }
    out = xcalloc(1, sizeof(*out));
    out->type = type;
    out->id = id;
    out->body = xcalloc(1, sizeof(*out->body));
    if (wire_copy(ctl_protocol.types[type].desc, body, out->body, &e) < 0) {
        log_error("reply %s: %s", ctl_protocol.types[type].name, e.text);
        out->type = CTL_RESULT;
        out->body->result.code = EMSGSIZE;
        out->body->result.text = xstrdup("the answer is too large");
    }
    at = &peer->queue;
    while (*at)
        at = &(*at)->next;
    *at = out;
    peer->queued++;
    if (!flush(peer))
        (void)shutdown(peer->fd, SHUT_RDWR);
}

void server_result(struct server *server, uint64_t peer, uint32_t id,
                   const struct err *error)
{
    _cleanup_free_ char *text = xstrdup(error ? error->text : "");
    struct ctl_result result = {.code = error ? (uint32_t)error->code : 0,
                                .text = text};

    server_send(server, peer, CTL_RESULT, id, &result);
}

static void handle(struct peer *peer, const struct packet *packet)
{
    struct server *server = peer->server;

    if (!permit_allows(peer->role, packet->type)) {
        struct err e = ERR_INIT;

        (void)err_set(&e, EPERM, "%s is not permitted to this user",
                      ctl_protocol.types[packet->type].name);
        server_result(server, peer->serial, packet->id, &e);
        return;
    }
    server->handler->request(server->context, peer->serial, packet);
}

static void peer_ready(void *context, short revents)
{
    struct peer *peer = context;
    struct packet packet;
    struct err e = ERR_INIT;
    int r;

    if (revents & POLLOUT && !flush(peer)) {
        peer_drop(peer);
        return;
    }
    if (!(revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    r = packet_receive(peer->fd, &ctl_protocol, &packet, &e);
    if (r == -EAGAIN)
        return;
    if (r == -EPROTONOSUPPORT && peer->role == ROLE_ROOT)
        peer->server->handler->stranger(peer->server->context);
    if (r < 0) {
        /* A shim comes back every second. */
        if (r != -EPIPE && r != -EPROTONOSUPPORT)
            log_warn("connection %llu closed: %s",
                     (unsigned long long)peer->serial, e.text);
        peer_drop(peer);
        return;
    }
    handle(peer, &packet);
    packet_clear(&ctl_protocol, &packet);
}

static void resume(void *context)
{
    struct server *server = context;

    server->pause = NULL;
    loop_fd_mute(server->source, 0);
}

static void acceptable(void *context, short revents)
{
    struct server *server = context;
    struct ucred credentials = {.uid = (uid_t)-1};
    socklen_t n = sizeof(credentials);
    _cleanup_fd_ int fd =
        accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct peer *peer;

    (void)revents;
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            log_warn("accept: %s", strerror(errno));
            loop_fd_mute(server->source, 1);
            server->pause =
                loop_add_timer(server->loop, ACCEPT_PAUSE_MS, resume, server);
        }
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &n) < 0 ||
        server->peer_count >= SERVER_PEERS_MAX) {
        log_warn("connection refused, %zu are open", server->peer_count);
        return;
    }
    peer = xcalloc(1, sizeof(*peer));
    peer->server = server;
    peer->serial = ++server->last_serial;
    peer->role = permit_role(credentials.uid);
    peer->fd = steal_fd(&fd);
    peer->source =
        loop_add_fd(server->loop, peer->fd, POLLIN, peer_ready, peer);
    peer->next = server->peers;
    server->peers = peer;
    server->peer_count++;
}

struct server *server_new(struct loop *loop, int fd,
                          const struct server_handler *handler, void *context)
{
    struct server *server = xcalloc(1, sizeof(*server));

    server->loop = loop;
    server->handler = handler;
    server->context = context;
    server->fd = fd;
    server->source = loop_add_fd(loop, fd, POLLIN, acceptable, server);
    return server;
}

void server_free(struct server *server)
{
    while (server->peers)
        peer_free(server->peers);
    loop_remove_fd(&server->source);
    loop_remove_timer(&server->pause);
    close_fd(&server->fd);
    free(server);
}
