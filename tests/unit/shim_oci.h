/* shim_oci.h - what the tests of the shim's oci.c share. */
#ifndef TESTS_SHIM_OCI_H
#define TESTS_SHIM_OCI_H

#include "tests/unit/unit.h"

#include <json-c/json.h>
#include <stdio.h>

#include "domus/mem.h"
#include "shim/oci.h"

#define CORPUS "tests/fuzz/corpus/oci/"

__attribute__((unused)) static char *file_text(const char *path, size_t *n_out)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char *text = xmalloc(OCI_CONFIG_MAX);

    if (!f)
        fail_msg("%s: cannot be read (run from the top of the tree)", path);
    *n_out = fread(text, 1, OCI_CONFIG_MAX - 1, f);
    text[*n_out] = '\0';
    return text;
}

/* What is written to a cgroup file, or "" when nothing is. */
__attribute__((unused)) static const char *
setting_of(const struct spec_setting_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i].name, name) == 0)
            return list->v[i].value;
    return "";
}

__attribute__((unused)) static int
parse_file(const char *path, struct oci_config *config_out, struct err *e)
{
    size_t n;
    _cleanup_free_ char *text = file_text(path, &n);

    return oci_parse(text, n, "/bundle", "house", config_out, e);
}

__attribute__((unused)) static int
parse_text(const char *text, struct oci_config *config_out, struct err *e)
{
    return oci_parse(text, strlen(text), "/bundle", "house", config_out, e);
}

__attribute__((unused)) static void must_refuse(const char *text, int code,
                                                const char *words)
{
    struct oci_config config;
    struct err e = ERR_INIT;

    if (parse_text(text, &config, &e) == 0) {
        oci_config_clear(&config);
        fail_msg("accepted: %.200s", text);
    }
    assert_said(e, code, words);
}

__attribute__((unused)) static struct json_object *full_tree(void)
{
    struct json_object *tree = json_object_from_file(CORPUS "full.json");

    if (!tree)
        fail_msg("%s", json_util_get_last_err());
    return tree;
}

__attribute__((unused)) static int parse_tree(struct json_object *tree,
                                              struct oci_config *config_out,
                                              struct err *e)
{
    return parse_text(json_object_to_json_string(tree), config_out, e);
}

/* Puts value (JSON text) at a dotted path of the full document. */
__attribute__((unused)) static struct json_object *changed(const char *path,
                                                           const char *value)
{
    struct json_object *tree = full_tree();
    struct json_object *at = tree;
    _cleanup_free_ char *copy = xstrdup(path);
    char *rest = copy;
    char *name = strsep(&rest, "/");

    for (; rest; name = strsep(&rest, "/")) {
        struct json_object *next = NULL;

        if (json_object_is_type(at, json_type_array))
            next = json_object_array_get_idx(at, strtoul(name, NULL, 10));
        else if (!json_object_object_get_ex(at, name, &next)) {
            next = json_object_new_object();
            json_object_object_add(at, name, next);
        }
        assert_non_null(next);
        at = next;
    }
    if (json_object_is_type(at, json_type_array))
        json_object_array_put_idx(at, strtoul(name, NULL, 10),
                                  json_tokener_parse(value));
    else
        json_object_object_add(at, name, json_tokener_parse(value));
    return tree;
}

__attribute__((unused)) static void must_refuse_change(const char *path,
                                                       const char *value,
                                                       int code,
                                                       const char *words)
{
    struct json_object *tree = changed(path, value);
    struct oci_config config;
    struct err e = ERR_INIT;

    if (parse_tree(tree, &config, &e) == 0)
        fail_msg("accepted: %s = %s", path, value);
    json_object_put(tree);
    assert_said(e, code, words);
}

__attribute__((unused)) static void must_accept_change(const char *path,
                                                       const char *value)
{
    struct json_object *tree = changed(path, value);
    struct oci_config config;
    struct err e = ERR_INIT;

    if (parse_tree(tree, &config, &e) < 0)
        fail_msg("%s = %s: %s", path, value, e.text);
    json_object_put(tree);
    oci_config_clear(&config);
}

#endif
