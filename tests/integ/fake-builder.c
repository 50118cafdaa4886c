/* The two roles of the builder: worker and watcher; see fake.h. */
#include "fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "domus/job.h"
#include "domus/mem.h"

static const char *base; /* DOMUS_FAKE_DIR */

static bool is_domain(uint32_t domid, const char *uuid)
{
    _cleanup_free_ char *there = fact_read(domid, "uuid");

    return there[0] && strcmp(there, uuid) == 0;
}

static bool fault(const char *word)
{
    _cleanup_free_ char *path = xasprintf("%s/fault", base);
    _cleanup_free_ char *words = fake_read(path);
    char *rest = words, *one;

    while ((one = strsep(&rest, " \n")))
        if (strcmp(one, word) == 0)
            return true;
    return false;
}

/* --- the worker ------------------------------------------------------------
 */

static void answer(uint16_t type, uint32_t id, const void *body)
{
    struct err e = ERR_INIT;

    if (packet_send(JOB_FD, &job_protocol, type, id, body, &e) < 0) {
        fprintf(stderr, "fake-builder: %s\n", e.text);
        exit(1);
    }
}

static void answer_result(uint32_t id, int code, const char *text)
{
    struct job_result result = {.code = (uint32_t)code, .text = (char *)text};

    answer(JOB_RESULT, id, &result);
}

static void work_host(uint32_t id)
{
    struct job_host_result r = {
        .xen_version = (char *)"4.17.0-fake",
        .command_line = (char *)"placeholder",
        .has_hap = true,
        .free_kb = 8 << 20,
        .total_kb = 16 << 20,
    };

    if (fault("no-xen"))
        answer_result(id, ENODEV, "this host does not run Xen");
    else
        answer(JOB_HOST_RESULT, id, &r);
}

static void write_born(const char *directory, const char *fact,
                       const char *text)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", directory, fact);

    fake_write(path, text);
}

static void work_build(uint32_t id, const struct job_build *job)
{
    _cleanup_free_ char *console = NULL, *unborn = NULL;
    struct job_built built;
    uint32_t domid = 1;

    if (fault("build-enomem")) {
        answer_result(id, ENOMEM, "not enough memory on the host");
        return;
    }
    if (fault("build-crash"))
        abort();
    while (fault("build-hang"))
        sleep(1);
    /* As with a hypervisor, a domain is there as a whole or not at all,
     * whenever this process is killed. */
    unborn = xasprintf("%s/.unborn-%d", base, (int)getpid());
    if (mkdir(unborn, 0700) < 0)
        fake_die(unborn);
    write_born(unborn, "name", job->name);
    write_born(unborn, "kernel", job->kernel);
    write_born(unborn, "initramfs", job->initramfs);
    write_born(unborn, "command-line", job->command_line);
    write_born(unborn, "type", job->pvh ? "pvh" : "pv");
    write_born(unborn, "uuid", job->uuid);
    {
        _cleanup_free_ char *weight = xasprintf("%u", job->cpu_weight);
        _cleanup_free_ char *cap = xasprintf("%u", job->cpu_cap);

        write_born(unborn, "weight", weight);
        write_born(unborn, "cap", cap);
    }
    for (;; domid++) {
        _cleanup_free_ char *path = xasprintf("%s/%u", base, domid);

        if (rename(unborn, path) == 0)
            break;
        if (errno != EEXIST && errno != ENOTEMPTY)
            fake_die(path);
    }
    fake_domain_start(domid);
    if (!fact_wait(domid, "console"))
        fake_die("no console");
    console = fact_read(domid, "console");
    built = (struct job_built){.domid = domid, .console = console};
    answer(JOB_BUILT, id, &built);
}

