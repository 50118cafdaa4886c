#include "domain.h"

#include <poll.h>
#include <string.h>

#include "config.h"
#include "device.h"
#include "domus/loop.h"
#include "domus/mem.h"

#define BACKEND_DEADLINE_MS 10000
/* Of each of the two waits; domusd asks again for what is not gone by then. */
#define GONE_DEADLINE_MS 1000

/* --- build ---------------------------------------------------------------- */

static int file_check(const char *what, const char *path, struct err *e)
{
    if (access(path, R_OK) < 0)
        return err_errno(e, "%s %s", what, path);
    return 0;
}

static int memory_check(struct xl *xl, const struct job_build *build,
                        uint32_t *nodes_out, struct err *e)
{
    uint64_t need = config_needs_kb(build), free_kb = 0;
    libxl_physinfo info;
    int rc;

    libxl_physinfo_init(&info);
    rc = libxl_get_physinfo(xl->ctx, &info);
    if (rc == 0) {
        if (info.free_pages > info.outstanding_pages)
            free_kb = (info.free_pages - info.outstanding_pages) * 4;
        *nodes_out = info.nr_nodes;
    }
    libxl_physinfo_dispose(&info);
    if (rc)
        return xl_fail(xl, rc, e, "cannot ask Xen for its memory");
    if (need > free_kb)
        return err_set(e, ENOMEM,
                       "not enough memory for the domain: it needs %llu KiB, "
                       "Xen has %llu KiB free",
                       (unsigned long long)need, (unsigned long long)free_kb);
    return 0;
}

/* libxl waits for the terminal and says only that it timed out. */
static int build_failed(struct xl *xl, int rc, struct err *e)
{
    if (strstr(xl->log.lines, "console tty: timed out"))
        return err_set(e, ECONNREFUSED,
                       "xenconsoled is not running: nobody opened the "
                       "domain's console (%s)",
                       xl->log.lines);
    return xl_fail(xl, rc, e, "cannot build the domain");
}

static char *console_of(struct xl *xl, uint32_t domid)
{
    char *tty = NULL;

    if (libxl_primary_console_get_tty(xl->ctx, domid, &tty) != 0 || !tty)
        return xstrdup("");
    return tty;
}

int domain_build(struct xl *xl, const struct job_build *build,
                 struct job_built *built_out, struct err *e)
{
    libxl_domain_config config;
    uint32_t domid = INVALID_DOMID, nodes = 1;
    int rc, r;

    r = file_check("kernel", build->kernel, e);
    if (r == 0)
        r = file_check("initramfs", build->initramfs, e);
    if (r == 0)
        r = memory_check(xl, build, &nodes, e);
    if (r == 0)
        r = config_from_job(build, nodes, &config, e);
    if (r < 0)
        return r;
    rc = libxl_domain_create_new(xl->ctx, &config, &domid, NULL, NULL);
    libxl_domain_config_dispose(&config);
    if (rc) {
        r = build_failed(xl, rc, e);
        if (domid != (uint32_t)INVALID_DOMID)
            (void)libxl_domain_destroy(xl->ctx, domid, NULL);
        return r;
    }
    *built_out =
        (struct job_built){.domid = domid, .console = console_of(xl, domid)};
    return 0;
}

/* --- start ---------------------------------------------------------------- */

/* That this domain is there, and has not ended. */
static int check_alive(struct xl *xl, uint32_t domid, const char *text,
                       bool *paused_out, struct err *e)
{
    libxl_dominfo info;
    libxl_uuid uuid;
    bool ended;
    int r = xl_uuid_parse(text, &uuid, e);

    if (r == 0)
        r = xl_domain_find(xl, domid, &uuid, &info, e);
    if (r < 0)
        return r;
    ended = info.dying || info.shutdown;
    *paused_out = info.paused;
    libxl_dominfo_dispose(&info);
    return ended ? err_set(e, ESRCH, "domain %u has ended", domid) : 0;
}

int domain_start(struct xl *xl, const struct job_start *start, struct err *e)
{
    bool paused;
    int rc, r = check_alive(xl, start->domid, start->uuid, &paused, e);

    for (size_t i = 0; i < start->vbds.n && r == 0; i++) {
        uint32_t number;

        r = device_vbd_number(start->vbds.v[i].name, &number, e);
        if (r == 0)
            r = device_vbd_check(&start->vbds.v[i], e);
    }
    if (r == 0)
        r = device_attach_vbds(xl->xs, start->domid, &start->vbds, e);
    if (r < 0)
        return r;
    rc = libxl_domain_unpause(xl->ctx, start->domid, NULL);
    if (rc)
        return xl_fail(xl, rc, e, "cannot unpause domain %u", start->domid);
    /*
     * The back ends open their devices while the kernel boots, which takes
     * longer; that the guest finds them ready spares it sleeps of 100 ms.
     */
    return device_wait_backends(xl->xs, start->domid, &start->vbds,
                                BACKEND_DEADLINE_MS, e);
}

/* --- while it lives ------------------------------------------------------- */

