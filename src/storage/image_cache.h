/*
 * image_cache.h - the directory of images on disk.
 *
 * <digest>.erofs are the images; keys/<identity> is a symbolic link whose
 * text is the file name of the image that was made from those layers. What is
 * half done is called .build-…; only whole, synced files get their name. An
 * image that no key leads to is of no use once its last container is gone.
 */
#ifndef DOMUS_IMAGE_CACHE_H
#define DOMUS_IMAGE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"

#define IMAGE_SUFFIX       ".erofs"
#define IMAGE_BUILD_PREFIX ".build-"
/* What unused images leave free: a twentieth of the disk, or so many bytes. */
#define IMAGE_DISK_REST     20
#define IMAGE_DISK_REST_MAX (4ull << 30)

struct image_cache {
    char *dir; /* owned */
    int dir_fd;
    int keys_fd;
};

/* Creates the directories where they are missing; removes half-made files. */
int image_cache_open(struct image_cache *cache, const char *dir, struct err *e);
void image_cache_close(struct image_cache *cache);

/* The image made from those layers, if there is one and it is whole. */
bool image_cache_find(struct image_cache *cache, const struct digest *identity,
                      struct digest *digest_out);

/* A new, empty file for an image; *path_out is the caller's. */
int image_cache_new_file(struct image_cache *cache, char **path_out,
                         struct err *e);

/* Gives a synced new file its name. identity: NULL for no key. */
int image_cache_store(struct image_cache *cache, const char *path,
                      const struct digest *digest,
                      const struct digest *identity, struct err *e);

/* Opens an image and checks that it is whole; notes that it was used. */
int image_cache_open_image(struct image_cache *cache,
                           const struct digest *digest, int *fd_out,
                           struct err *e);

/* True when file_name is that of an image. */
bool image_cache_name_valid(const char *file_name, struct digest *digest_out);

/* Removes images that in_use() denies: those without a key, and the longest
 * unused ones while they take more than max_bytes together or fill the disk. */
typedef bool image_in_use_fn(void *context, const struct digest *digest);
int image_cache_trim(struct image_cache *cache, uint64_t max_bytes,
                     image_in_use_fn *in_use, void *context, struct err *e);

#endif
