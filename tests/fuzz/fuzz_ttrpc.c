/*
 * What arrives at the shim's socket: frames cut anywhere, requests, and the
 * messages of every call. One byte says in which pieces the rest comes.
 *
 * archive: shim
 */
#include <stdio.h>
#include <string.h>

#include "domus/mem.h"
#include "shim/ttrpc.h"
#include "task.pb-c.h"
#include "tests/fuzz/fuzz.h"
#include "ttrpc.pb-c.h"

static const ProtobufCMessageDescriptor *const requests[] = {
    &task__create_request__descriptor, &task__process_request__descriptor,
    &task__task_request__descriptor,   &task__shutdown_request__descriptor,
    &task__kill_request__descriptor,   &task__close_iorequest__descriptor,
};

static void take_request(const struct ttrpc_frame *frame)
{
    ProtobufCMessage *message = ttrpc_unpack(&ttrpc__request__descriptor,
                                             frame->payload, frame->length);
    const Ttrpc__Request *request = (const Ttrpc__Request *)message;

    if (!message)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        ProtobufCMessage *inner = ttrpc_unpack(
            requests[i], request->payload.data, request->payload.len);

        if (inner)
            protobuf_c_message_free_unpacked(inner, NULL);
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ttrpc_reader reader;
    struct ttrpc_frame frame;
    size_t step;

    if (size < 1)
        return 0;
    memset(&reader, 0, sizeof(reader));
    step = data[0] ? data[0] : size;
    for (size_t at = 1; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;

        memcpy(ttrpc_reader_room(&reader, n), data + at, n);
        ttrpc_reader_took(&reader, n);
        while (ttrpc_reader_next(&reader, &frame)) {
            FUZZ_CHECK(frame.oversized || frame.length <= TTRPC_PAYLOAD_MAX);
            if (!frame.oversized)
                take_request(&frame);
        }
        /* It holds no more than came. */
        FUZZ_CHECK(buf_len(&reader.received) <= size);
    }
    ttrpc_reader_clear(&reader);
    return 0;
}

static void seed(fuzz_emit_fn *emit, const char *name, const char *method,
                 const ProtobufCMessage *inner)
{
    Ttrpc__Request request = TTRPC__REQUEST__INIT;
    _cleanup_buf_ struct buf b = BUF_INIT;
    _cleanup_free_ uint8_t *payload =
        xmalloc(protobuf_c_message_get_packed_size(inner));

    request.service = (char *)"containerd.task.v2.Task";
    request.method = (char *)method;
    request.payload.len = protobuf_c_message_pack(inner, payload);
    request.payload.data = payload;
    buf_append(&b, (uint8_t[]){7}, 1);
    ttrpc_put_message(&b, 1, TTRPC_REQUEST, &request.base);
    emit(name, buf_data(&b), buf_len(&b));
}

void fuzz_seeds(fuzz_emit_fn *emit)
{
    Task__CreateRequest create = TASK__CREATE_REQUEST__INIT;
    Task__Mount mount = TASK__MOUNT__INIT;
    Task__Mount *mounts[] = {&mount, &mount};
    char *options[] = {(char *)"lowerdir=/a:/b", (char *)"index=off"};
    Task__KillRequest kill_request = TASK__KILL_REQUEST__INIT;

    mount.type = mount.source = (char *)"overlay";
    mount.options = options;
    mount.n_options = 2;
    create.id = (char *)"web1";
    create.bundle = (char *)"/run/containerd/bundle";
    create.rootfs = mounts;
    create.n_rootfs = 2;
    create.stdout = (char *)"/run/containerd/fifo/1-stdout";
    seed(emit, "create", "Create", &create.base);
    kill_request.id = (char *)"web1";
    kill_request.signal = 9;
    seed(emit, "kill", "Kill", &kill_request.base);
    emit("oversize", "\0\0\x40\0\x01\0\0\0\x01\x01\x01rest of it", 21);
}
