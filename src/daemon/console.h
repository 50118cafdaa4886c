/*
 * console.h - the last bytes that a guest wrote to its console, read from the
 * terminal that xenconsoled opened for it. The bytes are the guest's: they are
 * kept, bounded, and never acted upon.
 */
#ifndef DOMUS_CONSOLE_H
#define DOMUS_CONSOLE_H

#include "domus/ctl.h"
#include "domus/loop.h"

struct console;

/* path: what the builder named; must be a terminal in /dev/pts. */
int console_open(struct loop *loop, const char *path,
                 struct console **console_out, struct err *e);
void console_free(struct console **console); /* accepts NULL */

/* Everything kept, oldest first; the caller's. Console NULL: nothing. */
struct byte_list console_untrusted_tail(struct console *console);

#endif
