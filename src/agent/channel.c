#include "channel.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "domus/mem.h"
#include "domus/packet.h"
#include "domus/proto.h"

/* Whoever started the agent with a socket connects at once. */
#define ACCEPT_WAIT_MS 60000

static int accept_one(const char *path, struct chan **chan_out, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_fd_ int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd, r;

    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(e, ENAMETOOLONG, "socket path %s", path);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (listening < 0 ||
        bind(listening, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listening, 1) < 0)
        return err_errno(e, "listen at %s", path);
    r = packet_wait(listening, ACCEPT_WAIT_MS, e);
    if (r < 0)
        return r;
    fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "accept at %s", path);
    *chan_out = chan_from_socket(fd);
    return 0;
}

int channel_open(const char *where, struct chan **chan_out, struct err *e)
{
    if (!where)
        return chan_serve_vchan(PROTO_VCHAN_PATH, PROTO_VCHAN_RING, chan_out,
                                e);
    if (strncmp(where, "unix:", 5) != 0)
        return err_set(e, EINVAL, "channel %s is not unix:PATH", where);
    return accept_one(where + 5, chan_out, e);
}
