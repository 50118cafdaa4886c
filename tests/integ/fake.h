/*
 * fake.h - the builder for machines without Xen: it speaks job.h as worker and
 * as watcher, and a "domain" is the real domus-init as PID 1 of namespaces of
 * its own, in a root of its own.
 *
 * What Xen would know stands in DOMUS_FAKE_DIR/<domid>/, one file for each
 * fact, so that domains outlive workers and domusd. Words in the file
 * DOMUS_FAKE_DIR/fault make things go wrong, see the tests.
 */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_TEXT_MAX 4096
#define FAKE_TICK_MS  5
#define FAKE_LINGER_S 20 /* of a domain with "destroy-slow" */

_Noreturn void fake_die(const char *what);

/* DOMUS_FAKE_DIR */
const char *fake_directory(void);

char *fact_path(uint32_t domid, const char *fact);
bool fact_exists(uint32_t domid, const char *fact);
void fact_write(uint32_t domid, const char *fact, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Empty when there is none. */
char *fact_read(uint32_t domid, const char *fact);
/* False when it did not come in time. */
bool fact_wait(uint32_t domid, const char *fact);

/* One more, and what it was before. */
unsigned int fact_count(uint32_t domid, const char *fact);

void fake_write(const char *path, const char *text);
char *fake_read(const char *path);
void fake_remove_tree(int parent, const char *name);

/* Plays hypervisor for one domain in a process that is nobody's child, so
 * that it lives on as a domain does. */
void fake_domain_start(uint32_t domid);

/* All of its processes stand still, or go on. */
void fake_domain_freeze(uint32_t domid, bool frozen);

#endif