static const char *start_word(void)
{
    static const char *const words[] = {"never-hello", "silent-channel",
                                        "garbage", "die-early"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (fault(words[i]))
            return words[i];
    return "agent";
}

static void work_start(uint32_t id, const struct job_start *job)
{
    char text[FAKE_TEXT_MAX] = "";
    size_t n = 0;

    if (!is_domain(job->domid, job->uuid)) {
        answer_result(id, ESRCH, "no such domain");
        return;
    }
    if (fault("start-fail")) {
        answer_result(id, EIO, "the block device did not attach");
        return;
    }
    if (fault("start-slow"))
        (void)sleep(2);
    for (size_t i = 0; i < job->vbds.n && n < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s=%s\n",
                              job->vbds.v[i].name, job->vbds.v[i].path);
    fact_write(job->domid, "vbds", "%s", text);
    fact_write(job->domid, "start", "%s", start_word());
    answer_result(id, 0, "");
}

/* Stands still as a domain does: every process of it, whatever it does. */
static void work_pause(uint32_t id, const struct job_domain *job, bool paused)
{
    if (fault("pause-fail")) {
        answer_result(id, EIO, "the domain was not paused");
        return;
    }
    if (!is_domain(job->domid, job->uuid) || fact_exists(job->domid, "dead")) {
        answer_result(id, ESRCH, "no such domain");
        return;
    }
    fake_domain_freeze(job->domid, paused);
    if (paused) {
        fact_write(job->domid, "paused", "%s", "");
    } else {
        _cleanup_free_ char *path = fact_path(job->domid, "paused");

        (void)unlink(path);
    }
    answer_result(id, 0, "");
}

static void work_sched(uint32_t id, const struct job_sched *job)
{
    if (!is_domain(job->domid, job->uuid) || fact_exists(job->domid, "dead")) {
        answer_result(id, ESRCH, "no such domain");
        return;
    }
    if (job->cpu_weight)
        fact_write(job->domid, "weight", "%u", job->cpu_weight);
    if (job->has_cpu_cap)
        fact_write(job->domid, "cap", "%u", job->cpu_cap);
    answer_result(id, 0, "");
}

/* Its memory is still mapped by somebody, for so long. */
static bool lingers(uint32_t domid)
{
    struct timespec now;
    _cleanup_free_ char *since = NULL;

    if (!fault("destroy-slow"))
        return false;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (!fact_exists(domid, "dying"))
        fact_write(domid, "dying", "%ld", (long)now.tv_sec);
    since = fact_read(domid, "dying");
    return now.tv_sec - strtol(since, NULL, 10) < FAKE_LINGER_S;
}

static void work_destroy(uint32_t id, const struct job_domain *job)
{
    _cleanup_free_ char *name = xasprintf("%u", job->domid);
    _cleanup_free_ char *pid = NULL;
    int root;

    if (!is_domain(job->domid, job->uuid)) {
        answer_result(id, 0, "");
        return;
    }
    if (fault("destroy-fail") ||
        (fault("destroy-fails-twice") && fact_count(job->domid, "fails") < 2)) {
        answer_result(id, EBUSY, "the domain does not want to go");
        return;
    }
    while (fault("destroy-hang"))
        sleep(1);
    fact_write(job->domid, "destroy", "%s", "");
    /* Between start and pid there is a moment; then the domain is told. */
    if (fact_exists(job->domid, "start") && !fact_exists(job->domid, "dead"))
        for (int i = 0; i < 1000 && !fact_exists(job->domid, "pid") &&
                        !fact_exists(job->domid, "dead");
             i++)
            usleep(FAKE_TICK_MS * 1000);
    pid = fact_read(job->domid, "pid");
    if (pid[0] && !fact_exists(job->domid, "dead"))
        (void)kill((pid_t)strtol(pid, NULL, 10), SIGKILL);
    /* Without a console nothing ever ran in it: its worker was killed. */
    if (fact_exists(job->domid, "console") && !fact_wait(job->domid, "dead")) {
        answer_result(id, ETIMEDOUT, "the domain did not die");
        return;
    }
    if (lingers(job->domid)) {
        answer_result(id, ETIMEDOUT, "some process still maps its memory");
        return;
    }
    root = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fake_remove_tree(root, name);
    close(root);
    answer_result(id, 0, "");
}

static void work_list(uint32_t id)
{
    struct job_listed listed[64] = {{0}};
    struct job_list_result result = {{listed, 0}};
    _cleanup_closedir_ DIR *dir = opendir(base);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) &&
           result.domains.n < ARRAY_SIZE(listed)) {
        uint32_t domid = (uint32_t)strtoul(entry->d_name, NULL, 10);
        struct job_listed *l = &listed[result.domains.n];

        if (domid == 0 || !fact_exists(domid, "uuid"))
            continue;
        l->domid = domid;
        l->uuid = fact_read(domid, "uuid");
        l->console = fact_read(domid, "console");
        l->reason = fact_read(domid, "reason");
        l->shut_down = fact_exists(domid, "dead");
        l->dying = fact_exists(domid, "dying");
        l->paused = fact_exists(domid, "paused");
        result.domains.n++;
    }
    answer(JOB_LIST_RESULT, id, &result);
    for (size_t i = 0; i < result.domains.n; i++) {
        free(listed[i].uuid);
        free(listed[i].console);
        free(listed[i].reason);
    }
}

