/*
 * agent_rig.h - the real domus-init as PID 1 of namespaces of its own, over a
 * socket, with an EROFS image on a loop device for its root device. Needs root
 * and busybox-static.
 */
#ifndef TESTS_AGENT_RIG_H
#define TESTS_AGENT_RIG_H

#include "tests/unit/unit.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/link.h"
#include "domus/mem.h"

#define RIG_DEADLINE_MS 20000
#define RIG_MESSAGES    512

struct rig {
    char directory[64];
    char image[96];
    char device[32];
    char cgroup[96];
    pid_t agent;
    struct loop *loop;
    struct link *link;
    struct proto_message messages[RIG_MESSAGES]; /* owned */
    size_t count;
    uint32_t next_id;
    unsigned streams_open;
    bool closed;
    bool late;
};

/* Runs a program to its end; its standard output into text when wanted. */
static inline int rig_command(const char *const argv[], char *text, size_t size)
{
    int ends[2], status;
    pid_t pid;

    if (text)
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (text)
            (void)dup2(ends[1], STDOUT_FILENO);
        else
            (void)dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        (void)execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    if (text) {
        ssize_t n, at = 0;

        (void)close(ends[1]);
        while ((n = read(ends[0], text + at, size - 1 - (size_t)at)) > 0)
            at += n;
        text[at] = '\0';
        text[strcspn(text, "\n")] = '\0';
        (void)close(ends[0]);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define rig_must(...) \
    assert_int_equal( \
        rig_command((const char *const[]){__VA_ARGS__, NULL}, NULL, 0), 0)

/* A directory with busybox in it; fill may add to it. */
static inline void rig_make_image(struct rig *rig, void (*fill)(const char *))
{
    static const char script[] =
        "set -e; mkdir -p \"$1/bin\" \"$1/etc\" \"$1/tmp\" \"$1/home\"\n"
        "cp /bin/busybox \"$1/bin/busybox\"\n"
        "for a in $(/bin/busybox --list); do\n"
        "  ln -s busybox \"$1/bin/$a\" 2>/dev/null || true; done\n"
        "echo root:x:0:0:root:/root:/bin/sh >\"$1/etc/passwd\"\n"
        "echo web:x:1000:1000::/home/web:/bin/sh >>\"$1/etc/passwd\"\n"
        "chmod 1777 \"$1/tmp\"\n";
    char tree[96];

    (void)snprintf(tree, sizeof(tree), "%s/tree", rig->directory);
    (void)snprintf(rig->image, sizeof(rig->image), "%s/image", rig->directory);
    assert_int_equal(mkdir(tree, 0755), 0);
    rig_must("sh", "-c", script, "sh", tree);
    if (fill)
        fill(tree);
    rig_must("mkfs.erofs", "--quiet", rig->image, tree);
}

static inline const char *rig_cgroup_root(void)
{
    return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0
               ? "/sys/fs/cgroup"
               : "/sys/fs/cgroup/unified";
}

/* build/rel/tests/unit/X and build/rel/guest/domus-init belong together. */
static inline void rig_agent_path(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 32);

    assert_true(n > 0);
    path[n] = '\0';
    for (int i = 0; i < 3; i++)
        *strrchr(path, '/') = '\0';
    (void)snprintf(path + strlen(path), 32, "/guest/domus-init");
}

static inline void rig_spawn_agent(struct rig *rig, const char *socket_path)
{
    struct clone_args args = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,
        .exit_signal = SIGCHLD,
    };
    char agent[PATH_MAX], channel[128], device[64];
    long pid;

    rig_agent_path(agent, sizeof(agent));
    (void)snprintf(channel, sizeof(channel), "unix:%s", socket_path);
    (void)snprintf(device, sizeof(device), "xvda=%s", rig->device);
    pid = syscall(SYS_clone3, &args, sizeof(args));
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl(agent, agent, "--channel", channel, "--device", device,
                    "--cgroup", rig->cgroup, NULL);
        _exit(127);
    }
    rig->agent = (pid_t)pid;
}

static inline int rig_connect(const struct rig *rig, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    for (int i = 0; i < RIG_DEADLINE_MS / 10; i++) {
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
            return fd;
        if (waitpid(rig->agent, NULL, WNOHANG) != 0)
            fail_msg("the agent ended before it listened at %s", path);
        (void)usleep(10000);
    }
    fail_msg("cannot connect to the agent at %s", path);
    return -1;
}

