#include <inttypes.h>

#include "domus/mem.h"
#include "oci_resources.h"

/* Of a device in the guest: its dev_t has 12 bits and 20. */
#define MAJOR_MAX 4095
#define MINOR_MAX 1048575

#define THROTTLES_MAX 64 /* of a kind; a guest has few disks */

struct throttle {
    uint32_t major;
    uint32_t minor;
    uint64_t rate;
};

#define THROTTLE(member) .offset = offsetof(struct throttle, member)

static const struct oci_field throttle_fields[] = {
    {.name = "major",
     .kind = OCI_U32,
     .required = true,
     .max = MAJOR_MAX,
     .why = "a number of the guest: its disks are 202",
     THROTTLE(major)},
    {.name = "minor",
     .kind = OCI_U32,
     .required = true,
     .max = MINOR_MAX,
     .why = "a number of the guest",
     THROTTLE(minor)},
    {.name = "rate",
     .kind = OCI_U64,
     .required = true,
     .max = INT64_MAX,
     .why = "io.max; 0: not limited",
     THROTTLE(rate)},
};
static const struct oci_table throttle_table = OCI_TABLE_OF(throttle_fields);

static int add_throttle(const struct oci_path *path, struct json_object *value,
                        struct oci_reading *reading, const char *key,
                        struct err *e)
{
    struct throttle t = {.rate = 0};

    if (oci_read_object(path, value, &throttle_table, &t, e) < 0)
        return -e->code;
    oci_resources_set(
        reading, "io.max",
        t.rate ? xasprintf("%u:%u %s=%" PRIu64, t.major, t.minor, key, t.rate)
               : xasprintf("%u:%u %s=max", t.major, t.minor, key));
    return 0;
}

#define TAKE_THROTTLES(key)                                                  \
    static int take_##key(const struct oci_path *path,                       \
                          struct json_object *value, void *object,           \
                          struct err *e)                                     \
    {                                                                        \
        return add_throttle(path, value, object, #key, e);                   \
    }                                                                        \
    static int take_all_##key(const struct oci_path *path,                   \
                              struct json_object *value, void *object,       \
                              struct err *e)                                 \
    {                                                                        \
        return oci_read_list(path, value, THROTTLES_MAX, take_##key, object, \
                             e);                                             \
    }
TAKE_THROTTLES(rbps)
TAKE_THROTTLES(wbps)
TAKE_THROTTLES(riops)
TAKE_THROTTLES(wiops)

#define THROTTLES(at, key)                                       \
    {                                                            \
        .name = (at), .kind = OCI_TAKE, .type = json_type_array, \
        .take = take_all_##key, .table = &throttle_table         \
    }
#define NO_WEIGHTS \
    "the guest's kernel shares a disk by no weights; limit rates instead"
static const struct oci_field block_fields[] = {
    THROTTLES("throttleReadBpsDevice", rbps),
    THROTTLES("throttleWriteBpsDevice", wbps),
    THROTTLES("throttleReadIOPSDevice", riops),
    THROTTLES("throttleWriteIOPSDevice", wiops),
    OCI_REFUSED_FIELD("weight", json_type_int, NO_WEIGHTS),
    OCI_REFUSED_FIELD("leafWeight", json_type_int, NO_WEIGHTS),
    OCI_REFUSED_FIELD("weightDevice", json_type_array, NO_WEIGHTS),
};
const struct oci_table oci_block_table = OCI_TABLE_OF(block_fields);
