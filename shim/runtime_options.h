/*
 * runtime_options.h - the options that a client gives the runtime in a Create.
 * There are none of domus's own; those of others are refused by name, but for
 * what changes nothing here.
 */
#ifndef DOMUS_RUNTIME_OPTIONS_H
#define DOMUS_RUNTIME_OPTIONS_H

#include "domus/err.h"
#include "wellknown.pb-c.h"

/* NULL is none. -ENOTSUP with the option's name, or -EINVAL. */
int runtime_options_check(const Wellknown__Any *options, struct err *e);

#endif
