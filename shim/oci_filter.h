/*
 * oci_filter.h - a seccomp filter as libseccomp builds it; private to oci*.c.
 */
#ifndef DOMUS_OCI_FILTER_H
#define DOMUS_OCI_FILTER_H

#include <linux/seccomp.h>
#include <seccomp.h>

#include "domus/spec.h"
#include "oci_read.h"

#define FILTER_ARGS_MAX   6    /* of a system call */
#define FILTER_RULES_MAX  4096 /* as many as a program has instructions */
#define FILTER_NAMES_TOLD 8    /* unknown names in one line of the log */

/* As libseccomp's scmp_arg_cmp, without its tricks of C++. */
struct filter_condition {
    uint32_t arg;
    enum scmp_compare op;
    uint64_t datum_a; /* the mask, of SCMP_CMP_MASKED_EQ */
    uint64_t datum_b;
};

struct filter {
    scmp_filter_ctx ctx; /* owned */
    uint32_t default_action;
    int last_call; /* highest number in a rule; -1: none */
    size_t n_rules;
    struct string_list unknown; /* names, the first few; owned */
    size_t n_unknown;
};

/* For the calls of x86-64; those of other architectures kill. */
int filter_init(const struct oci_path *path, struct filter *filter_out,
                uint32_t default_action, struct err *e);

int filter_add(const struct oci_path *path, struct filter *filter,
               const char *name, uint32_t action,
               const struct filter_condition *conditions, size_t n,
               struct err *e);

/* struct sock_filter, at most SPEC_SECCOMP_MAX bytes. */
int filter_compile(const struct oci_path *path, struct filter *filter,
                   struct byte_list *program_out, struct err *e);

void filter_clear(struct filter *filter);

#endif
