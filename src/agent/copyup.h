/*
 * copyup.h - what an image has in a directory, copied into the file system
 * that will cover it.
 */
#ifndef AGENT_COPYUP_H
#define AGENT_COPYUP_H

#include "domus/err.h"

/*
 * from and to are directories, perhaps O_PATH. Files, directories, links and
 * special files with modes, owners and times; a name is never followed. Fails
 * with EFBIG beyond what one should copy, ENOSPC when to is full.
 */
int copyup(int from, int to, struct err *e);

#endif
