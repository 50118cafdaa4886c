#include "process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "domus/mem.h"
#include "priority.h"
#include "seccomp.h"

/* An image's /etc/passwd that is larger is not looked at. */
#define PASSWD_MAX (1024 * 1024)

struct process_seal process_seal_of(const struct spec_container *spec)
{
    return (struct process_seal){
        .seccomp = spec->seccomp,
        .seccomp_flags = spec->seccomp_flags,
        .has_personality = spec->has_personality,
        .personality = spec->personality,
    };
}

int process_set_oom_score(const struct spec_process *p, struct err *e)
{
    return priority_set_oom_score(p->has_oom_score_adj ? p->oom_score_adj : 0,
                                  e);
}

static int set_limit(const struct spec_rlimit *l, const struct rlimit *limit,
                     struct err *e)
{
    if (setrlimit((int)l->resource, limit) < 0)
        return err_errno(e, "set resource limit %u to %llu/%llu", l->resource,
                         (unsigned long long)l->soft,
                         (unsigned long long)l->hard);
    return 0;
}

int process_allow_limits(const struct spec_process *p, struct err *e)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < p->rlimits.n; i++) {
        const struct spec_rlimit *l = &p->rlimits.v[i];
        struct rlimit limit;

        if (getrlimit((int)l->resource, &limit) < 0)
            return err_errno(e, "read resource limit %u", l->resource);
        if (limit.rlim_max < l->hard) {
            limit.rlim_max = l->hard;
            r = set_limit(l, &limit, e);
        }
    }
    return r;
}

static int set_limits(const struct spec_process *p, struct err *e)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < p->rlimits.n; i++) {
        const struct spec_rlimit *l = &p->rlimits.v[i];
        const struct rlimit limit = {.rlim_cur = l->soft, .rlim_max = l->hard};

        r = set_limit(l, &limit, e);
    }
    return r;
}

static int last_capability(void)
{
    int cap = 0;

    while (cap < 63 && prctl(PR_CAPBSET_READ, cap + 1, 0, 0, 0) >= 0)
        cap++;
    return cap;
}

