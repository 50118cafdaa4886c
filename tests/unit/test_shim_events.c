/* The queue of events while containerd is away: bounded, in order, and no exit
 * is lost. */
#include "unit.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "domus/mem.h"
#include "events.pb-c.h"
#include "forward.pb-c.h"
#include "shim/events.h"
#include "shim/ttrpc.h"
#include "ttrpc.pb-c.h"

#define FLOOD  3000
#define EVERY  10 /* one of so many is an exit */
#define LIMIT  1100
#define END_MS 20000

struct server {
    struct loop *loop;
    struct events *events;
    int fd;
    int peer;
    struct loop_fd *source;
    struct ttrpc_reader reader;
    uint32_t exits[FLOOD];
    size_t exit_count;
    size_t count;
    struct loop_timer *deadline;
};

static void late(void *context)
{
    struct server *s = context;

    s->deadline = NULL;
    loop_stop(s->loop);
}

static void take(struct server *s, const struct ttrpc_frame *frame)
{
    Ttrpc__Request *request = (Ttrpc__Request *)ttrpc_unpack(
        &ttrpc__request__descriptor, frame->payload, frame->length);
    _cleanup_buf_ struct buf answer = BUF_INIT;
    Forward__Request *forward;

    assert_non_null(request);
    forward = forward__request__unpack(NULL, request->payload.len,
                                       request->payload.data);
    assert_non_null(forward);
    if (strcmp(forward->envelope->topic, "/tasks/exit") == 0) {
        Containerd__Events__TaskExit *e = containerd__events__task_exit__unpack(
            NULL, forward->envelope->event->value.len,
            forward->envelope->event->value.data);

        assert_non_null(e);
        s->exits[s->exit_count++] = e->exit_status;
        containerd__events__task_exit__free_unpacked(e, NULL);
    }
    s->count++;
    forward__request__free_unpacked(forward, NULL);
    protobuf_c_message_free_unpacked(&request->base, NULL);
    ttrpc_put_reply(&answer, frame->stream, NULL);
    assert_int_equal(send(s->peer, buf_data(&answer), buf_len(&answer), 0),
                     buf_len(&answer));
}

static void check_end(void *context)
{
    struct server *s = context;

    if (events_flushed(s->events))
        loop_stop(s->loop);
    else
        (void)loop_add_timer(s->loop, 5, check_end, s);
}

static void came(void *context, short revents)
{
    struct server *s = context;
    struct ttrpc_frame frame;
    ssize_t n =
        recv(s->peer, ttrpc_reader_room(&s->reader, 4096), 4096, MSG_DONTWAIT);

    (void)revents;
    if (n <= 0)
        return;
    ttrpc_reader_took(&s->reader, (size_t)n);
    while (ttrpc_reader_next(&s->reader, &frame))
        take(s, &frame);
}

static void connected(void *context, short revents)
{
    struct server *s = context;

    (void)revents;
    s->peer = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(s->peer >= 0);
    loop_remove_fd(&s->source);
    s->source = loop_add_fd(s->loop, s->peer, POLLIN, came, s);
}

static void publish(struct events *events, uint32_t i)
{
    Containerd__Events__TaskExit end = CONTAINERD__EVENTS__TASK_EXIT__INIT;
    Containerd__Events__TaskOOM oom = CONTAINERD__EVENTS__TASK_OOM__INIT;

    end.container_id = (char *)"c";
    end.exit_status = i;
    oom.container_id = (char *)"c";
    if (i % EVERY == 0)
        events_publish(events, "/tasks/exit", &end.base);
    else
        events_publish(events, "/tasks/oom", &oom.base);
}

static void test_a_flood_while_containerd_is_away(void **state)
{
    struct server s = {.loop = loop_new(), .fd = -1, .peer = -1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct err e = ERR_INIT;

    (void)state;
    (void)snprintf(address.sun_path, sizeof(address.sun_path),
                   "/tmp/domus-events-%d", (int)getpid());
    s.events = events_new(s.loop, address.sun_path, "test");
    for (uint32_t i = 0; i < FLOOD; i++)
        publish(s.events, i);
    assert_false(events_flushed(s.events));
    s.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s.fd, (struct sockaddr *)&address, sizeof(address)),
                     0);
    assert_int_equal(listen(s.fd, 1), 0);
    s.source = loop_add_fd(s.loop, s.fd, POLLIN, connected, &s);
    s.deadline = loop_add_timer(s.loop, END_MS, late, &s);
    (void)loop_add_timer(s.loop, 5, check_end, &s);
    assert_ok(loop_run(s.loop, &e), e);
    assert_true(events_flushed(s.events));
    assert_true(s.count <= LIMIT);
    assert_int_equal(s.exit_count, FLOOD / EVERY);
    for (uint32_t i = 0; i < s.exit_count; i++)
        assert_int_equal(s.exits[i], i * EVERY);
    events_free(&s.events);
    loop_remove_timer(&s.deadline);
    loop_remove_fd(&s.source);
    ttrpc_reader_clear(&s.reader);
    close(s.peer);
    close(s.fd);
    (void)unlink(address.sun_path);
    loop_free(s.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flood_while_containerd_is_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
