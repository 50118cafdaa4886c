/*
 * guest_files.h - kernel and initramfs for guests, and their digests in
 * guest.sha256, as `sha256sum` writes it. Checked before every build; read
 * again only when a file has changed.
 */
#ifndef DOMUS_GUEST_FILES_H
#define DOMUS_GUEST_FILES_H

#include <sys/stat.h>

#include "../storage/digest.h"

#define GUEST_KERNEL    "vmlinux"
#define GUEST_INITRAMFS "initramfs.cpio"
#define GUEST_DIGESTS   "guest.sha256"
#define GUEST_FILES     2

struct guest_files {
    char *kernel; /* paths; owned */
    char *initramfs;
    char *digests;
    struct {
        struct stat seen; /* st_ino 0: not read yet */
        struct digest digest;
    } files[GUEST_FILES];
};

void guest_files_init(struct guest_files *files, const char *dir);
void guest_files_clear(struct guest_files *files);
int guest_files_check(struct guest_files *files, struct err *e);

#endif
