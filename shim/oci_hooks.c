#include "oci_sections.h"

#include <string.h>

#include "domus/ctl.h"
#include "domus/mem.h"

/* What the shim puts around the members for a hook outside: status and pid. */
#define STATE_ROOM 128

#define HOOK(member) .offset = offsetof(struct spec_hook, member)

static const struct oci_field hook_fields[] = {
    {.name = "path",
     .kind = OCI_ABSOLUTE,
     .required = true,
     .max = SPEC_PATH_MAX,
     HOOK(path)},
    {.name = "args",
     .kind = OCI_STRINGS,
     .max = SPEC_ARGS_MAX,
     .max_each = SPEC_ARG_BYTES_MAX,
     HOOK(args)},
    {.name = "env",
     .kind = OCI_STRINGS,
     .max = SPEC_ARGS_MAX,
     .max_each = SPEC_ARG_BYTES_MAX,
     HOOK(env)},
    {.name = "timeout",
     .kind = OCI_U32,
     .min = 1,
     .max = UINT32_MAX,
     HOOK(timeout_s)},
};
static const struct oci_table hook_table = OCI_TABLE_OF(hook_fields);

static int take_hook(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    struct spec_hook_list *list = object;

    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n] = (struct spec_hook){.timeout_s = 0};
    /* In the list at once: whoever clears the list frees it. */
    return oci_read_object(path, value, &hook_table, &list->v[list->n++], e);
}

static int take_hooks(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_HOOKS_MAX, take_hook, object, e);
}

#define HOOKS(at, member, where)                                      \
    {                                                                 \
        .name = (at), .kind = OCI_TAKE, .take = take_hooks,           \
        .type = json_type_array, .table = &hook_table,                \
        .offset = offsetof(struct oci_config, member), .why = (where) \
    }
#define IN_DOM0                                                               \
    "run by domusd in dom0, if domus.conf allows its path; without env PATH " \
    "is set"
#define IN_GUEST "run in the guest, from the container's root"
static const struct oci_field hooks_fields[] = {
    HOOKS("prestart", prestart_hooks, IN_DOM0),
    HOOKS("createRuntime", create_runtime_hooks, IN_DOM0),
    HOOKS("createContainer", container.create_container_hooks, IN_GUEST),
    HOOKS("startContainer", container.start_container_hooks, IN_GUEST),
    HOOKS("poststart", poststart_hooks, IN_DOM0),
    HOOKS("poststop", poststop_hooks, IN_DOM0),
};
const struct oci_table oci_hooks_table = OCI_TABLE_OF(hooks_fields);

void oci_hooks_clear(struct spec_hook_list *hooks)
{
    for (size_t i = 0; i < hooks->n; i++)
        wire_clear(&spec_hook_desc, &hooks->v[i]);
    free(hooks->v);
    *hooks = (struct spec_hook_list){.n = 0};
}

/* --- the state that hooks read -------------------------------------------- */

static void copy_member(struct json_object *to, struct json_object *tree,
                        const char *name)
{
    struct json_object *member = NULL;

    if (json_object_object_get_ex(tree, name, &member) && member)
        json_object_object_add(to, name, json_object_get(member));
}

/* The members without the braces around them. */
static char *state_members(const char *bundle, const char *id,
                           struct json_object *tree)
{
    struct json_object *state = json_object_new_object();
    const char *text;
    char *members;

    copy_member(state, tree, "ociVersion");
    json_object_object_add(state, "id", json_object_new_string(id));
    json_object_object_add(state, "bundle", json_object_new_string(bundle));
    copy_member(state, tree, "annotations");
    text = json_object_to_json_string_ext(
        state, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    members = xstrndup(text + 1, strlen(text) - 2);
    json_object_put(state);
    return members;
}

int oci_fill_hook_state(const char *bundle, struct json_object *tree,
                        struct oci_config *config, struct err *e)
{
    const struct oci_path at = {.name = "annotations"};
    struct spec_container *container = &config->container;
    bool in_guest = container->create_container_hooks.n ||
                    container->start_container_hooks.n;
    bool outside = config->prestart_hooks.n || config->create_runtime_hooks.n ||
                   config->poststart_hooks.n || config->poststop_hooks.n;
    size_t max = outside ? CTL_STATE_MAX - STATE_ROOM : SPEC_STATE_MAX;

    config->hook_state = in_guest || outside
                             ? state_members(bundle, container->id, tree)
                             : xstrdup("");
    if (strlen(config->hook_state) > max)
        return oci_fail(&at, e, EINVAL,
                        "must have at most %zu bytes where there are hooks, "
                        "which get all of them",
                        max);
    container->hook_state = xstrdup(in_guest ? config->hook_state : "");
    return 0;
}