static inline int rig_message(void *context, struct proto_message *message,
                              struct err *e)
{
    struct rig *rig = context;

    (void)e;
    assert_true(rig->count < RIG_MESSAGES);
    rig->messages[rig->count++] = *message;
    memset(&message->body, 0, sizeof(message->body));
    loop_stop(rig->loop);
    return 0;
}

static inline void rig_closed(void *context, const struct err *why)
{
    struct rig *rig = context;

    (void)why;
    rig->closed = true;
    loop_stop(rig->loop);
}

static inline void rig_too_late(void *context)
{
    struct rig *rig = context;

    rig->late = true;
    loop_stop(rig->loop);
}

/* One turn of the loop that brought something. */
static inline void rig_turn(struct rig *rig)
{
    struct err e = ERR_INIT;
    struct loop_timer *timer =
        loop_add_timer(rig->loop, RIG_DEADLINE_MS, rig_too_late, rig);

    rig->late = false;
    assert_ok(loop_run(rig->loop, &e), e);
    if (rig->late)
        fail_msg("the agent says nothing");
    loop_remove_timer(&timer);
}

/* Waits for a message and takes it out; the caller clears it. */
static inline struct proto_message rig_take(struct rig *rig,
                                            enum proto_type type, uint32_t id)
{
    for (;;) {
        for (size_t i = 0; i < rig->count; i++) {
            struct proto_message found = rig->messages[i];

            if (found.type != type || found.id != id)
                continue;
            rig->count--;
            memmove(rig->messages + i, rig->messages + i + 1,
                    (rig->count - i) * sizeof(rig->messages[0]));
            return found;
        }
        if (rig->closed)
            fail_msg("the agent is gone; %s was waited for",
                     proto_type_name(type));
        rig_turn(rig);
    }
}

static inline uint32_t rig_send(struct rig *rig, struct proto_message *message)
{
    struct err e = ERR_INIT;

    message->id = ++rig->next_id;
    assert_ok(link_send(rig->link, message, &e), e);
    return message->id;
}

/* The code of the answer; its text when wanted. */
static inline int rig_result(struct rig *rig, uint32_t id, struct err *said)
{
    struct proto_message m = rig_take(rig, PROTO_RESULT, id);
    int code = (int)m.body.result.code;

    if (said)
        (void)err_set(said, code, "%s", m.body.result.text);
    proto_clear(&m);
    return code;
}

static inline struct rig *rig_start(void (*fill)(const char *))
{
    static const struct link_handler handler = {.message = rig_message,
                                                .closed = rig_closed};
    struct rig *rig = xcalloc(1, sizeof(*rig));
    struct proto_message m = {.type = PROTO_WELCOME};
    struct proto_message hello;
    char path[96];

    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(rig->directory, sizeof(rig->directory),
                   "/tmp/domus-agent-XXXXXX");
    assert_non_null(mkdtemp(rig->directory));
    (void)snprintf(rig->cgroup, sizeof(rig->cgroup), "%s/%s", rig_cgroup_root(),
                   strrchr(rig->directory, '/') + 1);
    assert_int_equal(mkdir(rig->cgroup, 0755), 0);
    rig_make_image(rig, fill);
    assert_int_equal(
        rig_command((const char *const[]){"losetup", "--find", "--show",
                                          "--read-only", rig->image, NULL},
                    rig->device, sizeof(rig->device)),
        0);
    (void)snprintf(path, sizeof(path), "%s/socket", rig->directory);
    rig_spawn_agent(rig, path);
    rig->loop = loop_new();
    rig->link = link_new(rig->loop, chan_from_socket(rig_connect(rig, path)),
                         PROTO_FROM_GUEST, &handler, rig);
    hello = rig_take(rig, PROTO_HELLO, 0);
    assert_int_equal(hello.body.hello.version, PROTO_VERSION);
    assert_string_equal(hello.body.hello.agent, DOMUS_VERSION);
    proto_clear(&hello);
    m.body.welcome.version = PROTO_VERSION;
    (void)rig_send(rig, &m);
    return rig;
}

/* Nothing may be left: the agent ends when its channel closes. */
static inline void rig_stop(struct rig *rig)
{
    int status;

    link_free(&rig->link);
    assert_int_equal(waitpid(rig->agent, &status, 0), rig->agent);
    for (size_t i = 0; i < rig->count; i++)
        proto_clear(&rig->messages[i]);
    loop_free(rig->loop);
    rig_must("losetup", "--detach", rig->device);
    rig_must("find", rig->cgroup, "-depth", "-type", "d", "-exec", "rmdir",
             "{}", ";");
    rig_must("rm", "-rf", rig->directory);
    free(rig);
}

