/*
 * containerd-shim-domus-v2: what containerd runs to put a container into a Xen
 * domain. The actions are in start.c, delete.c and serve.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actions.h"
#include "bootstrap.h"
#include "domus/mem.h"
#include "log_writer.h"

static const char usage[] =
    "usage: containerd-shim-domus-v2 [FLAG ...] start | delete\n"
    "The runtime io.containerd.domus.v2 of containerd, which runs this program "
    "itself:\n"
    "  ctr run --rm --runtime io.containerd.domus.v2 IMAGE NAME [COMMAND]\n"
    "start makes a server for a container, in its bundle's directory, and "
    "prints the\n"
    "server's address; delete removes what is left of a container.\n"
    "  -namespace NAME       containerd's namespace\n"
    "  -id ID                the container\n"
    "  -bundle DIRECTORY     of delete: its bundle; else the current "
    "directory\n"
    "  -address PATH         containerd's socket; events go to PATH.ttrpc\n"
    "  -publish-binary PATH  not used\n"
    "  -socket PATH          where the server shall listen\n"
    "  -debug-socket PATH    not used\n"
    "  -debug                say more in the log\n"
    "  -info                 print what containerd asks about a runtime\n"
    "  -v, -version          print the version\n"
    "  -h, -help             print this\n";

static int print_info(void)
{
    _cleanup_buf_ struct buf out = BUF_INIT;

    bootstrap_info(&out);
    return write(STDOUT_FILENO, buf_data(&out), buf_len(&out)) ==
                   (ssize_t)buf_len(&out)
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct options options;
    struct err e = ERR_INIT;

    if (argc == 2 && strcmp(argv[0], LOG_WRITER_NAME) == 0)
        return log_writer_main(argv[1]);
    (void)umask(0077);
    if (options_parse(argc, argv, &options, &e) < 0) {
        (void)fprintf(stderr, "domus: %s; -help tells which there are\n",
                      e.text);
        return EXIT_FAILURE;
    }
    if (options.help) {
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (options.version) {
        (void)printf("containerd-shim-domus-v2 %s\n", DOMUS_VERSION);
        return EXIT_SUCCESS;
    }
    if (options.info)
        return print_info();
    if (strcmp(options.action, "start") == 0)
        return action_start(&options);
    if (strcmp(options.action, "delete") == 0)
        return action_delete(&options);
    if (!options.action[0])
        return action_serve(&options);
    (void)fprintf(stderr,
                  "domus: unknown action %s: neither start nor delete\n",
                  options.action);
    return EXIT_FAILURE;
}
