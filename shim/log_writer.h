/*
 * log_writer.h - the writer of a file:// log, a process of its own. Writing to
 * a file may block for as long as its disk is frozen or its server away, and
 * the shim has one thread, which has to answer whatever happens to a log.
 *
 * It is the shim's own program by another name: it makes the file, copies its
 * standard input there until that ends, and tells on standard output what there
 * is to tell. What a full disk has no room for is lost and told of; later
 * output is written when there is room again.
 */
#ifndef DOMUS_LOG_WRITER_H
#define DOMUS_LOG_WRITER_H

#include <sys/types.h>

#include "domus/err.h"

/* argv[0]; argv[1] is the file. */
#define LOG_WRITER_NAME "domus-log"

/* The program; its exit status. */
int log_writer_main(const char *path);

/* input: borrowed, what it reads. reports_out does not block, and ends with
 * the process, which the caller has to reap. */
int log_writer_start(const char *path, int input, int *reports_out,
                     pid_t *pid_out, struct err *e);

/* 1: said is its next report, the first of which with code 0 means that the
 * file is open; 0: there is none yet; -1: it has ended. */
int log_writer_read(int reports, struct err *said);

#endif
