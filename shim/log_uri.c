#include "log_uri.h"

#include <stdlib.h>
#include <string.h>

#include "domus/ctl.h"
#include "domus/log.h"
#include "domus/mem.h"

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | 0x20) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* n bytes with %xx taken out; in a query + stands for a space. */
static int unescape(const char *text, size_t n, bool query, char **text_out,
                    struct err *e)
{
    _cleanup_free_ char *out = xmalloc(n + 1);
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        int high, low;

        if (text[i] != '%') {
            out[used++] = query && text[i] == '+' ? ' ' : text[i];
            continue;
        }
        high = i + 2 < n ? hex(text[i + 1]) : -1;
        low = high >= 0 ? hex(text[i + 2]) : -1;
        if (low < 0 || high * 16 + low == 0)
            return err_set(e, EINVAL, "a %% that is no escape");
        out[used++] = (char)(high * 16 + low);
        i += 2;
    }
    out[used] = '\0';
    if (used > SPEC_PATH_MAX)
        return err_set(e, ENAMETOOLONG, "more than %d bytes", SPEC_PATH_MAX);
    *text_out = steal_ptr(&out);
    return 0;
}

static bool has_key(const struct string_list *args, const char *key)
{
    for (size_t i = 0; i < args->n; i += 2)
        if (strcmp(args->v[i], key) == 0)
            return true;
    return false;
}

/* containerd hands over each key with the first of its values. */
static int add_pair(struct string_list *args, const char *pair, size_t n,
                    struct err *e)
{
    _cleanup_free_ char *key = NULL, *value = NULL;
    const char *equals = memchr(pair, '=', n);
    size_t key_len = equals ? (size_t)(equals - pair) : n;
    int r = unescape(pair, key_len, true, &key, e);

    if (r == 0 && equals)
        r = unescape(equals + 1, n - key_len - 1, true, &value, e);
    if (r < 0)
        return r;
    if (has_key(args, key))
        return 0;
    if (args->n + 2 > CTL_LOGGER_ARGS_MAX)
        return err_set(e, EINVAL, "more than %d parameters",
                       CTL_LOGGER_ARGS_MAX / 2);
    string_list_add(args, key);
    string_list_add(args, value ? value : "");
    return 0;
}

static int parse_query(const char *query, struct string_list *args,
                       struct err *e)
{
    while (*query) {
        size_t n = strcspn(query, "&");
        int r = n ? add_pair(args, query, n, e) : 0;

        if (r < 0)
            return r;
        query += n;
        query += *query == '&';
    }
    return 0;
}

static int parse_rest(const char *rest, struct log_uri *uri, struct err *e)
{
    size_t n = strcspn(rest, "?#");
    int r;

    if (rest[0] != '/')
        return err_set(e, EINVAL, "its path is not absolute");
    if (strchr(rest, '#'))
        return err_set(e, EINVAL, "a fragment (#) means nothing");
    if (rest[n] == '?' && uri->kind != LOG_URI_BINARY)
        return err_set(e, EINVAL, "parameters mean nothing to a file");
    r = unescape(rest, n, false, &uri->path, e);
    if (r < 0)
        return r;
    return rest[n] == '?' ? parse_query(rest + n + 1, &uri->args, e) : 0;
}

static int parse(const char *text, struct log_uri *uri, struct err *e)
{
    static const struct {
        const char *name;
        enum log_uri_kind kind;
    } schemes[] = {
        {"fifo", LOG_URI_FIFO},
        {"file", LOG_URI_FILE},
        {"binary", LOG_URI_BINARY},
    };
    const char *end = strstr(text, "://");

    if (!end) {
        uri->kind = LOG_URI_FIFO;
        if (text[0] != '/')
            return err_set(e, EINVAL, "neither an absolute path nor a URI");
        if (strlen(text) > SPEC_PATH_MAX)
            return err_set(e, ENAMETOOLONG, "more than %d bytes",
                           SPEC_PATH_MAX);
        uri->path = xstrdup(text);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t n = strlen(schemes[i].name);

        if (n != (size_t)(end - text) || strncmp(text, schemes[i].name, n) != 0)
            continue;
        uri->kind = schemes[i].kind;
        return parse_rest(end + 3, uri, e);
    }
    return err_set(e, EINVAL,
                   "domus knows fifo://, file:// and binary:// only");
}

int log_uri_parse(const char *text, struct log_uri *uri_out, struct err *e)
{
    struct log_uri uri = {0};
    int r = parse(text, &uri, e);

    if (r < 0) {
        log_uri_clear(&uri);
        return err_wrap(e, "\"%s\"", LOG_Q(text, strlen(text)));
    }
    *uri_out = uri;
    return 0;
}

void log_uri_clear(struct log_uri *uri)
{
    free(uri->path);
    string_list_clear(&uri->args);
    *uri = (struct log_uri){0};
}