/* Xen refuses neither, but counts: once is enough. */
int domain_pause(struct xl *xl, const struct job_domain *domain, struct err *e)
{
    bool paused;
    int rc, r = check_alive(xl, domain->domid, domain->uuid, &paused, e);

    if (r < 0 || paused)
        return r;
    rc = libxl_domain_pause(xl->ctx, domain->domid, NULL);
    if (rc)
        return xl_fail(xl, rc, e, "cannot pause domain %u", domain->domid);
    return 0;
}

int domain_resume(struct xl *xl, const struct job_domain *domain, struct err *e)
{
    bool paused;
    int rc, r = check_alive(xl, domain->domid, domain->uuid, &paused, e);

    if (r < 0 || !paused)
        return r;
    rc = libxl_domain_unpause(xl->ctx, domain->domid, NULL);
    if (rc)
        return xl_fail(xl, rc, e, "cannot unpause domain %u", domain->domid);
    return 0;
}

int domain_sched(struct xl *xl, const struct job_sched *sched, struct err *e)
{
    libxl_domain_sched_params params;
    bool paused;
    int rc, r = check_alive(xl, sched->domid, sched->uuid, &paused, e);

    if (r == 0)
        r = config_check_sched(sched->cpu_weight, sched->cpu_cap, e);
    if (r < 0)
        return r;
    /* What is not set stays; the scheduler is that of the domain's pool. */
    libxl_domain_sched_params_init(&params);
    if (sched->cpu_weight)
        params.weight = (int)sched->cpu_weight;
    if (sched->has_cpu_cap)
        params.cap = (int)sched->cpu_cap;
    rc = libxl_domain_sched_params_set(xl->ctx, sched->domid, &params);
    libxl_domain_sched_params_dispose(&params);
    if (rc)
        return xl_fail(xl, rc, e, "cannot set weight and cap of domain %u",
                       sched->domid);
    return 0;
}

/* --- destroy -------------------------------------------------------------- */

/* Memory that a process of dom0 maps keeps a destroyed domain. */
static int wait_gone(struct xl *xl, uint32_t domid, const libxl_uuid *uuid,
                     struct err *e)
{
    int64_t deadline = loop_now() + GONE_DEADLINE_MS;

    for (int pause = 1;; pause = pause < 16 ? pause * 2 : 16) {
        libxl_dominfo info;
        int r = xl_domain_find(xl, domid, uuid, &info, e);

        if (r == -ESRCH)
            return 0;
        if (r < 0)
            return r;
        libxl_dominfo_dispose(&info);
        if (loop_now() >= deadline)
            return err_set(e, ETIMEDOUT,
                           "domain %u is destroyed but some process still "
                           "maps its memory",
                           domid);
        (void)poll(NULL, 0, pause);
    }
}

int domain_destroy(struct xl *xl, const struct job_domain *domain,
                   struct err *e)
{
    uint32_t domid = domain->domid;
    libxl_dominfo info;
    libxl_uuid uuid;
    int rc, r = xl_uuid_parse(domain->uuid, &uuid, e);

    if (r == 0)
        r = xl_domain_find(xl, domid, &uuid, &info, e);
    if (r == -ESRCH)
        return 0;
    if (r < 0)
        return r;
    libxl_dominfo_dispose(&info);

    rc = libxl_domain_destroy(xl->ctx, domid, NULL);
    if (rc && rc != ERROR_DOMAIN_NOTFOUND)
        return xl_fail(xl, rc, e, "cannot destroy domain %u", domid);
    device_forget_errors(xl->xs, domid);
    r = device_wait_released(domid, GONE_DEADLINE_MS, e);
    if (r == 0)
        r = wait_gone(xl, domid, &uuid, e);
    return r;
}

/* --- list ----------------------------------------------------------------- */

int domain_list(struct xl *xl, struct job_list_result *result_out,
                struct err *e)
{
    struct job_listed_list out = {0};
    int n = 0, r = 0;
    libxl_dominfo *list = libxl_list_domain(xl->ctx, &n);

    if (!list)
        return xl_fail(xl, ERROR_FAIL, e, "cannot list the domains");
    if (n > JOB_DOMAINS_MAX)
        r = err_set(e, EMSGSIZE, "the host has %d domains, more than %d", n,
                    JOB_DOMAINS_MAX);
    else
        out.v = xcalloc((size_t)n + 1, sizeof(*out.v));
    for (int i = 0; i < n && r == 0; i++) {
        if (list[i].domid == 0)
            continue;
        out.v[out.n++] = (struct job_listed){
            .domid = list[i].domid,
            .uuid = xasprintf(LIBXL_UUID_FMT, LIBXL_UUID_BYTES(list[i].uuid)),
            .console = console_of(xl, list[i].domid),
            .dying = list[i].dying,
            .shut_down = list[i].shutdown,
            .paused = list[i].paused,
            .reason = xstrdup(xl_reason(&list[i])),
        };
    }
    libxl_dominfo_list_free(list, n);
    result_out->domains = out;
    return r;
}
