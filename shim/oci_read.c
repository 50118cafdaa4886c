#include "oci_read.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"

/* Unknown fields of one object that are worth a line in the log. */
#define UNKNOWN_MAX 4

static void path_print(FILE *out, const struct oci_path *path)
{
    if (!path || path->document)
        return;
    path_print(out, path->up);
    if (path->name)
        fprintf(out, "%s%s", path->up && !path->up->document ? "." : "",
                LOG_Q(path->name, strlen(path->name)));
    else
        fprintf(out, "[%zu]", path->index);
}

static char *path_text(const struct oci_path *path)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    if (!out)
        return xstrdup("?");
    path_print(out, path);
    (void)fclose(out);
    return text ? text : xstrdup("?");
}

static const char *document(const struct oci_path *path)
{
    while (path && path->up)
        path = path->up;
    return path && path->document ? path->document : "config.json";
}

int oci_fail(const struct oci_path *path, struct err *e, int code,
             const char *format, ...)
{
    _cleanup_free_ char *where = path_text(path);
    _cleanup_free_ char *what = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&what, format, args) < 0)
        what = NULL;
    va_end(args);
    return err_set(e, code, "%s: %s%s%s", document(path), where,
                   *where ? ": " : "", what ? what : "is not valid");
}

static const char *type_name(enum json_type type)
{
    switch (type) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return "true or false";
    case json_type_double:
    case json_type_int:
        return "an integer";
    case json_type_object:
        return "an object";
    case json_type_array:
        return "a list";
    case json_type_string:
        return "a string";
    }
    return "something else";
}

static int check_type(const struct oci_path *path, struct json_object *value,
                      enum json_type type, struct err *e)
{
    if (json_object_is_type(value, type))
        return 0;
    return oci_fail(path, e, EINVAL, "must be %s", type_name(type));
}

int oci_read_string(const struct oci_path *path, struct json_object *value,
                    size_t max, const char **text_out, struct err *e)
{
    const char *text;
    size_t n;

    if (check_type(path, value, json_type_string, e) < 0)
        return -e->code;
    text = json_object_get_string(value);
    n = (size_t)json_object_get_string_len(value);
    if (strlen(text) != n)
        return oci_fail(path, e, EINVAL, "must not contain a NUL");
    if (n > max)
        return oci_fail(path, e, EINVAL, "must have at most %zu bytes", max);
    *text_out = text;
    return 0;
}

static int take_string(const struct oci_path *path, struct json_object *value,
                       const struct oci_field *field, char **slot,
                       struct err *e)
{
    const char *text;

    if (oci_read_string(path, value, field->max, &text, e) < 0)
        return -e->code;
    if (field->kind == OCI_ABSOLUTE && text[0] != '/')
        return oci_fail(path, e, EINVAL, "must be an absolute path");
    if (!*text && field->min > 0)
        return oci_fail(path, e, EINVAL, "must not be empty");
    free(*slot);
    *slot = xstrdup(text);
    return 0;
}

void oci_squeeze_path(char *path)
{
    const char *in = path;
    char *out = path;

    while (*in) {
        size_t n;

        in += strspn(in, "/");
        n = strcspn(in, "/");
        if (n > 0 && !(n == 1 && in[0] == '.')) {
            *out++ = '/';
            memmove(out, in, n);
            out += n;
        }
        in += n;
    }
    if (out == path)
        *out++ = '/';
    *out = '\0';
}

int oci_read_number(const struct oci_path *path, struct json_object *value,
                    int64_t min, uint64_t max, uint64_t *number_out,
                    struct err *e)
{
    int64_t number;

    if (json_object_is_type(value, json_type_int)) {
        number = json_object_get_int64(value);
        if (number < 0 ? number >= min
                       : (json_object_get_uint64(value) <= max &&
                          (min < 0 || number >= min))) {
            *number_out =
                number < 0 ? (uint64_t)number : json_object_get_uint64(value);
            return 0;
        }
    }
    return oci_fail(path, e, EINVAL,
                    "must be an integer from %" PRId64 " to %" PRIu64, min,
                    max);
}

int oci_read_list(const struct oci_path *path, struct json_object *value,
                  size_t max, oci_take *take, void *object, struct err *e)
{
    size_t n;

    if (check_type(path, value, json_type_array, e) < 0)
        return -e->code;
    n = json_object_array_length(value);
    if (n > max)
        return oci_fail(path, e, EINVAL, "must have at most %zu entries", max);
    for (size_t i = 0; i < n; i++) {
        const struct oci_path entry = {.up = path, .index = i};

        if (take(&entry, json_object_array_get_idx(value, i), object, e) < 0)
            return -e->code;
    }
    return 0;
}

