#include "options.h"

#include <string.h>

#include "domus/mem.h"

#define VALUE(name_, member)                                        \
    {                                                               \
        .name = (name_), .offset = offsetof(struct options, member) \
    }
#define SWITCH(name_, member)                                        \
    {                                                                \
        .name = (name_), .offset = offsetof(struct options, member), \
        .is_switch = true                                            \
    }

static const struct flag {
    const char *name;
    size_t offset;
    bool is_switch;
} flags[] = {
    VALUE("namespace", namespace),
    VALUE("id", id),
    VALUE("address", address),
    VALUE("publish-binary", publish_binary),
    VALUE("bundle", bundle),
    VALUE("socket", socket),
    VALUE("debug-socket", debug_socket),
    SWITCH("debug", debug),
    SWITCH("v", version),
    SWITCH("version", version),
    SWITCH("info", info),
    SWITCH("h", help),
    SWITCH("help", help),
};

static const struct flag *find(const char *name, size_t n)
{
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (strlen(flags[i].name) == n && memcmp(flags[i].name, name, n) == 0)
            return &flags[i];
    return NULL;
}

static int set_switch(struct options *options, const struct flag *flag,
                      const char *value, struct err *e)
{
    bool *member = (bool *)((char *)options + flag->offset);

    if (!value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
        *member = true;
    else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
        *member = false;
    else
        return err_set(e, EINVAL, "-%s: neither true nor false", flag->name);
    return 0;
}

int options_parse(int argc, char **argv, struct options *options_out,
                  struct err *e)
{
    struct options options = {
        .action = "",
        .namespace = "",
        .id = "",
        .address = "",
        .publish_binary = "",
        .bundle = "",
        .socket = "",
        .debug_socket = "",
    };

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value;
        const struct flag *flag;
        size_t n;

        if (name[0] != '-') {
            if (!options.action[0])
                options.action = name;
            continue;
        }
        name += name[1] == '-' ? 2 : 1;
        value = strchr(name, '=');
        n = value ? (size_t)(value - name) : strlen(name);
        flag = find(name, n);
        if (!flag)
            return err_set(e, EINVAL, "unknown flag %s", argv[i]);
        if (value)
            value++;
        if (flag->is_switch) {
            int r = set_switch(&options, flag, value, e);

            if (r < 0)
                return r;
            continue;
        }
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value)
            return err_set(e, EINVAL, "-%s needs a value", flag->name);
        *(const char **)((char *)&options + flag->offset) = value;
    }
    *options_out = options;
    return 0;
}
