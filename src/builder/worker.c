#include "worker.h"

#include "domain.h"
#include "domus/log.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "xl.h"

/* Writes the type and the body of the answer; -errno for an error RESULT. */
static int job_do(struct xl *xl, const struct packet *job, uint16_t *type_out,
                  union job_body *body_out, struct err *e)
{
    const union job_body *in = job->body;

    switch ((enum job_type)job->type) {
    case JOB_HOST:
        *type_out = JOB_HOST_RESULT;
        return xl_host(xl, &body_out->host_result, e);
    case JOB_BUILD:
        *type_out = JOB_BUILT;
        return domain_build(xl, &in->build, &body_out->built, e);
    case JOB_START:
        *type_out = JOB_RESULT;
        return domain_start(xl, &in->start, e);
    case JOB_DESTROY:
        *type_out = JOB_RESULT;
        return domain_destroy(xl, &in->domain, e);
    case JOB_LIST:
        *type_out = JOB_LIST_RESULT;
        return domain_list(xl, &body_out->list_result, e);
    case JOB_PAUSE:
        *type_out = JOB_RESULT;
        return domain_pause(xl, &in->domain, e);
    case JOB_RESUME:
        *type_out = JOB_RESULT;
        return domain_resume(xl, &in->domain, e);
    case JOB_SCHED:
        *type_out = JOB_RESULT;
        return domain_sched(xl, &in->sched, e);
    case JOB_RESULT:
    case JOB_HOST_RESULT:
    case JOB_BUILT:
    case JOB_LIST_RESULT:
    case JOB_WATCH:
    case JOB_UNWATCH:
    case JOB_CHANNEL:
    case JOB_DIED:
    case JOB_TYPE_COUNT:
        break;
    }
    return err_set(e, EOPNOTSUPP, "a worker does no %s",
                   job_protocol.types[job->type].name);
}

static int answer(int fd, struct xl *xl, const struct packet *job,
                  struct err *e)
{
    uint64_t begin = loop_now_ns();
    union job_body body = {0};
    struct err failure = ERR_INIT;
    uint16_t type = JOB_RESULT;
    int r;

    r = xl_open(xl, &failure);
    if (r == 0)
        r = job_do(xl, job, &type, &body, &failure);
    log_debug("job %s took %llu us", job_protocol.types[job->type].name,
              (unsigned long long)(loop_now_ns() - begin) / 1000);
    if (r == 0 && type == JOB_RESULT)
        body.result.text = xstrdup("");
    if (r == 0) {
        r = packet_send(fd, &job_protocol, type, job->id, &body, &failure);
        wire_clear(job_protocol.types[type].desc, &body);
        if (r == 0)
            return 0;
        if (r == -EPIPE)
            return err_set(e, EPIPE, "%s", failure.text);
    }
    body = (union job_body){0};
    body.result.code = (uint32_t)failure.code;
    body.result.text = failure.text;
    return packet_send(fd, &job_protocol, JOB_RESULT, job->id, &body, e);
}

int worker_run(int fd, struct err *e)
{
    struct xl xl;
    int r;

    xl_init(&xl);
    do {
        struct packet job;

        r = packet_receive(fd, &job_protocol, &job, e);
        if (r < 0)
            break;
        r = answer(fd, &xl, &job, e);
        packet_clear(&job_protocol, &job);
    } while (r == 0);
    xl_close(&xl);
    return r == -EPIPE ? 0 : r;
}
