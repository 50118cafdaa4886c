/*
 * docs/PROTOCOL.md against the tables: every message, field, kind and bound
 * of the code stands there, and nothing that the code does not have. Run with
 * --print for the tables to put into the document.
 */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "domus/ctl.h"
#include "domus/job.h"
#include "domus/mem.h"
#include "domus/proto.h"

#define DOCUMENT "docs/PROTOCOL.md"

static const char *kind_name(const struct wire_field *f)
{
    switch (f->kind) {
    case WIRE_BOOL:
        return "bool";
    case WIRE_U32:
        return "u32";
    case WIRE_U64:
        return "u64";
    case WIRE_I64:
        return "i64";
    case WIRE_STRING:
        return "string";
    case WIRE_BYTES:
        return "bytes";
    case WIRE_STRINGS:
        return "strings";
    case WIRE_U32S:
        return "u32s";
    case WIRE_STRUCT:
        return f->desc->name;
    case WIRE_STRUCTS:
        return f->desc->name;
    }
    return "?";
}

/* Structs in the order in which they are first met, each once. */
struct seen {
    const struct wire_desc *v[64];
    size_t n;
};

static void see(struct seen *seen, const struct wire_desc *desc)
{
    if (!desc)
        return;
    for (size_t i = 0; i < seen->n; i++)
        if (seen->v[i] == desc)
            return;
    assert_true(seen->n < ARRAY_SIZE(seen->v));
    seen->v[seen->n++] = desc;
    for (size_t i = 0; i < desc->field_count; i++)
        see(seen, desc->fields[i].desc);
}

static void print_structs(FILE *out, const struct seen *seen)
{
    for (size_t i = 0; i < seen->n; i++) {
        const struct wire_desc *desc = seen->v[i];

        fprintf(out, "\n`%s`\n\n", desc->name);
        if (desc->field_count == 0) {
            fprintf(out, "no fields\n");
            continue;
        }
        fprintf(out, "| field | kind | at most |\n|---|---|---|\n");
        for (size_t k = 0; k < desc->field_count; k++) {
            const struct wire_field *f = &desc->fields[k];

            fprintf(out, "| %s | %s%s |", f->name,
                    f->kind == WIRE_STRUCTS ? "list of " : "", kind_name(f));
            if (f->kind == WIRE_STRING || f->kind == WIRE_BYTES)
                fprintf(out, " %u bytes |\n", f->max);
            else if (f->kind == WIRE_STRINGS)
                fprintf(out, " %u of %u bytes |\n", f->max, f->max_each);
            else if (f->max)
                fprintf(out, " %u |\n", f->max);
            else
                fprintf(out, " |\n");
        }
    }
}

static bool may_say(uint32_t type, enum proto_direction direction)
{
    uint8_t header[PROTO_HEADER_SIZE] = {0};
    struct proto_header h;
    struct err e = ERR_INIT;

    header[4] = (uint8_t)type;
    return proto_header_decode(header, direction, &h, &e) == 0;
}

static void print_proto(FILE *out)
{
    struct seen seen = {.n = 0};

    fprintf(out, "| number | name | from | payload |\n|---|---|---|---|\n");
    for (uint32_t type = 1; type < PROTO_TYPE_COUNT; type++) {
        const struct wire_desc *desc = proto_desc((enum proto_type)type);
        bool host = may_say(type, PROTO_TO_GUEST);
        bool guest = may_say(type, PROTO_FROM_GUEST);

        fprintf(out, "| %u | %s | %s | %s |\n", type, proto_type_name(type),
                host && guest ? "both"
                : host        ? "host"
                              : "guest",
                desc ? desc->name : "bytes");
        see(&seen, desc);
    }
    print_structs(out, &seen);
}

static void print_packets(FILE *out, const struct packet_protocol *protocol)
{
    struct seen seen = {.n = 0};

    fprintf(out, "| number | name | body |\n|---|---|---|\n");
    for (uint16_t type = 1; type < protocol->type_count; type++) {
        const struct packet_type *t = &protocol->types[type];

        fprintf(out, "| %u | %s | %s |\n", type, t->name,
                t->desc ? t->desc->name : "none");
        see(&seen, t->desc);
    }
    print_structs(out, &seen);
}

static char *printed(const char *which)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    assert_non_null(out);
    if (strcmp(which, "guest") == 0)
        print_proto(out);
    else
        print_packets(out, strcmp(which, "control") == 0 ? &ctl_protocol
                                                         : &job_protocol);
    fclose(out);
    return text;
}

static char *document(void)
{
    char *text = xcalloc(1, 1 << 20);
    FILE *f = fopen(DOCUMENT, "re");

    assert_non_null(f);
    (void)!fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

/* What stands in the document between <!-- which --> and <!-- end -->. */
static char *documented(const char *which)
{
    _cleanup_free_ char *text = document();
    _cleanup_free_ char *mark = xasprintf("<!-- %s -->\n", which);
    char *start, *end;

    start = strstr(text, mark);
    assert_non_null(start);
    start += strlen(mark);
    end = strstr(start, "<!-- end -->\n");
    assert_non_null(end);
    return xstrndup(start, (size_t)(end - start));
}

static void compare(const char *which)
{
    _cleanup_free_ char *wanted = printed(which);
    _cleanup_free_ char *there = documented(which);

    assert_string_equal(there, wanted);
}

static void guest_protocol_is_documented(void **state)
{
    (void)state;
    compare("guest");
}

static void control_protocol_is_documented(void **state)
{
    (void)state;
    compare("control");
}

static void builder_protocol_is_documented(void **state)
{
    (void)state;
    compare("builder");
}

static void headings_name_the_versions(void **state)
{
    static const struct {
        const char *name;
        unsigned version;
    } protocols[] = {
        {"Guest", PROTO_VERSION},
        {"Control", CTL_VERSION},
        {"Builder", JOB_VERSION},
    };
    _cleanup_free_ char *text = document();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
        _cleanup_free_ char *heading =
            xasprintf("\n## %s protocol, version %u\n", protocols[i].name,
                      protocols[i].version);

        assert_non_null(strstr(text, heading));
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_protocol_is_documented),
        cmocka_unit_test(control_protocol_is_documented),
        cmocka_unit_test(builder_protocol_is_documented),
        cmocka_unit_test(headings_name_the_versions),
    };

    if (argc == 3 && strcmp(argv[1], "--print") == 0) {
        _cleanup_free_ char *text = printed(argv[2]);

        fputs(text, stdout);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
