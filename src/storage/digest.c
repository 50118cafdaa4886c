#include "digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include "domus/mem.h"

#define CHUNK (256 * 1024)

struct digester {
    EVP_MD_CTX *context; /* owned */
};

/* libcrypto fails here only when it is out of memory. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

struct digester *digester_new(void)
{
    struct digester *d = xcalloc(1, sizeof(*d));

    d->context = EVP_MD_CTX_new();
    must(d->context != NULL);
    must(EVP_DigestInit_ex(d->context, EVP_sha256(), NULL));
    return d;
}

void digester_add(struct digester *d, const void *bytes, size_t n)
{
    must(EVP_DigestUpdate(d->context, bytes, n));
}

struct digest digester_end(struct digester *d)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    struct digest digest = {{0}};
    unsigned int n = 0;

    must(EVP_DigestFinal_ex(d->context, bytes, &n));
    for (unsigned int i = 0; i < n && i < DIGEST_HEX_LENGTH / 2; i++)
        (void)snprintf(digest.hex + 2 * (size_t)i, 3, "%02x", bytes[i]);
    EVP_MD_CTX_free(d->context);
    free(d);
    return digest;
}

int digest_file(int fd, struct digest *digest_out, struct err *e)
{
    _cleanup_free_ unsigned char *chunk = xmalloc(CHUNK);
    struct digester *d;
    off_t at = 0;
    ssize_t n;

    d = digester_new();
    for (;;) {
        n = pread(fd, chunk, CHUNK, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        digester_add(d, chunk, (size_t)n);
        at += n;
    }
    if (n < 0) {
        int code = errno;

        (void)digester_end(d);
        errno = code;
        return err_errno(e, "read");
    }
    *digest_out = digester_end(d);
    return 0;
}

bool digest_hex_valid(const char *hex, size_t n)
{
    if (n != DIGEST_HEX_LENGTH)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!((hex[i] >= '0' && hex[i] <= '9') ||
              (hex[i] >= 'a' && hex[i] <= 'f')))
            return false;
    return true;
}
