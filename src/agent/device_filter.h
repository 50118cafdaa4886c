/*
 * device_filter.h - which devices a container may use: its rules as a BPF
 * program that the kernel asks on each access.
 *
 * The last rule that speaks of a device decides, for each kind of access of
 * its own: what one rule allows to read and another to write may be opened for
 * both. What no rule speaks of is denied.
 */
#ifndef AGENT_DEVICE_FILTER_H
#define AGENT_DEVICE_FILTER_H

#include <linux/bpf.h>

#include "domus/err.h"
#include "domus/spec.h"

/* For each rule, and for what stands before and after all of them. */
#define DEVICE_FILTER_RULE_INSNS 8
#define DEVICE_FILTER_INSNS_MAX \
    (SPEC_DEVICES_MAX * DEVICE_FILTER_RULE_INSNS + 16)

/* The program for the rules; n_out instructions. Fails with EINVAL. */
int device_filter_compile(const struct spec_device_rule_list *rules,
                          struct bpf_insn insns[DEVICE_FILTER_INSNS_MAX],
                          size_t *n_out, struct err *e);

/* Attaches it to a cgroup. Nothing is done when there are no rules: all
 * devices may be used. Fails with ENOTSUP when the kernel has no filters. */
int device_filter_attach(int cgroup, const struct spec_device_rule_list *rules,
                         struct err *e);

#endif
