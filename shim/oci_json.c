#include "oci_read.h"

#include <string.h>

#include "domus/mem.h"
#include "oci.h"
#include "oci_ascii.h"

/*
 * What json-c would let pass: a number beyond 64 bits is cut to fit, a name is
 * cut at a NUL, and a file of "[],[],[]," becomes a hundred times its size in
 * memory. Looks at the bytes only, the grammar is json-c's affair.
 */
static int scan(const struct oci_path *path, const char *json, size_t n,
                struct err *e)
{
    static const char largest[] = "18446744073709551615";
    static const char nul[] = "\\u0000";
    size_t digits = 0;
    size_t values = 1;
    bool in_string = false;
    bool has_nul = false; /* the string that we are in, or were last */

    if (memchr(json, '\0', n))
        return oci_fail(path, e, EINVAL, "must not contain a NUL byte");
    for (size_t i = 0; i < n; i++) {
        char c = json[i];

        if (in_string) {
            has_nul |=
                n - i >= strlen(nul) && !memcmp(json + i, nul, strlen(nul));
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == ':' && has_nul)
            return oci_fail(path, e, EINVAL,
                            "must not contain a NUL in a name, at byte %zu", i);
        in_string = c == '"';
        has_nul &= !in_string;
        if (c == ',' || c == '[' || c == '{')
            values++;
        digits = c >= '0' && c <= '9' ? digits + 1 : 0;
        if (digits > strlen(largest) ||
            (digits == strlen(largest) &&
             memcmp(json + i + 1 - digits, largest, digits) > 0))
            return oci_fail(path, e, EINVAL,
                            "a number of more than 64 bits at byte %zu", i);
    }
    if (values > OCI_VALUES_MAX)
        return oci_fail(path, e, EFBIG, "must have at most %d values",
                        OCI_VALUES_MAX);
    return 0;
}

static void cleanup_tokenerp(struct json_tokener **tokener)
{
    json_tokener_free(*tokener);
}

static int parse(const struct oci_path *path, const char *json, size_t n,
                 struct json_object **tree_out, struct err *e)
{
    /* The tokener counts the value inside the innermost brackets, too. */
    _cleanup_(cleanup_tokenerp) struct json_tokener *tokener =
        json_tokener_new_ex(OCI_DEPTH_MAX + 1);
    enum json_tokener_error code;

    if (!tokener)
        return oci_fail(path, e, ENOMEM, "out of memory");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    *tree_out = json_tokener_parse_ex(tokener, json, (int)n);
    code = json_tokener_get_error(tokener);
    if (code == json_tokener_success)
        return 0;
    if (code == json_tokener_continue || code == json_tokener_error_parse_eof)
        return oci_fail(path, e, EINVAL, "ends too early");
    if (code == json_tokener_error_depth)
        return oci_fail(path, e, EINVAL, "is nested more than %d deep",
                        OCI_DEPTH_MAX);
    /* Near, since escapes are longer than what they stand for. */
    return oci_fail(path, e, EINVAL, "is not JSON: %s near byte %zu",
                    json_tokener_error_desc(code),
                    json_tokener_get_parse_end(tokener));
}

int oci_read_json(const struct oci_path *path, const char *json, size_t n,
                  struct json_object **tree_out, struct err *e)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    size_t bad;

    if (n > OCI_CONFIG_MAX)
        return oci_fail(path, e, EFBIG, "is larger than %d bytes",
                        OCI_CONFIG_MAX);
    if (scan(path, json, n, e) < 0)
        return -e->code;
    if (oci_ascii(json, n, &text, &bad) < 0)
        return oci_fail(path, e, EINVAL, "is not JSON: no UTF-8 at byte %zu",
                        bad);
    /* json-c knows a value's end for certain only by the final NUL. */
    buf_append(&text, "", 1);
    return parse(path, (const char *)buf_data(&text), buf_len(&text), tree_out,
                 e);
}
