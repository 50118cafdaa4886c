/*
 * agent_exec.h - one container of one agent, and more processes in it.
 */
#ifndef TESTS_AGENT_EXEC_H
#define TESTS_AGENT_EXEC_H

#include "tests/unit/agent_rig.h"

static struct rig *rig;

static inline int start_rig(void **state)
{
    (void)state;
    rig = rig_start(NULL);
    return 0;
}

static inline int stop_rig(void **state)
{
    (void)state;
    rig_stop(rig);
    return 0;
}

/* A test that failed must not make the next ones fail. */
static inline int clean(void **state)
{
    (void)state;
    (void)rig_result(rig, rig_ask(rig, PROTO_DELETE, "web1"), NULL);
    for (size_t i = 0; i < rig->count; i++)
        proto_clear(&rig->messages[i]);
    rig->count = 0;
    rig->streams_open = 0;
    return 0;
}

/* There may be a LOG, where the machine forbids something to the agent. */
static inline void assert_nothing_more(void)
{
    for (size_t i = 0; i < rig->count; i++)
        if (rig->messages[i].type != PROTO_LOG)
            fail_msg("%s came, too", proto_type_name(rig->messages[i].type));
}

/* A container that stays, until finish(). */
static inline void begin(struct proto_create *create)
{
    char *id = xstrdup(create->container.id);
    struct err said = ERR_INIT;

    if (rig_result(rig, rig_send_create(rig, create), &said))
        fail_msg("CREATE: %s", said.text);
    if (rig_result(rig, rig_ask(rig, PROTO_START, id), &said))
        fail_msg("START: %s", said.text);
    free(id);
}

static inline void begin_usual(void)
{
    struct proto_create create = rig_create("web1", "exec sleep 600");

    begin(&create);
}

static inline void finish(void)
{
    uint32_t request = rig_ask(rig, PROTO_DELETE, "web1");

    (void)rig_wait_exit(rig, "web1");
    assert_int_equal(rig_result(rig, request, NULL), 0);
    assert_nothing_more();
}

/* Something to answer, so that the loop turns. */
static inline void turn(void)
{
    struct proto_message m =
        rig_take(rig, PROTO_PIDS_RESULT, rig_ask(rig, PROTO_PIDS, "web1"));

    proto_clear(&m);
    (void)usleep(10000);
}

/* Runs it to its end. */
static inline uint32_t run(struct proto_exec *exec, char *output, size_t size)
{
    _cleanup_free_ char *name = xstrdup(exec->exec);
    struct err said = ERR_INIT;
    unsigned others = rig->streams_open;
    uint32_t status;
    int out;

    exec->stdout_stream = rig->next_id * 4 + 1001;
    out = rig_collect(rig, exec->stdout_stream);
    if (rig_result(rig, rig_send_exec(rig, exec), &said))
        fail_msg("EXEC: %s", said.text);
    status = rig_wait_exit_of(rig, "web1", name);
    while (rig->streams_open > others)
        rig_turn(rig);
    rig_read(out, output, size);
    return status;
}

static inline uint32_t run_script(const char *script, char *output, size_t size)
{
    struct proto_exec exec = rig_exec("web1", "one", script);

    return run(&exec, output, size);
}

/* EXEC that must fail: no EXITED comes, and the streams end. */
static inline struct err refused(struct proto_exec *exec)
{
    struct err said = ERR_INIT;

    exec->stdout_stream = rig->next_id * 4 + 1001;
    exec->stdin_stream = exec->stdout_stream + 1;
    rig->streams_open++;
    (void)stream_add_source(rig->link, exec->stdin_stream,
                            memfd_create("in", MFD_CLOEXEC), rig_stream_done,
                            rig);
    (void)close(rig_collect(rig, exec->stdout_stream));
    if (rig_result(rig, rig_send_exec(rig, exec), &said) == 0)
        fail_msg("EXEC was not refused");
    rig_wait_streams(rig);
    assert_nothing_more();
    return said;
}

static inline void set_program(struct proto_exec *exec, const char *program)
{
    free(exec->process.args.v[0]);
    exec->process.args.v[0] = xstrdup(program);
}

#endif
