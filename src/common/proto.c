#include "domus/proto.h"

#include <endian.h>
#include <string.h>

#include "domus/mem.h"

#define TEXT_MAX    1024 /* of error messages and log lines */
#define NAME_MAX_OF 128  /* of versions and device names */
#define PIDS_MAX    4096
#define EXEC_ID_MAX SPEC_ID_MAX

static const struct wire_field hello_fields[] = {
    WIRE_FIELD(proto_hello, version, WIRE_U32),
    WIRE_FIELD(proto_hello, agent, WIRE_STRING, .max = NAME_MAX_OF),
    WIRE_FIELD(proto_hello, kernel, WIRE_STRING, .max = NAME_MAX_OF),
    WIRE_FIELD(proto_hello, uptime_ns, WIRE_U64),
};
static const struct wire_desc hello_desc = WIRE_DESC(proto_hello, hello_fields);

static const struct wire_field welcome_fields[] = {
    WIRE_FIELD(proto_welcome, version, WIRE_U32),
    WIRE_FIELD(proto_welcome, wall_clock_ns, WIRE_U64),
};
static const struct wire_desc welcome_desc =
    WIRE_DESC(proto_welcome, welcome_fields);

static const struct wire_field result_fields[] = {
    WIRE_FIELD(proto_result, code, WIRE_U32),
    WIRE_FIELD(proto_result, text, WIRE_STRING, .max = TEXT_MAX),
    WIRE_FIELD(proto_result, pid, WIRE_U32),
};
static const struct wire_desc result_desc =
    WIRE_DESC(proto_result, result_fields);

static const struct wire_field create_fields[] = {
    WIRE_FIELD(proto_create, container, WIRE_STRUCT,
               .desc = &spec_container_desc),
    WIRE_FIELD(proto_create, root_device, WIRE_STRING, .max = NAME_MAX_OF),
    WIRE_FIELD(proto_create, stdin_stream, WIRE_U32),
    WIRE_FIELD(proto_create, stdout_stream, WIRE_U32),
    WIRE_FIELD(proto_create, stderr_stream, WIRE_U32),
};
static const struct wire_desc create_desc =
    WIRE_DESC(proto_create, create_fields);