static int drop_bounding(uint64_t keep, int last, struct err *e)
{
    for (int cap = 0; cap <= last; cap++)
        if (!(keep & (1ull << cap)) &&
            prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return err_errno(e, "drop capability %d", cap);
    return 0;
}

static int set_capabilities(const struct spec_capabilities *c, int last,
                            struct err *e)
{
    struct __user_cap_header_struct header = {.version =
                                                  _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uint64_t known = last == 63 ? ~0ull : (1ull << (last + 1)) - 1;

    for (unsigned i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)((c->effective & known) >> (32 * i));
        data[i].permitted = (uint32_t)((c->permitted & known) >> (32 * i));
        data[i].inheritable = (uint32_t)((c->inheritable & known) >> (32 * i));
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return err_errno(e, "set capabilities");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_errno(e, "clear ambient capabilities");
    /* As runc, it goes without those that are not inheritable, too. */
    for (int cap = 0; cap <= last; cap++)
        if ((c->ambient & (1ull << cap)) &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0 &&
            errno != EPERM)
            return err_errno(e, "raise ambient capability %d", cap);
    return 0;
}

static int set_user(const struct spec_process *p, struct err *e)
{
    _cleanup_free_ gid_t *groups =
        xcalloc(p->additional_gids.n, sizeof(*groups));

    /* To the system calls -1 means "leave as it is", which is root. */
    if (p->uid == UINT32_MAX || p->gid == UINT32_MAX)
        return err_set(e, EINVAL, "user or group id 4294967295");
    for (size_t i = 0; i < p->additional_gids.n; i++)
        groups[i] = p->additional_gids.v[i];
    if (setgroups(p->additional_gids.n, groups) < 0)
        return err_errno(e, "set %zu additional groups", p->additional_gids.n);
    /* These set all three ids, too, and profiles that allow only what a program
     * of today needs know them better than setresuid(). */
    if (setgid(p->gid) < 0)
        return err_errno(e, "set the group to %u", p->gid);
    if (setuid(p->uid) < 0)
        return err_errno(e, "set the user to %u", p->uid);
    return 0;
}

static int enter_cwd(const struct spec_process *p, struct err *e)
{
    const char *cwd = p->cwd[0] ? p->cwd : "/";
    char where[SPEC_PATH_MAX + 1];

    if (chdir(cwd) < 0)
        return err_errno(e, "enter the working directory %s", cwd);
    /* A directory that is not beneath the root has no path from it. */
    if (syscall(SYS_getcwd, where, sizeof(where)) < 0 || where[0] != '/')
        return err_set(e, EPERM, "the working directory %s is outside", cwd);
    return 0;
}

static int set_scheduling(const struct spec_process *p,
                          const struct process_seal *seal, struct err *e)
{
    int r = 0;

    if (seal->has_personality && personality(seal->personality) < 0)
        r = err_errno(e, "set the personality 0x%x", seal->personality);
    if (r == 0 && p->has_scheduler)
        r = priority_set_scheduler(&p->scheduler, e);
    if (r == 0 && p->has_io_priority)
        r = priority_set_io(p->io_class, p->io_priority, e);
    return r;
}

static int drop_privileges(const struct spec_process *p, struct err *e)
{
    int last = last_capability();
    int r = 0;

    if (p->has_capabilities)
        r = drop_bounding(p->capabilities.bounding, last, e);
    if (r == 0 && p->has_capabilities && prctl(PR_SET_KEEPCAPS, 1) < 0)
        r = err_errno(e, "keep capabilities");
    if (r == 0)
        r = set_user(p, e);
    if (r == 0 && p->has_capabilities)
        r = set_capabilities(&p->capabilities, last, e);
    return r;
}

int process_become(const struct spec_process *p,
                   const struct process_seal *seal, struct err *e)
{
    struct err closed = ERR_INIT;
    int entered;
    int r = set_scheduling(p, seal, e);

    if (r == 0)
        r = set_limits(p, e);
    (void)umask(p->has_umask ? p->umask & 07777 : 0022);
    if (r < 0)
        return r;
    /* A directory may be closed to root, where the user's own are not. */
    entered = enter_cwd(p, &closed);
    if (entered < 0 && entered != -EACCES)
        return err_set(e, closed.code, "%s", closed.text);
    if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(e, "set no_new_privs");
    if (!p->no_new_privileges)
        r = seccomp_load(&seal->seccomp, seal->seccomp_flags, e);
    if (r == 0)
        r = drop_privileges(p, e);
    if (r == 0 && entered < 0)
        r = enter_cwd(p, e);
    return r;
}

char **process_vector(const struct string_list *list)
{
    char **v = xcalloc(list->n + 1, sizeof(*v));

    for (size_t i = 0; i < list->n; i++)
        v[i] = list->v[i];
    return v;
}

int process_execute(const struct spec_process *p,
                    const struct process_seal *seal, const char *program,
                    const struct string_list *env, struct err *e)
{
    _cleanup_free_ char **args = process_vector(&p->args);
    _cleanup_free_ char **environment = process_vector(env);
    int code;

    if (p->no_new_privileges &&
        seccomp_load(&seal->seccomp, seal->seccomp_flags, e) < 0)
        return -e->code;
    (void)execve(program, args, environment);
    code = errno;
    return err_set(e, code, "exec: \"%s\": %s", p->args.v[0], strerror(code));
}

static const char *lookup(const struct string_list *env, const char *name)
{
    size_t n = strlen(name);

    /* The last one is the one that the program gets. */
    for (size_t i = env->n; i-- > 0;)
        if (strncmp(env->v[i], name, n) == 0 && env->v[i][n] == '=')
            return env->v[i] + n + 1;
    return NULL;
}

/* Fields of one line of passwd: name:password:uid:gid:gecos:home:shell. */
static char *home_of_line(char *line, uint32_t uid)
{
    char *field[6] = {NULL};
    char *end;

    for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
        field[i] = strsep(&line, ":");
        if (!field[i])
            return NULL;
    }
    errno = 0;
    if (strtoull(field[2], &end, 10) != uid || end == field[2] || *end || errno)
        return NULL;
    return field[5][0] ? xstrdup(field[5]) : NULL;
}

static char *find_home(uint32_t uid)
{
    /* An image may have a FIFO there. */
    _cleanup_fd_ int fd =
        open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    _cleanup_free_ char *text = NULL;
    char *home = NULL, *rest, *line;
    struct stat st;
    ssize_t n = 0;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_size <= PASSWD_MAX) {
        text = xmalloc((size_t)st.st_size + 1);
        n = read(fd, text, (size_t)st.st_size);
    }
    if (n > 0) {
        text[n] = '\0';
        rest = text;
        while (!home && (line = strsep(&rest, "\n")))
            home = home_of_line(line, uid);
    }
    return home ? home : xstrdup("/");
}

struct variable {
    const char *entry;
    size_t name_length;
    size_t index;
};