/* --- containers --- */

static inline void rig_add_mount(struct spec_container *c, const char *type,
                                 const char *source, const char *destination,
                                 uint64_t flags, const char *data)
{
    struct spec_mount_list *l = &c->mounts;

    l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
    l->v[l->n++] = (struct spec_mount){
        .destination = xstrdup(destination),
        .type = xstrdup(type),
        .source = xstrdup(source),
        .flags = flags,
        .data = xstrdup(data),
    };
}

/* As containerd's default specification has it; args are a shell script. */
static inline struct proto_create rig_create(const char *id, const char *script)
{
    const uint64_t safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    struct proto_create create;
    struct spec_container *c = &create.container;

    memset(&create, 0, sizeof(create));
    create.root_device = xstrdup("xvda");
    c->id = xstrdup(id);
    c->hostname = xstrdup("house");
    c->domainname = xstrdup("");
    c->namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
                    CLONE_NEWCGROUP | CLONE_NEWNET;
    rig_add_mount(c, "proc", "proc", "/proc", safe, "");
    rig_add_mount(c, "tmpfs", "tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME,
                  "mode=755,size=65536k");
    rig_add_mount(c, "devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                  "newinstance,ptmxmode=0666,mode=0620,gid=5");
    rig_add_mount(c, "tmpfs", "shm", "/dev/shm", safe, "mode=1777,size=65536k");
    rig_add_mount(c, "mqueue", "mqueue", "/dev/mqueue", safe, "");
    rig_add_mount(c, "sysfs", "sysfs", "/sys", safe | MS_RDONLY, "");
    rig_add_mount(c, "tmpfs", "tmpfs", "/run", MS_NOSUID | MS_STRICTATIME,
                  "mode=755,size=65536k");
    string_list_add(&c->masked_paths, "/proc/kcore");
    string_list_add(&c->masked_paths, "/proc/keys");
    string_list_add(&c->masked_paths, "/proc/scsi");
    string_list_add(&c->masked_paths, "/sys/firmware");
    string_list_add(&c->readonly_paths, "/proc/sys");
    string_list_add(&c->readonly_paths, "/proc/sysrq-trigger");
    string_list_add(&c->process.args, "/bin/sh");
    string_list_add(&c->process.args, "-c");
    string_list_add(&c->process.args, script);
    string_list_add(&c->process.env, "PATH=/usr/bin:/bin");
    c->process.cwd = xstrdup("/");
    return create;
}

/* Sends CREATE and frees it. */
static inline uint32_t rig_send_create(struct rig *rig,
                                       struct proto_create *create)
{
    struct proto_message m = {.type = PROTO_CREATE};
    uint32_t id;

    m.body.create = *create;
    id = rig_send(rig, &m);
    proto_clear(&m);
    return id;
}

/* START, PIDS, STATS and DELETE look the same. */
static inline uint32_t rig_ask(struct rig *rig, enum proto_type type,
                               const char *id)
{
    struct proto_message m = {.type = type};

    m.body.process.container = (char *)id;
    m.body.process.exec = (char *)"";
    return rig_send(rig, &m);
}

static inline uint32_t rig_signal(struct rig *rig, const char *id, int number,
                                  bool all)
{
    struct proto_message m = {.type = PROTO_SIGNAL};

    m.body.signal = (struct proto_signal){.container = (char *)id,
                                          .exec = (char *)"",
                                          .signal = (uint32_t)number,
                                          .all = all};
    return rig_send(rig, &m);
}

/* --- execs --- */

static inline struct proto_exec rig_exec(const char *id, const char *name,
                                         const char *script)
{
    struct proto_exec exec;
    struct spec_process *p = &exec.process;

    memset(&exec, 0, sizeof(exec));
    exec.container = xstrdup(id);
    exec.exec = xstrdup(name);
    string_list_add(&p->args, "/bin/sh");
    string_list_add(&p->args, "-c");
    string_list_add(&p->args, script);
    string_list_add(&p->env, "PATH=/usr/bin:/bin");
    p->cwd = xstrdup("/");
    return exec;
}

/* Sends EXEC and frees it. */
static inline uint32_t rig_send_exec(struct rig *rig, struct proto_exec *exec)
{
    struct proto_message m = {.type = PROTO_EXEC};
    uint32_t id;

    m.body.exec = *exec;
    id = rig_send(rig, &m);
    proto_clear(&m);
    return id;
}

static inline uint32_t rig_signal_exec(struct rig *rig, const char *id,
                                       const char *name, int number)
{
    struct proto_message m = {.type = PROTO_SIGNAL};

    m.body.signal = (struct proto_signal){.container = (char *)id,
                                          .exec = (char *)name,
                                          .signal = (uint32_t)number};
    return rig_send(rig, &m);
}

static inline uint32_t rig_resize(struct rig *rig, const char *id,
                                  const char *name, uint32_t width,
                                  uint32_t height)
{
    struct proto_message m = {.type = PROTO_RESIZE};

    m.body.resize = (struct proto_resize){.container = (char *)id,
                                          .exec = (char *)name,
                                          .width = width,
                                          .height = height};
    return rig_send(rig, &m);
}

/* PAUSE or RESUME. */
static inline uint32_t rig_freeze(struct rig *rig, enum proto_type type,
                                  const char *id)
{
    struct proto_message m = {.type = type};

    m.body.container.container = (char *)id;
    return rig_send(rig, &m);
}

/* The next EXITED must be of this process. */
static inline uint32_t rig_wait_exit_of(struct rig *rig, const char *id,
                                        const char *name)
{
    struct proto_message m = rig_take(rig, PROTO_EXITED, 0);
    uint32_t status = m.body.exited.status;

    assert_string_equal(m.body.exited.container, id);
    assert_string_equal(m.body.exited.exec, name);
    assert_true(m.body.exited.wall_clock_ns > 0);
    proto_clear(&m);
    return status;
}

static inline uint32_t rig_wait_exit(struct rig *rig, const char *id)
{
    return rig_wait_exit_of(rig, id, "");
}

static inline void rig_stream_done(void *context, uint32_t id)
{
    struct rig *rig = context;

    (void)id;
    rig->streams_open--;
    loop_stop(rig->loop);
}

/* What comes on the stream, as a file. */
static inline int rig_collect(struct rig *rig, uint32_t stream)
{
    int file = memfd_create("collected", MFD_CLOEXEC);

    assert_true(file >= 0);
    rig->streams_open++;
    (void)stream_add_sink(rig->link, stream, fcntl(file, F_DUPFD_CLOEXEC, 3),
                          rig_stream_done, rig);
    return file;
}

static inline void rig_wait_streams(struct rig *rig)
{
    while (rig->streams_open > 0)
        rig_turn(rig);
}

/* Up to size - 1 bytes as text; closes the file. */
static inline void rig_read(int file, char *text, size_t size)
{
    ssize_t n = pread(file, text, size - 1, 0);

    assert_true(n >= 0);
    text[n] = '\0';
    (void)close(file);
}

static inline void rig_delete(struct rig *rig, const char *id)
{
    struct err said = ERR_INIT;

    if (rig_result(rig, rig_ask(rig, PROTO_DELETE, id), &said))
        fail_msg("DELETE: %s", said.text);
}

/* From CREATE to DELETE: the exit status, stdout and stderr together. */
static inline uint32_t rig_run(struct rig *rig, struct proto_create *create,
                               char *output, size_t size)
{
    char *id = xstrdup(create->container.id);
    struct err said = ERR_INIT;
    unsigned others = rig->streams_open;
    uint32_t status;
    int out;

    create->stdout_stream = rig->next_id * 4 + 1001;
    out = rig_collect(rig, create->stdout_stream);
    if (rig_result(rig, rig_send_create(rig, create), &said))
        fail_msg("CREATE: %s", said.text);
    if (rig_result(rig, rig_ask(rig, PROTO_START, id), &said))
        fail_msg("START: %s", said.text);
    status = rig_wait_exit(rig, id);
    while (rig->streams_open > others)
        rig_turn(rig);
    rig_delete(rig, id);
    rig_read(out, output, size);
    free(id);
    return status;
}

/* The same for a script with the default specification. */
static inline uint32_t rig_script(struct rig *rig, const char *script,
                                  char *output, size_t size)
{
    struct proto_create create = rig_create("web1", script);

    return rig_run(rig, &create, output, size);
}

/* CREATE that must fail: what was said. */
static inline struct err rig_refused(struct rig *rig,
                                     struct proto_create *create)
{
    struct err said = ERR_INIT;

    if (rig_result(rig, rig_send_create(rig, create), &said) == 0)
        fail_msg("CREATE was not refused");
    return said;
}

#endif
