/*
 * A whole link with open streams, and a peer that says anything: one byte says
 * which end the link is, the rest is what the peer sends before it goes away.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/link.h"
#include "domus/mem.h"
#include "tests/fuzz/fuzz.h"

struct watch {
    struct loop *loop;
    unsigned closed;
};

static int message_came(void *context, struct proto_message *message,
                        struct err *e)
{
    (void)context;
    /* A handler that takes something out, and one that refuses. */
    if (message->type == PROTO_LOG)
        free(steal_ptr(&message->body.log.text));
    if (message->type == PROTO_EXITED && message->body.exited.status > 255)
        return err_set(e, EBADMSG, "no such status");
    return 0;
}

static void link_closed(void *context, const struct err *why)
{
    struct watch *watch = context;

    FUZZ_CHECK(why->code != 0);
    watch->closed++;
    loop_stop(watch->loop);
}

static const struct link_handler handler = {
    .message = message_came,
    .closed = link_closed,
};

static void never_closed(void *context)
{
    (void)context;
    __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct watch watch = {.loop = loop_new()};
    struct loop_timer *timer;
    struct err e = ERR_INIT;
    struct link *link;
    int fds[2], in[2];

    if (size < 1 || size > 65536) {
        loop_free(watch.loop);
        return 0;
    }
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                          0, fds) == 0);
    FUZZ_CHECK(pipe(in) == 0);
    FUZZ_CHECK(write(in[1], "input", 5) == 5);
    link = link_new(watch.loop, chan_from_socket(fds[0]),
                    data[0] & 1 ? PROTO_FROM_GUEST : PROTO_TO_GUEST, &handler,
                    &watch);
    (void)stream_add_sink(link, 1, -1, NULL, NULL);
    (void)stream_add_source(link, 2, in[0], NULL, NULL);
    FUZZ_CHECK(write(fds[1], data + 1, size - 1) == (ssize_t)(size - 1));
    FUZZ_CHECK(shutdown(fds[1], SHUT_WR) == 0);
    timer = loop_add_timer(watch.loop, 10000, never_closed, NULL);
    FUZZ_CHECK(loop_run(watch.loop, &e) == 0);
    FUZZ_CHECK(watch.closed == 1);
    loop_remove_timer(&timer);
    link_free(&link);
    loop_free(watch.loop);
    close(fds[1]);
    close(in[1]);
    return 0;
}

void fuzz_seeds(fuzz_emit_fn *emit)
{
    static const enum proto_type plain[] = {PROTO_CREDIT, PROTO_END};
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    buf_append(&b, (uint8_t[]){PROTO_FROM_GUEST}, 1);
    for (int i = 0; i < 3; i++)
        proto_encode_data(1, "bytes for the sink", 18, &b);
    for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
        struct proto_message m = {.type = plain[i], .id = 2 - (uint32_t)i};

        m.body.credit.bytes = plain[i] == PROTO_CREDIT ? 5 : 0;
        FUZZ_CHECK(proto_encode(&m, &b, &e) == 0);
    }
    emit("streams", buf_data(&b), buf_len(&b));
    buf_clear(&b);
    buf_append(&b, (uint8_t[]){PROTO_FROM_GUEST}, 1);
    for (int type = PROTO_HELLO; type <= PROTO_LOG; type++) {
        struct proto_message m = {.type = (enum proto_type)type};
        _cleanup_buf_ struct buf one = BUF_INIT;
        struct proto_header h;

        FUZZ_CHECK(proto_encode(&m, &one, &e) == 0);
        if (proto_header_decode(buf_data(&one), PROTO_FROM_GUEST, &h, &e) == 0)
            buf_append(&b, buf_data(&one), buf_len(&one));
    }
    emit("guest-messages", buf_data(&b), buf_len(&b));
    emit("host-start",
         (uint8_t[]){PROTO_TO_GUEST,
                     8,
                     0,
                     0,
                     0,
                     PROTO_START,
                     0,
                     0,
                     0,
                     1,
                     0,
                     0,
                     0,
                     0,
                     0,
                     0,
                     0,
                     0,
                     0,
                     0,
                     0},
         21);
}