static int compare_variables(const void *a, const void *b)
{
    const struct variable *x = a, *y = b;
    size_t n =
        x->name_length < y->name_length ? x->name_length : y->name_length;
    int order = memcmp(x->entry, y->entry, n);

    if (order == 0 && x->name_length != y->name_length)
        order = x->name_length < y->name_length ? -1 : 1;
    if (order == 0)
        order = x->index < y->index ? -1 : 1;
    return order;
}

static bool same_name(const struct variable *x, const struct variable *y)
{
    return x->name_length == y->name_length &&
           memcmp(x->entry, y->entry, x->name_length) == 0;
}

/* What is to stand at each place of env: of a variable that is given more than
 * once the last value, where the first stood; NULL at the others. The client
 * may send many, so they are sorted. */
static const char **settle(const struct string_list *env)
{
    const char **settled = xcalloc(env->n, sizeof(*settled));
    _cleanup_free_ struct variable *all = xcalloc(env->n, sizeof(*all));
    size_t first = 0;

    for (size_t i = 0; i < env->n; i++)
        all[i] = (struct variable){.entry = env->v[i],
                                   .name_length = strcspn(env->v[i], "="),
                                   .index = i};
    qsort(all, env->n, sizeof(*all), compare_variables);
    for (size_t i = 0; i < env->n; i++) {
        if (!same_name(&all[first], &all[i]))
            first = i;
        settled[all[first].index] = all[i].entry;
    }
    return settled;
}

struct string_list process_variables(const struct spec_process *p)
{
    _cleanup_free_ const char **settled = settle(&p->env);
    struct string_list env = {.v = xcalloc(p->env.n, sizeof(*env.v))};

    for (size_t i = 0; i < p->env.n; i++)
        if (settled[i])
            env.v[env.n++] = (char *)settled[i];
    return env;
}

static void add_home(struct string_list *env, uint32_t uid)
{
    _cleanup_free_ char *directory = find_home(uid);
    _cleanup_free_ char *entry = xasprintf("HOME=%s", directory);

    string_list_add(env, entry);
}

/* As in runc: an empty HOME is none. */
struct string_list process_environment(const struct spec_process *p)
{
    static const char home[] = "HOME=";
    struct string_list given = process_variables(p);
    struct string_list env = {NULL, 0};
    bool has_home = false;

    for (size_t i = 0; i < given.n; i++) {
        has_home = has_home || strncmp(given.v[i], home, strlen(home)) == 0;
        if (strcmp(given.v[i], home) == 0)
            add_home(&env, p->uid);
        else
            string_list_add(&env, given.v[i]);
    }
    free(given.v);
    if (!has_home)
        add_home(&env, p->uid);
    return env;
}

/* By a link like /proc/self/exe, which is this program until it executes. */
static bool is_agent(const struct stat *st)
{
    struct stat own;

    return stat("/proc/self/exe", &own) == 0 && own.st_dev == st->st_dev &&
           own.st_ino == st->st_ino;
}

/* 0 when the file can be executed, else what stands in the way. */
static int why_not(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    /* Any other error is the word of the container's own filter; exec has the
     * last one. */
    if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 && errno == EACCES)
        return EACCES;
    return st.st_mode & 0111 && !is_agent(&st) ? 0 : EACCES;
}

static int check_given(const char *path, char **path_out, struct err *e)
{
    int why = why_not(path);

    switch (why) {
    case 0:
        *path_out = xstrdup(path);
        return 0;
    case EACCES:
    case EISDIR:
        return err_set(e, why, "exec: \"%s\": %s", path,
                       why == EISDIR ? "is a directory" : "permission denied");
    case ENOENT:
        return err_set(e, why,
                       "exec: \"%s\": stat %s: no such file or directory", path,
                       path);
    default:
        return err_set(e, why, "exec: \"%s\": stat %s: %s", path, path,
                       strerror(why));
    }
}

int process_find_program(const struct spec_process *p, char **path_out,
                         struct err *e)
{
    const char *name = p->args.v[0];
    const char *path = lookup(&p->env, "PATH");
    _cleanup_free_ char *copy = xstrdup(path ? path : "");
    char *rest = copy, *directory;

    if (strchr(name, '/'))
        return check_given(name, path_out, e);
    /* Directories that depend on where one stands are not searched. */
    while (*name && (directory = strsep(&rest, ":"))) {
        _cleanup_free_ char *candidate = NULL;

        if (directory[0] != '/')
            continue;
        candidate = xasprintf("%s/%s", directory, name);
        if (why_not(candidate) == 0) {
            *path_out = steal_ptr(&candidate);
            return 0;
        }
    }
    return err_set(e, ENOENT,
                   "exec: \"%s\": executable file not found in $PATH", name);
}
