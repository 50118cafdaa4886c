#include "daemon.h"

#include <stdio.h>
#include <string.h>

#include "domus/mem.h"

/* First line of a small file of the kernel's, or an empty string. */
static void read_line(const char *path, char *line, int size)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");

    line[0] = '\0';
    if (f && fgets(line, size, f))
        line[strcspn(line, "\n")] = '\0';
    else
        line[0] = '\0';
}

int daemon_check_xen(const struct daemon *daemon, struct err *e)
{
    char type[64], capabilities[64];

    /* A builder that was configured knows what it needs. */
    if (daemon->config.builder[0])
        return 0;
    read_line("/sys/hypervisor/type", type, sizeof(type));
    read_line("/proc/xen/capabilities", capabilities, sizeof(capabilities));
    if (strstr(capabilities, "control_d"))
        return 0;
    if (strcmp(type, "xen") == 0)
        return err_set(e, ENODEV,
                       "this machine is a Xen guest or has no /proc/xen: "
                       "domusd must run in dom0, with xenfs mounted");
    return err_set(e, ENODEV,
                   "this machine does not run Xen (/sys/hypervisor/type is "
                   "'%s'): boot it with the Xen hypervisor, as dom0",
                   type);
}
