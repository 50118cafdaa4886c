/*
 * permit.h - who may ask what of domusd, as a table.
 */
#ifndef DOMUS_PERMIT_H
#define DOMUS_PERMIT_H

#include <stdbool.h>
#include <sys/types.h>

#include "domus/ctl.h"

enum role { ROLE_ROOT, ROLE_OTHER, ROLE_COUNT };

enum role permit_role(uid_t uid);
/* False too for what is no request. */
bool permit_allows(enum role role, uint16_t type);

#endif