static void work(const struct packet *job)
{
    switch ((enum job_type)job->type) {
    case JOB_HOST:
        work_host(job->id);
        return;
    case JOB_BUILD:
        work_build(job->id, job->body);
        return;
    case JOB_START:
        work_start(job->id, job->body);
        return;
    case JOB_DESTROY:
        work_destroy(job->id, job->body);
        return;
    case JOB_LIST:
        work_list(job->id);
        return;
    case JOB_PAUSE:
    case JOB_RESUME:
        work_pause(job->id, job->body, job->type == JOB_PAUSE);
        return;
    case JOB_SCHED:
        work_sched(job->id, job->body);
        return;
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
    answer_result(job->id, EOPNOTSUPP, "not a worker's job");
}

/* --- the watcher -----------------------------------------------------------
 */

struct watched {
    struct watched *next;
    uint32_t domid;
    char *uuid;
    bool told_channel;
};

static struct watched *all;

/* The socket's name is there before somebody listens; the kernel's table
 * knows it by the name that the agent gave, and the flags say who listens. Of
 * the guest's network: it has one of its own. */
static bool listening(uint32_t domid, const char *uuid)
{
    _cleanup_free_ char *pid = fact_read(domid, "pid");
    _cleanup_free_ char *path = xasprintf("/proc/%s/net/unix", pid);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char line[512];

    while (f && fgets(line, sizeof(line), f))
        if (strstr(line, uuid) && strstr(line, " 00010000 "))
            return true;
    return false;
}

static void look_at(struct watched *w)
{
    _cleanup_free_ char *path = fact_path(w->domid, w->uuid);

    if (!w->told_channel && access(path, F_OK) == 0 &&
        listening(w->domid, w->uuid)) {
        _cleanup_free_ char *channel = xasprintf("unix:%s", path);
        struct job_channel c = {
            .domid = w->domid, .uuid = w->uuid, .channel = channel};

        w->told_channel = true;
        answer(JOB_CHANNEL, 0, &c);
    }
}

static bool look_for_end(struct watched *w)
{
    bool there = is_domain(w->domid, w->uuid);
    _cleanup_free_ char *reason = fact_read(w->domid, "reason");
    struct job_died died = {
        .domid = w->domid, .uuid = w->uuid, .reason = reason};

    if (there && !fact_exists(w->domid, "dead"))
        return false;
    if (!there) {
        free(reason);
        died.reason = reason = xstrdup("destroyed");
    }
    answer(JOB_DIED, 0, &died);
    return true;
}

static void forget(struct watched **at)
{
    struct watched *w = *at;

    *at = w->next;
    free(w->uuid);
    free(w);
}

/* Of a domain that had the number before: what is true of it no more. */
static void tell_of_another(uint32_t domid)
{
    char *uuid = (char *)"00000000-0000-0000-0000-000000000000";
    char *nonsense = (char *)"destroyed";
    struct job_channel c = {.domid = domid, .uuid = uuid, .channel = nonsense};
    struct job_died died = {.domid = domid, .uuid = uuid, .reason = nonsense};

    answer(JOB_CHANNEL, 0, &c);
    answer(JOB_DIED, 0, &died);
}

static void watch_changed(const struct packet *job)
{
    const struct job_domain *domain = job->body;
    struct watched **at = &all, *w;

    if (job->type == JOB_WATCH) {
        w = xcalloc(1, sizeof(*w));
        w->domid = domain->domid;
        w->uuid = xstrdup(domain->uuid);
        w->next = all;
        all = w;
        if (fault("late-notices"))
            tell_of_another(w->domid);
    } else if (job->type == JOB_UNWATCH) {
        while (*at && (*at)->domid != domain->domid)
            at = &(*at)->next;
        if (*at)
            forget(at);
    } else {
        answer_result(job->id, EOPNOTSUPP, "not a watcher's job");
    }
}

int main(int argc, char **argv)
{
    bool worker = argc == 2 && strcmp(argv[1], "worker") == 0;

    base = fake_directory();
    if (argc != 2 || (!worker && strcmp(argv[1], "watcher") != 0) || !base ||
        !getenv("DOMUS_FAKE_AGENT")) {
        fprintf(stderr, "usage: fake-builder worker|watcher, with "
                        "DOMUS_FAKE_DIR and DOMUS_FAKE_AGENT\n");
        return 2;
    }
    for (;;) {
        struct pollfd p = {.fd = JOB_FD, .events = POLLIN};
        struct err e = ERR_INIT;
        struct packet job;
        int r;

        if (poll(&p, 1, worker ? -1 : FAKE_TICK_MS) > 0) {
            r = packet_receive(JOB_FD, &job_protocol, &job, &e);
            if (r == -EPIPE)
                return 0;
            if (r < 0 && r != -EAGAIN) {
                fprintf(stderr, "fake-builder: %s\n", e.text);
                return 1;
            }
            if (r == 0) {
                if (worker)
                    work(&job);
                else
                    watch_changed(&job);
                packet_clear(&job_protocol, &job);
            }
        }
        for (struct watched **at = &all; *at;) {
            look_at(*at);
            if (look_for_end(*at))
                forget(at);
            else
                at = &(*at)->next;
        }
    }
}
