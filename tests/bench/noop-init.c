/*
 * noop-init.c - the smallest guest: says that it is there and powers off. The
 * yardstick beside which `make bench` puts a container's start.
 */
#include <linux/reboot.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
    static const char message[] = "noop-init is up\n";

    (void)!write(STDOUT_FILENO, message, sizeof(message) - 1);
    /* Time for the console to be read before the domain is gone. */
    (void)sleep(2);
    (void)reboot(LINUX_REBOOT_CMD_POWER_OFF);
    return 1;
}
