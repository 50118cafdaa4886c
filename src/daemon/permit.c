#include "permit.h"

/* The socket itself is root's; this is the second door behind it. */
static const bool permits[CTL_TYPE_COUNT][ROLE_COUNT] = {
    [CTL_CREATE] = {[ROLE_ROOT] = true},  [CTL_ATTACH] = {[ROLE_ROOT] = true},
    [CTL_DESTROY] = {[ROLE_ROOT] = true}, [CTL_CONSOLE] = {[ROLE_ROOT] = true},
    [CTL_LIST] = {[ROLE_ROOT] = true},    [CTL_PAUSE] = {[ROLE_ROOT] = true},
    [CTL_RESUME] = {[ROLE_ROOT] = true},  [CTL_UPDATE] = {[ROLE_ROOT] = true},
    [CTL_HOOKS] = {[ROLE_ROOT] = true},   [CTL_LOGGER] = {[ROLE_ROOT] = true},
};

enum role permit_role(uid_t uid)
{
    return uid == 0 ? ROLE_ROOT : ROLE_OTHER;
}

bool permit_allows(enum role role, uint16_t type)
{
    return type < CTL_TYPE_COUNT && role < ROLE_COUNT && permits[type][role];
}
