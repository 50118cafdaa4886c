/*
 * oci_read.h - reads JSON objects into structs by table; private to oci*.c.
 *
 * Each object of the specification has one table with all of its fields. A
 * field is taken into a struct, or needs no work in a domain, or is refused;
 * of the latter two the table says why. Every type is checked, of fields that
 * need no work too. null counts as absent, as it does in Go.
 */
#ifndef DOMUS_OCI_READ_H
#define DOMUS_OCI_READ_H

#include <json-c/json.h>

#include "domus/err.h"
#include "domus/wire.h"

/*
 * Where in the document we are: "linux.namespaces[2].type". The outermost one
 * may be the document itself; without one it is config.json.
 */
struct oci_path {
    const struct oci_path *up; /* NULL in the outermost one */
    const char *document;      /* instead of name: "process" */
    const char *name;          /* NULL: an entry of a list */
    size_t index;
};

/* Reads value into what object points to. */
typedef int oci_take(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e);

enum oci_kind {
    OCI_STRING,   /* char * */
    OCI_ABSOLUTE, /* char *, an absolute path */
    OCI_BOOL,     /* bool */
    OCI_U32,      /* uint32_t, from min to max */
    OCI_U64,      /* uint64_t, from 0 to max */
    OCI_I64,      /* int64_t, from min to max */
    OCI_STRINGS,  /* struct string_list */
    OCI_TABLE,    /* an object with a table of its own */
    OCI_TAKE,     /* by function */
    OCI_NO_WORK,  /* accepted: a domain gives it anyway, or has no use for it */
    OCI_REFUSED,  /* not carried out: whatever says something is an error */
};

struct oci_field {
    const char *name;
    enum oci_kind kind;
    bool required;
    size_t offset;       /* into the object of the table */
    int64_t min;         /* of a number; 1: a string or list isn't empty */
    uint64_t max;        /* of a number; length of a string or list */
    uint32_t max_each;   /* length of each string of a list */
    enum json_type type; /* of OCI_TAKE, OCI_NO_WORK and OCI_REFUSED */
    oci_take *take;
    const struct oci_table *table;
    const char *why; /* needs no work, or is refused */
};

/* The two kinds that go nowhere, with the reason. */
#define OCI_NO_WORK_FIELD(field, json, reason)                                \
    {                                                                         \
        .name = (field), .kind = OCI_NO_WORK, .type = (json), .why = (reason) \
    }
#define OCI_REFUSED_FIELD(field, json, reason)                                \
    {                                                                         \
        .name = (field), .kind = OCI_REFUSED, .type = (json), .why = (reason) \
    }

struct oci_table {
    const struct oci_field *fields;
    size_t n;
};

#define OCI_TABLE_OF(array)                                        \
    {                                                              \
        .fields = (array), .n = sizeof(array) / sizeof((array)[0]) \
    }

/* Sets "config.json: path: text", or the document's name; returns -code. */
int oci_fail(const struct oci_path *path, struct err *e, int code,
             const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Logs "config.json: path: text" as a warning. */
void oci_warn(const struct oci_path *path, const char *text);

/* JSON text of n bytes, within the bounds of oci.h. To be put by the caller. */
int oci_read_json(const struct oci_path *path, const char *json, size_t n,
                  struct json_object **tree_out, struct err *e);

/* Reads an object; what was taken before a failure stays in *object. */
int oci_read_object(const struct oci_path *path, struct json_object *value,
                    const struct oci_table *table, void *object, struct err *e);

/* Calls take for each entry of a list of at most max. */
int oci_read_list(const struct oci_path *path, struct json_object *value,
                  size_t max, oci_take *take, void *object, struct err *e);

/* *text_out is borrowed from value, has no NUL inside and at most max bytes. */
int oci_read_string(const struct oci_path *path, struct json_object *value,
                    size_t max, const char **text_out, struct err *e);

/* Makes one of several slashes, and leaves out "." and a slash at the end; in
 * place. ".." stays, since what it means depends on links. */
void oci_squeeze_path(char *path);

int oci_read_number(const struct oci_path *path, struct json_object *value,
                    int64_t min, uint64_t max, uint64_t *number_out,
                    struct err *e);

#endif
