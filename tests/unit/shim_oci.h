/* shim_oci.h - what the tests of the shim's oci.c share. */
#ifndef TESTS_SHIM_OCI_H
#define TESTS_SHIM_OCI_H

#include "tests/unit/unit.h"

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

#endif
