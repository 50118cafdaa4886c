/* Which programs of the host may run, and what they are given. */
#include "tests/unit/scratch.h"

#include <signal.h>
#include <sys/wait.h>

#include "src/daemon/program.h"

static char *make(const char *name, const char *text, mode_t mode)
{
    char *path = scratch_path(name);

    scratch_write(name, text);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

static int open_one(char *path, struct program *program, struct err *e)
{
    const struct string_list allowed = {&path, 1};

    *e = (struct err)ERR_INIT;
    return program_open(&allowed, "hooks", path, program, e);
}

static void only_what_is_named(void **state)
{
    char *names[] = {(char *)"/bin/true", (char *)"/bin/false"};
    const struct string_list allowed = {names, 2}, none = {NULL, 0};
    struct program program = {.fd = -1};
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(program_open(&allowed, "hooks", "/bin/false", &program, &e), e);
    assert_false(program.script);
    assert_int_equal(fcntl(program.fd, F_GETFD), FD_CLOEXEC);
    program_close(&program);
    assert_int_equal(program.fd, -1);
    assert_int_equal(
        program_open(&allowed, "hooks", "/bin//true", &program, &e), -EPERM);
    assert_said(e, EPERM, "'hooks' in domus.conf does not name it");
    assert_int_equal(program_open(&allowed, "hooks", "", &program, &e), -EPERM);
    assert_int_equal(program_open(&none, "loggers", "/bin/true", &program, &e),
                     -EPERM);
    assert_said(e, EPERM, "'loggers' in domus.conf");
    assert_int_equal(program.fd, -1);
}

static void only_files_that_root_alone_may_write(void **state)
{
    static const struct {
        mode_t mode;
        uid_t uid;
        int code;
        const char *words;
    } rows[] = {
        {0755, 0, 0, ""},
        {0700, 0, 0, ""},
        {0775, 0, EPERM, "by others than root (mode 0775)"},
        {0757, 0, EPERM, "by others than root (mode 0757)"},
        {0755, 1000, EPERM, "belongs to user 1000"},
        {0644, 0, EACCES, "is not executable"},
    };
    struct program program = {.fd = -1};
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_free_ char *path = make("it", "#!/bin/sh\n", rows[i].mode);

        assert_int_equal(chown(path, rows[i].uid, 0), 0);
        assert_int_equal(open_one(path, &program, &e), -rows[i].code);
        if (rows[i].code) {
            assert_said(e, rows[i].code, rows[i].words);
            assert_int_equal(program.fd, -1);
        } else {
            assert_true(program.script);
        }
        program_close(&program);
    }
    {
        _cleanup_free_ char *fifo = scratch_path("fifo");

        assert_int_equal(mkfifo(fifo, 0700), 0);
        assert_int_equal(open_one(fifo, &program, &e), -EPERM);
        assert_said(e, EPERM, "not a regular file");
    }
    assert_int_equal(open_one(scratch, &program, &e), -EPERM);
    assert_int_equal(open_one((char *)"/nonexistent", &program, &e), -ENOENT);
}

/* Runs to the end; its status, as from waitpid(). */
static int run(const struct program *program, const struct program_start *how,
               int *status_fd)
{
    struct err e = ERR_INIT;
    int status;
    pid_t pid;

    assert_ok(program_start(program, how, &pid, status_fd, &e), e);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* What was looked at is what runs, whatever has its name by then. */
static void runs_what_was_checked(void **state)
{
    _cleanup_free_ char *path = make("swap", "#!/bin/sh\nexit 7\n", 0755);
    char *const argv[] = {path, NULL}, *const envp[] = {NULL};
    struct program_start how = {.argv = argv, .envp = envp, .fd_count = 0};
    struct program program;
    struct err e;
    int status_fd;

    (void)state;
    assert_ok(open_one(path, &program, &e), e);
    assert_int_equal(unlink(path), 0);
    free(make("swap", "#!/bin/sh\nexit 8\n", 0777));
    assert_int_equal(WEXITSTATUS(run(&program, &how, &status_fd)), 7);
    assert_int_equal(program_status(status_fd, &e), 1);
    close_fd(&status_fd);
    program_close(&program);
}

static void descriptors_in_any_order(void **state)
{
    _cleanup_free_ char *path =
        make("fds",
             "#!/bin/sh\necho three >&3; echo four >&4; echo no >&0\n"
             "cat <&5\nexit 0\n",
             0755);
    char *const argv[] = {path, NULL}, *const envp[] = {NULL};
    struct program_start how = {.argv = argv, .envp = envp, .fd_count = 6};
    int a[2], b[2], c[2], status_fd;
    struct program program;
    char text[16] = "";
    struct err e;

    (void)state;
    assert_ok(open_one(path, &program, &e), e);
    assert_int_equal(pipe2(a, O_CLOEXEC), 0);
    assert_int_equal(pipe2(b, O_CLOEXEC), 0);
    assert_int_equal(pipe2(c, O_CLOEXEC), 0);
    close_fd(&c[1]);
    /* Targets lie among the sources: 4 and 5 are pipes here as well. */
    memcpy(how.fds, (int[6]){-1, -1, -1, b[1], a[1], c[0]}, 6 * sizeof(int));
    assert_int_equal(run(&program, &how, &status_fd), 0);
    close_fd(&status_fd);
    assert_int_equal(read(b[0], text, sizeof(text)), 6);
    assert_memory_equal(text, "three\n", 6);
    assert_int_equal(read(a[0], text, sizeof(text)), 5);
    assert_memory_equal(text, "four\n", 5);
    for (int i = 0; i < 2; i++) {
        close_fd(&a[i]);
        close_fd(&b[i]);
        close_fd(&c[i]);
    }
    program_close(&program);
}

static void says_what_failed(void **state)
{
    _cleanup_free_ char *path = make("odd", "#!/nonexistent/sh\n", 0755);
    char *const argv[] = {path, NULL}, *const envp[] = {NULL};
    struct program_start how = {.argv = argv, .envp = envp, .fd_count = 0};
    struct program program;
    struct err e;
    int status_fd;

    (void)state;
    assert_ok(open_one(path, &program, &e), e);
    assert_int_equal(WEXITSTATUS(run(&program, &how, &status_fd)), 127);
    assert_int_equal(program_status(status_fd, &e), -ENOENT);
    assert_said(e, ENOENT, "it cannot be executed");
    close_fd(&status_fd);
    how.cwd = "/nonexistent";
    assert_int_equal(WEXITSTATUS(run(&program, &how, &status_fd)), 127);
    assert_int_equal(program_status(status_fd, &e), -ENOENT);
    assert_said(e, ENOENT, "its working directory");
    close_fd(&status_fd);
    program_close(&program);
}

/* Signals that we ignore or block are the program's again. */
static void signals_are_reset(void **state)
{
    _cleanup_free_ char *path =
        make("signals", "#!/bin/sh\nkill -HUP $$\nexit 3\n", 0755);
    char *const argv[] = {path, NULL}, *const envp[] = {NULL};
    struct program_start how = {.argv = argv, .envp = envp, .fd_count = 0};
    struct program program;
    struct err e;
    int status_fd, status;

    (void)state;
    assert_ok(open_one(path, &program, &e), e);
    (void)signal(SIGHUP, SIG_IGN);
    status = run(&program, &how, &status_fd);
    (void)signal(SIGHUP, SIG_DFL);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGHUP);
    close_fd(&status_fd);
    program_close(&program);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_is_named),    TEST(only_files_that_root_alone_may_write),
        TEST(runs_what_was_checked), TEST(descriptors_in_any_order),
        TEST(says_what_failed),      TEST(signals_are_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
