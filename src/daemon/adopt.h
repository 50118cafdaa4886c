/*
 * adopt.h - what domusd does first: finds the sandboxes of the domusd before
 * it, by record and by UUID in Xen. Domains that run are taken over; what was
 * half made, half destroyed, or has a record but no domain is cleaned away.
 * A domain without a record is not ours, whatever its name.
 */
#ifndef DOMUS_ADOPT_H
#define DOMUS_ADOPT_H

#include "daemon.h"

typedef void adopt_done_fn(struct daemon *daemon);

/* done is called once it is known what there is. EPROTONOSUPPORT: there are
 * records of a newer domusd, and nothing was touched. */
int adopt_all(struct daemon *daemon, adopt_done_fn *done, struct err *e);

#endif
