/*
 * address.h - the shim's socket: its name, making it, finding it again.
 */
#ifndef DOMUS_ADDRESS_H
#define DOMUS_ADDRESS_H

#include "domus/err.h"
#include "options.h"

#define ADDRESS_SCHEME "unix://"
#define ADDRESS_FILE   "address" /* in the bundle; containerd reads it */
#define ADDRESS_DIR    "/run/containerd/s"

/* directory/sha256(address/namespace/id), as containerd's own shims do, since
 * the path of a socket is short. */
char *address_path(const char *directory, const struct options *options);

/* Listens there; EADDRINUSE when another process does. A socket that nobody
 * listens at is replaced. Two callers at once are the caller's affair. */
int address_listen(const char *path, int *fd_out, struct err *e);

/* Removes the socket that the bundle's address file names, and the file. */
int address_remove(const char *bundle, struct err *e);

/* Removes the socket by the name that fd listens at. */
int address_remove_own(int fd, struct err *e);

#endif
