#include "domus/job.h"

#define TEXT_MAX     4096
#define WORD_MAX     128
#define PATH_LONGEST 4095

static const struct wire_field result_fields[] = {
    WIRE_FIELD(job_result, code, WIRE_U32),
    WIRE_FIELD(job_result, text, WIRE_STRING, .max = TEXT_MAX),
};
static const struct wire_desc result_desc =
    WIRE_DESC(job_result, result_fields);

static const struct wire_field host_result_fields[] = {
    WIRE_FIELD(job_host_result, xen_version, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_host_result, command_line, WIRE_STRING, .max = TEXT_MAX),
    WIRE_FIELD(job_host_result, has_hap, WIRE_BOOL),
    WIRE_FIELD(job_host_result, free_kb, WIRE_U64),
    WIRE_FIELD(job_host_result, total_kb, WIRE_U64),
};
static const struct wire_desc host_result_desc =
    WIRE_DESC(job_host_result, host_result_fields);

static const struct wire_field build_fields[] = {
    WIRE_FIELD(job_build, name, WIRE_STRING, .max = 255),
    WIRE_FIELD(job_build, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_build, pvh, WIRE_BOOL),
    WIRE_FIELD(job_build, kernel, WIRE_STRING, .max = PATH_LONGEST),
    WIRE_FIELD(job_build, initramfs, WIRE_STRING, .max = PATH_LONGEST),
    WIRE_FIELD(job_build, command_line, WIRE_STRING, .max = 1024),
    WIRE_FIELD(job_build, memory_kb, WIRE_U64),
    WIRE_FIELD(job_build, vcpus, WIRE_U32),
    WIRE_FIELD(job_build, cpu_weight, WIRE_U32),
    WIRE_FIELD(job_build, cpu_cap, WIRE_U32),
};
static const struct wire_desc build_desc = WIRE_DESC(job_build, build_fields);

static const struct wire_field built_fields[] = {
    WIRE_FIELD(job_built, domid, WIRE_U32),
    WIRE_FIELD(job_built, console, WIRE_STRING, .max = PATH_LONGEST),
};
static const struct wire_desc built_desc = WIRE_DESC(job_built, built_fields);

static const struct wire_field vbd_fields[] = {
    WIRE_FIELD(job_vbd, name, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_vbd, major, WIRE_U32),
    WIRE_FIELD(job_vbd, minor, WIRE_U32),
    WIRE_FIELD(job_vbd, writable, WIRE_BOOL),
    WIRE_FIELD(job_vbd, path, WIRE_STRING, .max = PATH_LONGEST),
};
static const struct wire_desc vbd_desc = WIRE_DESC(job_vbd, vbd_fields);

static const struct wire_field start_fields[] = {
    WIRE_FIELD(job_start, domid, WIRE_U32),
    WIRE_FIELD(job_start, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_start, vbds, WIRE_STRUCTS, .max = JOB_VBDS_MAX,
               .desc = &vbd_desc),
};
static const struct wire_desc start_desc = WIRE_DESC(job_start, start_fields);

static const struct wire_field domain_fields[] = {
    WIRE_FIELD(job_domain, domid, WIRE_U32),
    WIRE_FIELD(job_domain, uuid, WIRE_STRING, .max = WORD_MAX),
};
static const struct wire_desc domain_desc =
    WIRE_DESC(job_domain, domain_fields);

static const struct wire_field sched_fields[] = {
    WIRE_FIELD(job_sched, domid, WIRE_U32),
    WIRE_FIELD(job_sched, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_sched, cpu_weight, WIRE_U32),
    WIRE_FIELD(job_sched, has_cpu_cap, WIRE_BOOL),
    WIRE_FIELD(job_sched, cpu_cap, WIRE_U32),
};
static const struct wire_desc sched_desc = WIRE_DESC(job_sched, sched_fields);

static const struct wire_field listed_fields[] = {
    WIRE_FIELD(job_listed, domid, WIRE_U32),
    WIRE_FIELD(job_listed, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_listed, console, WIRE_STRING, .max = PATH_LONGEST),
    WIRE_FIELD(job_listed, dying, WIRE_BOOL),
    WIRE_FIELD(job_listed, shut_down, WIRE_BOOL),
    WIRE_FIELD(job_listed, paused, WIRE_BOOL),
    WIRE_FIELD(job_listed, reason, WIRE_STRING, .max = WORD_MAX),
};
static const struct wire_desc listed_desc =
    WIRE_DESC(job_listed, listed_fields);

static const struct wire_field list_result_fields[] = {
    WIRE_FIELD(job_list_result, domains, WIRE_STRUCTS, .max = JOB_DOMAINS_MAX,
               .desc = &listed_desc),
};
static const struct wire_desc list_result_desc =
    WIRE_DESC(job_list_result, list_result_fields);

static const struct wire_field channel_fields[] = {
    WIRE_FIELD(job_channel, domid, WIRE_U32),
    WIRE_FIELD(job_channel, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_channel, channel, WIRE_STRING, .max = 256),
};
static const struct wire_desc channel_desc =
    WIRE_DESC(job_channel, channel_fields);

static const struct wire_field died_fields[] = {
    WIRE_FIELD(job_died, domid, WIRE_U32),
    WIRE_FIELD(job_died, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(job_died, reason, WIRE_STRING, .max = WORD_MAX),
};
static const struct wire_desc died_desc = WIRE_DESC(job_died, died_fields);

static const struct packet_type types[JOB_TYPE_COUNT] = {
    [JOB_RESULT] = {"RESULT", &result_desc, 0},
    [JOB_HOST] = {"HOST", NULL, 0},
    [JOB_HOST_RESULT] = {"HOST_RESULT", &host_result_desc, 0},
    [JOB_BUILD] = {"BUILD", &build_desc, 0},
    [JOB_BUILT] = {"BUILT", &built_desc, 0},
    [JOB_START] = {"START", &start_desc, 0},
    [JOB_DESTROY] = {"DESTROY", &domain_desc, 0},
    [JOB_LIST] = {"LIST", NULL, 0},
    [JOB_LIST_RESULT] = {"LIST_RESULT", &list_result_desc, 0},
    [JOB_PAUSE] = {"PAUSE", &domain_desc, 0},
    [JOB_RESUME] = {"RESUME", &domain_desc, 0},
    [JOB_SCHED] = {"SCHED", &sched_desc, 0},
    [JOB_WATCH] = {"WATCH", &domain_desc, 0},
    [JOB_UNWATCH] = {"UNWATCH", &domain_desc, 0},
    [JOB_CHANNEL] = {"CHANNEL", &channel_desc, 0},
    [JOB_DIED] = {"DIED", &died_desc, 0},
};

const struct packet_protocol job_protocol = {
    .name = "builder",
    .version = JOB_VERSION,
    .type_count = JOB_TYPE_COUNT,
    .types = types,
    .body_size = sizeof(union job_body),
};