struct strings_target {
    struct string_list *list;
    uint32_t max_each;
};

static int take_strings_entry(const struct oci_path *path,
                              struct json_object *value, void *object,
                              struct err *e)
{
    struct strings_target *target = object;
    const char *text;

    if (oci_read_string(path, value, target->max_each, &text, e) < 0)
        return -e->code;
    string_list_add(target->list, text);
    return 0;
}

static int take_strings(const struct oci_path *path, struct json_object *value,
                        const struct oci_field *field, struct string_list *list,
                        struct err *e)
{
    struct strings_target target = {.list = list, .max_each = field->max_each};

    string_list_clear(list);
    if (oci_read_list(path, value, field->max, take_strings_entry, &target, e) <
        0)
        return -e->code;
    if ((int64_t)list->n < field->min)
        return oci_fail(path, e, EINVAL, "must not be empty");
    return 0;
}

/* Go's encoder writes many fields that were never set: "", 0, {}, []. */
static bool says_nothing(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return true;
    case json_type_boolean:
        return !json_object_get_boolean(value);
    case json_type_int:
        return json_object_get_int64(value) == 0;
    case json_type_string:
        return json_object_get_string_len(value) == 0;
    case json_type_array:
        return json_object_array_length(value) == 0;
    case json_type_object: {
        struct json_object_iter entry;

        json_object_object_foreachC(value, entry)
        {
            if (!says_nothing(entry.val))
                return false;
        }
        return true;
    }
    case json_type_double:
        break;
    }
    return false;
}

static int take_field(const struct oci_path *path, struct json_object *value,
                      const struct oci_field *field, void *object,
                      struct err *e)
{
    void *slot = (char *)object + field->offset;
    uint64_t number;

    switch (field->kind) {
    case OCI_STRING:
    case OCI_ABSOLUTE:
        return take_string(path, value, field, slot, e);
    case OCI_STRINGS:
        return take_strings(path, value, field, slot, e);
    case OCI_TABLE:
        return oci_read_object(path, value, field->table, slot, e);
    case OCI_BOOL:
        if (check_type(path, value, json_type_boolean, e) < 0)
            return -e->code;
        *(bool *)slot = json_object_get_boolean(value);
        return 0;
    case OCI_U32:
        if (oci_read_number(path, value, field->min, field->max, &number, e) <
            0)
            return -e->code;
        *(uint32_t *)slot = (uint32_t)number;
        return 0;
    case OCI_U64:
    case OCI_I64:
        return oci_read_number(path, value, field->min, field->max, slot, e);
    case OCI_TAKE:
        if (check_type(path, value, field->type, e) < 0)
            return -e->code;
        return field->take(path, value, slot, e);
    case OCI_NO_WORK:
        return check_type(path, value, field->type, e);
    case OCI_REFUSED:
        if (check_type(path, value, field->type, e) < 0)
            return -e->code;
        if (says_nothing(value))
            return 0;
        return oci_fail(path, e, ENOTSUP, "is not supported: %s", field->why);
    }
    return 0;
}

void oci_warn(const struct oci_path *path, const char *text)
{
    _cleanup_free_ char *where = path_text(path);

    log_warn("%s: %s: %s", document(path), where, text);
}

/*
 * The specification forbids an error for a field that it does not know, and
 * we promise to drop nothing in silence: hence a warning.
 */
static void warn_unknown(const struct oci_path *path, struct json_object *value,
                         const struct oci_table *table)
{
    struct json_object_iter entry;
    size_t unknown = 0;

    json_object_object_foreachC(value, entry)
    {
        size_t i = 0;

        while (i < table->n && strcmp(table->fields[i].name, entry.key) != 0)
            i++;
        if (i == table->n && unknown++ < UNKNOWN_MAX) {
            const struct oci_path at = {.up = path, .name = entry.key};

            oci_warn(&at, "unknown field, ignored");
        }
    }
}

int oci_read_object(const struct oci_path *path, struct json_object *value,
                    const struct oci_table *table, void *object, struct err *e)
{
    if (check_type(path, value, json_type_object, e) < 0)
        return -e->code;
    for (size_t i = 0; i < table->n; i++) {
        const struct oci_field *field = &table->fields[i];
        const struct oci_path at = {.up = path, .name = field->name};
        struct json_object *member = NULL;

        if (json_object_object_get_ex(value, field->name, &member) && member) {
            if (take_field(&at, member, field, object, e) < 0)
                return -e->code;
        } else if (field->required) {
            return oci_fail(&at, e, EINVAL, "is missing");
        }
    }
    warn_unknown(path, value, table);
    return 0;
}
