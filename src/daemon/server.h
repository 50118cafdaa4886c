/*
 * server.h - the control socket and the connections on it. Others name a
 * connection by its serial number, never by address: what is sent to one that
 * is gone is dropped.
 */
#ifndef DOMUS_SERVER_H
#define DOMUS_SERVER_H

#include "domus/ctl.h"
#include "domus/loop.h"

#define SERVER_SOCKET_NAME "domusd.sock"
#define SERVER_LOCK_NAME   "domusd.lock"
/* Packets that may wait for a peer that does not read; then it is dropped. */
#define SERVER_QUEUE_MAX 64
#define SERVER_PEERS_MAX 2048

struct server;

struct server_handler {
    /* An allowed request; the packet's body is the caller's. */
    void (*request)(void *context, uint64_t peer, const struct packet *packet);
    void (*gone)(void *context, uint64_t peer);
    /* Root speaks another version of the protocol, and is not served. */
    void (*stranger)(void *context);
};

/*
 * Takes the run directory's lock: one domusd for each. Who was given a socket
 * by systemd has the one that clients find, so it asks a domusd that a shim
 * has started to end; else it fails with EALREADY.
 */
int server_lock(const char *run_dir, int *lock_out, struct err *e);

/* The socket that systemd passed, or a new one; listening. */
int server_listen(const char *run_dir, int *fd_out, struct err *e);

/* Takes fd. */
struct server *server_new(struct loop *loop, int fd,
                          const struct server_handler *handler, void *context);
void server_free(struct server *server);

/* id 0: a notice. */
void server_send(struct server *server, uint64_t peer, enum ctl_type type,
                 uint32_t id, const void *body);
/* RESULT; error NULL: success. */
void server_result(struct server *server, uint64_t peer, uint32_t id,
                   const struct err *error);

#endif