static const struct wire_field process_fields[] = {
    WIRE_FIELD(proto_process, container, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(proto_process, exec, WIRE_STRING, .max = EXEC_ID_MAX),
};
static const struct wire_desc process_desc =
    WIRE_DESC(proto_process, process_fields);

static const struct wire_field signal_fields[] = {
    WIRE_FIELD(proto_signal, container, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(proto_signal, exec, WIRE_STRING, .max = EXEC_ID_MAX),
    WIRE_FIELD(proto_signal, signal, WIRE_U32),
    WIRE_FIELD(proto_signal, all, WIRE_BOOL),
};
static const struct wire_desc signal_desc =
    WIRE_DESC(proto_signal, signal_fields);

static const struct wire_field exited_fields[] = {
    WIRE_FIELD(proto_exited, container, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(proto_exited, exec, WIRE_STRING, .max = EXEC_ID_MAX),
    WIRE_FIELD(proto_exited, status, WIRE_U32),
    WIRE_FIELD(proto_exited, wall_clock_ns, WIRE_U64),
};
static const struct wire_desc exited_desc =
    WIRE_DESC(proto_exited, exited_fields);

static const struct wire_field pid_fields[] = {
    WIRE_FIELD(proto_pid, pid, WIRE_U32),
    WIRE_FIELD(proto_pid, exec, WIRE_STRING, .max = EXEC_ID_MAX),
};
static const struct wire_desc pid_desc = WIRE_DESC(proto_pid, pid_fields);

static const struct wire_field pids_result_fields[] = {
    WIRE_FIELD(proto_pids_result, pids, WIRE_STRUCTS, .max = PIDS_MAX,
               .desc = &pid_desc),
};
static const struct wire_desc pids_result_desc =
    WIRE_DESC(proto_pids_result, pids_result_fields);

/* memory.stat is the largest file, at some 2 KB. */
static const struct wire_field stats_file_fields[] = {
    WIRE_FIELD(spec_setting, name, WIRE_STRING, .max = SPEC_NAME_MAX),
    WIRE_FIELD(spec_setting, value, WIRE_STRING, .max = PROTO_STATS_FILE_MAX),
};
static const struct wire_desc stats_file_desc = {
    .name = "stats_file",
    .size = sizeof(struct spec_setting),
    .fields = stats_file_fields,
    .field_count = ARRAY_SIZE(stats_file_fields),
};

static const struct wire_field stats_result_fields[] = {
    WIRE_FIELD(proto_stats_result, untrusted_files, WIRE_STRUCTS,
               .max = PROTO_STATS_FILES_MAX, .desc = &stats_file_desc),
};
static const struct wire_desc stats_result_desc =
    WIRE_DESC(proto_stats_result, stats_result_fields);

static const struct wire_field exec_fields[] = {
    WIRE_FIELD(proto_exec, container, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(proto_exec, exec, WIRE_STRING, .max = EXEC_ID_MAX),
    WIRE_FIELD(proto_exec, process, WIRE_STRUCT, .desc = &spec_process_desc),
    WIRE_FIELD(proto_exec, stdin_stream, WIRE_U32),
    WIRE_FIELD(proto_exec, stdout_stream, WIRE_U32),
    WIRE_FIELD(proto_exec, stderr_stream, WIRE_U32),
};
static const struct wire_desc exec_desc = WIRE_DESC(proto_exec, exec_fields);

static const struct wire_field resize_fields[] = {
    WIRE_FIELD(proto_resize, container, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(proto_resize, exec, WIRE_STRING, .max = EXEC_ID_MAX),
    WIRE_FIELD(proto_resize, width, WIRE_U32),
    WIRE_FIELD(proto_resize, height, WIRE_U32),
};
static const struct wire_desc resize_desc =
    WIRE_DESC(proto_resize, resize_fields);

static const struct wire_field update_fields[] = {
    WIRE_FIELD(proto_update, container, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(proto_update, cgroup, WIRE_STRUCTS, .max = SPEC_SETTINGS_MAX,
               .desc = &spec_setting_desc),
    WIRE_FIELD(proto_update, check_memory, WIRE_BOOL),
};
static const struct wire_desc update_desc =
    WIRE_DESC(proto_update, update_fields);

static const struct wire_field container_fields[] = {
    WIRE_FIELD(proto_container, container, WIRE_STRING, .max = SPEC_ID_MAX),
};
static const struct wire_desc container_desc =
    WIRE_DESC(proto_container, container_fields);

static const struct wire_field log_fields[] = {
    WIRE_FIELD(proto_log, level, WIRE_U32),
    WIRE_FIELD(proto_log, text, WIRE_STRING, .max = TEXT_MAX),
};
static const struct wire_desc log_desc = WIRE_DESC(proto_log, log_fields);

static const struct wire_field credit_fields[] = {
    WIRE_FIELD(proto_credit, bytes, WIRE_U32),
};
static const struct wire_desc credit_desc =
    WIRE_DESC(proto_credit, credit_fields);

/* An empty struct is no C, so POWEROFF has a table of no fields. */
static const struct wire_desc empty_desc = {.name = "proto_empty",
                                            .size = sizeof(union proto_body)};

#define HOST_SAYS  (1u << PROTO_TO_GUEST)
#define GUEST_SAYS (1u << PROTO_FROM_GUEST)
#define BOTH_SAY   (HOST_SAYS | GUEST_SAYS)

/* Who may say what. A type without a name does not exist. */
static const struct {
    const char *name;
    const struct wire_desc *desc;
    unsigned from;
} types[PROTO_TYPE_COUNT] = {
    [PROTO_HELLO] = {"HELLO", &hello_desc, GUEST_SAYS},
    [PROTO_WELCOME] = {"WELCOME", &welcome_desc, HOST_SAYS},
    [PROTO_RESULT] = {"RESULT", &result_desc, GUEST_SAYS},
    [PROTO_CREATE] = {"CREATE", &create_desc, HOST_SAYS},
    [PROTO_START] = {"START", &process_desc, HOST_SAYS},
    [PROTO_SIGNAL] = {"SIGNAL", &signal_desc, HOST_SAYS},
    [PROTO_EXITED] = {"EXITED", &exited_desc, GUEST_SAYS},
    [PROTO_PIDS] = {"PIDS", &process_desc, HOST_SAYS},
    [PROTO_PIDS_RESULT] = {"PIDS_RESULT", &pids_result_desc, GUEST_SAYS},
    [PROTO_STATS] = {"STATS", &process_desc, HOST_SAYS},
    [PROTO_STATS_RESULT] = {"STATS_RESULT", &stats_result_desc, GUEST_SAYS},
    [PROTO_DELETE] = {"DELETE", &process_desc, HOST_SAYS},
    [PROTO_POWEROFF] = {"POWEROFF", &empty_desc, HOST_SAYS},
    [PROTO_LOG] = {"LOG", &log_desc, GUEST_SAYS},
    [PROTO_DATA] = {"DATA", NULL, BOTH_SAY},
    [PROTO_CREDIT] = {"CREDIT", &credit_desc, BOTH_SAY},
    [PROTO_END] = {"END", NULL, BOTH_SAY},
    [PROTO_EXEC] = {"EXEC", &exec_desc, HOST_SAYS},
    [PROTO_RESIZE] = {"RESIZE", &resize_desc, HOST_SAYS},
    [PROTO_PAUSE] = {"PAUSE", &container_desc, HOST_SAYS},
    [PROTO_RESUME] = {"RESUME", &container_desc, HOST_SAYS},
    [PROTO_UPDATE] = {"UPDATE", &update_desc, HOST_SAYS},
    [PROTO_OOM] = {"OOM", &container_desc, GUEST_SAYS},
};

const char *proto_type_name(uint32_t type)
{
    if (type >= PROTO_TYPE_COUNT || !types[type].name)
        return "?";
    return types[type].name;
}

const struct wire_desc *proto_desc(enum proto_type type)
{
    return (unsigned)type < PROTO_TYPE_COUNT ? types[type].desc : NULL;
}

static uint32_t length_limit(uint32_t type, enum proto_direction direction)
{
    if (type == PROTO_DATA)
        return PROTO_DATA_MAX;
    if (type == PROTO_END)
        return 0;
    return direction == PROTO_TO_GUEST ? PROTO_TO_GUEST_MAX
                                       : PROTO_FROM_GUEST_MAX;
}

int proto_header_decode(const uint8_t untrusted_bytes[PROTO_HEADER_SIZE],
                        enum proto_direction direction,
                        struct proto_header *header_out, struct err *e)
{
    struct proto_header h;

    memcpy(&h.length, untrusted_bytes, 4);
    memcpy(&h.type, untrusted_bytes + 4, 2);
    memcpy(&h.flags, untrusted_bytes + 6, 2);
    memcpy(&h.id, untrusted_bytes + 8, 4);
    h.length = le32toh(h.length);
    h.type = le16toh(h.type);
    h.flags = le16toh(h.flags);
    h.id = le32toh(h.id);

    if (h.type >= PROTO_TYPE_COUNT || !types[h.type].name)
        return err_set(e, EBADMSG, "frame of unknown type %u", h.type);
    if (!(types[h.type].from & (1u << direction)))
        return err_set(e, EBADMSG, "frame %s from the wrong side",
                       types[h.type].name);
    if (h.flags != 0)
        return err_set(e, EBADMSG, "frame %s with unknown flags 0x%x",
                       types[h.type].name, h.flags);
    if (h.length > length_limit(h.type, direction))
        return err_set(e, EBADMSG, "frame %s of %u bytes, the limit is %u",
                       types[h.type].name, h.length,
                       length_limit(h.type, direction));
    *header_out = h;
    return 0;
}

static void put_header(uint8_t *at, uint32_t length, uint32_t type, uint32_t id)
{
    uint32_t le_length = htole32(length), le_id = htole32(id);
    uint16_t le_type = htole16((uint16_t)type);

    memcpy(at, &le_length, 4);
    memcpy(at + 4, &le_type, 2);
    memset(at + 6, 0, 2);
    memcpy(at + 8, &le_id, 4);
}

int proto_encode(const struct proto_message *message, struct buf *out,
                 struct err *e)
{
    _cleanup_buf_ struct buf payload = BUF_INIT;
    const struct wire_desc *desc = proto_desc(message->type);
    enum proto_direction direction;
    uint32_t limit;
    int r;

    if ((unsigned)message->type >= PROTO_TYPE_COUNT ||
        !types[message->type].name || message->type == PROTO_DATA)
        return err_set(e, EINVAL, "no such message: %d", (int)message->type);
    if (desc) {
        r = wire_encode(desc, &message->body, &payload, e);
        if (r < 0)
            return r;
    }
    direction = types[message->type].from & GUEST_SAYS ? PROTO_FROM_GUEST
                                                       : PROTO_TO_GUEST;
    limit = length_limit(message->type, direction);
    if (buf_len(&payload) > limit)
        return err_set(e, EMSGSIZE, "%s takes %zu bytes, the limit is %u",
                       types[message->type].name, buf_len(&payload), limit);
    put_header(buf_reserve(out, PROTO_HEADER_SIZE), (uint32_t)buf_len(&payload),
               message->type, message->id);
    buf_commit(out, PROTO_HEADER_SIZE);
    buf_append(out, buf_data(&payload), buf_len(&payload));
    return 0;
}

void proto_encode_data(uint32_t stream, const void *bytes, size_t n,
                       struct buf *out)
{
    put_header(buf_reserve(out, PROTO_HEADER_SIZE), (uint32_t)n, PROTO_DATA,
               stream);
    buf_commit(out, PROTO_HEADER_SIZE);
    buf_append(out, bytes, n);
}

int proto_decode(const struct proto_header *header,
                 const uint8_t *untrusted_payload,
                 struct proto_message *message_out, struct err *e)
{
    const struct wire_desc *desc = proto_desc(header->type);
    struct proto_message message;
    int r;

    memset(&message, 0, sizeof(message));
    message.type = header->type;
    message.id = header->id;
    if (desc) {
        r = wire_decode(desc, untrusted_payload, header->length, &message.body,
                        e);
        if (r < 0)
            return err_wrap(e, "frame %s", types[header->type].name);
    }
    *message_out = message;
    return 0;
}

void proto_clear(struct proto_message *message)
{
    const struct wire_desc *desc = proto_desc(message->type);

    if (desc)
        wire_clear(desc, &message->body);
    memset(&message->body, 0, sizeof(message->body));
}
