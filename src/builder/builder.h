/*
 * builder.h - the domain builder: a role of domusd's binary, in a process of
 * its own, that speaks job.h on descriptor 3. Only here are libxl and the
 * xenstore library called.
 */
#ifndef DOMUS_BUILDER_H
#define DOMUS_BUILDER_H

/* argv[1] is "worker" or "watcher"; returns the exit status. */
int builder_main(int argc, char **argv);

#endif
