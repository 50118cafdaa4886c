/*
 * docs/OCI-SUPPORT.md against the tables that config.json is read by, and
 * both against the specification's names of fields. Run with --print for the
 * table to put into the document.
 */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "domus/mem.h"
#include "shim/oci_sections.h"

#define DOCUMENT "docs/OCI-SUPPORT.md"
#define NAMES    "tests/unit/oci-fields.txt"
#define FILE_MAX (1 << 20)

/* Called for each field of the tables; path is its full name. */
typedef void visit_fn(const char *path, const struct oci_field *field,
                      void *context);

static void walk(const struct oci_table *table, const char *above,
                 visit_fn *visit, void *context)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct oci_field *field = &table->fields[i];
        bool is_list =
            field->kind == OCI_TAKE && field->type == json_type_array;
        _cleanup_free_ char *path =
            xasprintf("%s%s%s", above, *above ? "." : "", field->name);
        _cleanup_free_ char *below =
            xasprintf("%s%s", path, is_list ? "[]" : "");

        visit(path, field, context);
        if (field->table)
            walk(field->table, below, visit, context);
    }
}

static bool is_done(const struct oci_field *field)
{
    return field->kind != OCI_REFUSED && field->kind != OCI_NO_WORK;
}

static bool is_done_wholly(const struct oci_field *field)
{
    if (!field->table)
        return field->kind != OCI_REFUSED;
    for (size_t i = 0; i < field->table->n; i++)
        if (!is_done_wholly(&field->table->fields[i]))
            return false;
    return true;
}

static void print_row(const char *path, const struct oci_field *field,
                      void *context)
{
    const char *what = field->kind == OCI_REFUSED   ? "refused"
                       : field->kind == OCI_NO_WORK ? "needs no work"
                       : is_done_wholly(field)      ? "done"
                                                    : "in part";

    fprintf(context, "| `%s` | %s | %s |\n", path, what,
            field->why ? field->why : "");
}

static char *printed(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    fprintf(out, "| field | support | remark |\n|---|---|---|\n");
    walk(&oci_config_table, "", print_row, out);
    fclose(out);
    return text;
}

static char *file_text(const char *path)
{
    char *text = xcalloc(1, FILE_MAX);
    _cleanup_fclose_ FILE *f = fopen(path, "re");

    if (!f)
        fail_msg("%s: cannot be read (run from the top of the tree)", path);
    (void)!fread(text, 1, FILE_MAX - 1, f);
    return text;
}

static void document_is_up_to_date(void **state)
{
    _cleanup_free_ char *wanted = printed();
    _cleanup_free_ char *text = file_text(DOCUMENT);
    char *start = strstr(text, "<!-- fields -->\n");
    char *end;

    (void)state;
    assert_non_null(start);
    start += strlen("<!-- fields -->\n");
    end = strstr(start, "<!-- end -->\n");
    assert_non_null(end);
    *end = '\0';
    /* After a change of the tables: make regenerate. */
    assert_string_equal(start, wanted);
}

/* --- the specification's names ---------------------------------------------
 */

struct search {
    const char *name;
    bool found;
};

/* The field itself, or one that is refused or dealt with as a whole. */
static void look_for(const char *path, const struct oci_field *field,
                     void *context)
{
    struct search *search = context;
    size_t n = strlen(path);

    if (strncmp(path, search->name, n) != 0)
        return;
    if (search->name[n] == '\0' ||
        (!is_done(field) && strchr(".[", search->name[n])))
        search->found = true;
}

static void every_field_of_the_specification_is_known(void **state)
{
    _cleanup_free_ char *names = file_text(NAMES);
    char *rest = names, *name;
    size_t n = 0;

    (void)state;
    while ((name = strsep(&rest, "\n"))) {
        struct search search = {.name = name};

        if (*name == '\0' || *name == '#')
            continue;
        walk(&oci_config_table, "", look_for, &search);
        if (!search.found)
            fail_msg("%s is in no table", name);
        n++;
    }
    assert_true(n > 300);
}

static void look_up(const char *path, const struct oci_field *field,
                    void *context)
{
    _cleanup_free_ char *line = xasprintf("\n%s\n", path);

    (void)field;
    if (!strstr(context, line))
        fail_msg("%s is no field of the specification", path);
}

static void no_field_is_invented(void **state)
{
    _cleanup_free_ char *names = file_text(NAMES);

    (void)state;
    walk(&oci_config_table, "", look_up, names);
}

static void says_why(const char *path, const struct oci_field *field,
                     void *context)
{
    (void)context;
    if (!is_done(field) && (!field->why || !*field->why))
        fail_msg("%s: no reason is given", path);
}

static void every_refusal_has_a_reason(void **state)
{
    (void)state;
    walk(&oci_config_table, "", says_why, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(document_is_up_to_date),
        cmocka_unit_test(every_field_of_the_specification_is_known),
        cmocka_unit_test(no_field_is_invented),
        cmocka_unit_test(every_refusal_has_a_reason),
    };

    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        _cleanup_free_ char *text = printed();

        fputs(text, stdout);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
