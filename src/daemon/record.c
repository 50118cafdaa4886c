#include "record.h"

#include <dirent.h>
#include <fcntl.h>
#include <ini.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "../storage/digest.h"
#include "domus/mem.h"
#include "domus/spec.h"

#define SUFFIX           ".state"
#define NEW_PREFIX       ".new-"
#define RECORD_BYTES_MAX 4096

static bool uuid_valid(const char *text, size_t n)
{
    if (n != UUID_LENGTH)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (text[i] >= '0' && text[i] <= '9') ||
                   (text[i] >= 'a' && text[i] <= 'f');

        if (hyphen ? text[i] != '-' : !hex)
            return false;
    }
    return true;
}

void uuid_make(char uuid[UUID_LENGTH + 1])
{
    uint8_t b[16];

    if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
        abort();
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    (void)snprintf(uuid, UUID_LENGTH + 1,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                   "%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9],
                   b[10], b[11], b[12], b[13], b[14], b[15]);
}

static int write_all(int fd, const char *text, struct err *e)
{
    size_t n = strlen(text), done = 0;

    while (done < n) {
        ssize_t r = write(fd, text + done, n - done);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_errno(e, "write");
        done += (size_t)r;
    }
    return fsync(fd) < 0 ? err_errno(e, "fsync") : 0;
}

int record_save(int dir_fd, const struct record *record, struct err *e)
{
    _cleanup_free_ char *fresh = xasprintf(NEW_PREFIX "%s", record->uuid);
    _cleanup_free_ char *name = xasprintf("%s" SUFFIX, record->uuid);
    /* The last line shows that all the others are there. */
    _cleanup_free_ char *text = xasprintf(
        "[sandbox]\nversion = %d\nnamespace = %s\nid = %s\nuuid = %s\n"
        "state = %s\ndomain-type = %s\ndomid = %u\nmemory-kb = %llu\n"
        "vcpus = %u\ncpu-weight = %u\ncpu-cap = %u\n"
        "image = %s\nloop = %u\ncreated = %llu\n"
        "complete = yes\n",
        RECORD_VERSION, record->namespace, record->id, record->uuid,
        record->state, record->domain_type, record->domid,
        (unsigned long long)record->memory_kb, record->vcpus,
        record->cpu_weight, record->cpu_cap, record->image, record->loop,
        (unsigned long long)record->created_unix_ns);
    _cleanup_fd_ int fd = -1;
    int r;

    (void)unlinkat(dir_fd, fresh, 0);
    fd = openat(dir_fd, fresh,
                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "record %s", fresh);
    r = write_all(fd, text, e);
    if (r == 0 && renameat(dir_fd, fresh, dir_fd, name) < 0)
        r = err_errno(e, "rename");
    if (r == 0 && fsync(dir_fd) < 0)
        r = err_errno(e, "fsync");
    if (r < 0) {
        (void)unlinkat(dir_fd, fresh, 0);
        return err_wrap(e, "record %s", name);
    }
    return 0;
}

/* One member of the file; each must come exactly once, but for those that
 * came with a later version. */
enum member {
    MEMBER_VERSION,
    MEMBER_NAMESPACE,
    MEMBER_ID,
    MEMBER_UUID,
    MEMBER_STATE,
    MEMBER_DOMAIN_TYPE,
    MEMBER_DOMID,
    MEMBER_MEMORY,
    MEMBER_VCPUS,
    MEMBER_WEIGHT,
    MEMBER_CAP,
    MEMBER_IMAGE,
    MEMBER_LOOP,
    MEMBER_CREATED,
    MEMBER_COMPLETE,
    MEMBER_COUNT
};

static const char *const member_names[MEMBER_COUNT] = {
    [MEMBER_VERSION] = "version",
    [MEMBER_NAMESPACE] = "namespace",
    [MEMBER_ID] = "id",
    [MEMBER_UUID] = "uuid",
    [MEMBER_STATE] = "state",
    [MEMBER_DOMAIN_TYPE] = "domain-type",
    [MEMBER_DOMID] = "domid",
    [MEMBER_MEMORY] = "memory-kb",
    [MEMBER_VCPUS] = "vcpus",
    [MEMBER_WEIGHT] = "cpu-weight",
    [MEMBER_CAP] = "cpu-cap",
    [MEMBER_IMAGE] = "image",
    [MEMBER_LOOP] = "loop",
    [MEMBER_CREATED] = "created",
    [MEMBER_COMPLETE] = "complete",
};

struct reading {
    char *values[MEMBER_COUNT];
    bool bad;
};

static int on_entry(void *user, const char *section, const char *name,
                    const char *value)
{
    struct reading *reading = user;

    if (strcmp(section, "sandbox") == 0 && value) {
        for (int i = 0; i < MEMBER_COUNT; i++) {
            if (strcmp(member_names[i], name) == 0 && !reading->values[i]) {
                reading->values[i] = xstrdup(value);
                return 1;
            }
        }
    }
    reading->bad = true;
    return 0;
}

static const struct {
    uint64_t since;
    const char *before; /* what it was for an older one */
} later[MEMBER_COUNT] = {
    [MEMBER_WEIGHT] = {2, "0"},
    [MEMBER_CAP] = {2, "0"},
};

static int number_of(char *const *values, enum member member, uint64_t most,
                     uint64_t *number_out, struct err *e)
{
    int r = parse_number(values[member], 0, most, number_out, e);

    return r < 0 ? err_wrap(e, "%s", member_names[member]) : 0;
}

static int fill(char **values, const char *file_name, struct record *record,
                struct err *e)
{
    uint64_t domid, vcpus, loop, weight, cap;
    int r = number_of(values, MEMBER_DOMID, UINT16_MAX, &domid, e);

    if (r == 0)
        r = number_of(values, MEMBER_WEIGHT, UINT32_MAX, &weight, e);
    if (r == 0)
        r = number_of(values, MEMBER_CAP, UINT32_MAX, &cap, e);
    if (r == 0)
        r = number_of(values, MEMBER_VCPUS, UINT32_MAX, &vcpus, e);
    if (r == 0)
        r = number_of(values, MEMBER_LOOP, 1 << 20, &loop, e);
    if (r == 0)
        r = number_of(values, MEMBER_MEMORY, UINT64_MAX, &record->memory_kb, e);
    if (r == 0)
        r = number_of(values, MEMBER_CREATED, UINT64_MAX,
                      &record->created_unix_ns, e);
    if (r < 0)
        return r;
    if (!spec_id_valid(values[MEMBER_NAMESPACE]) ||
        !spec_id_valid(values[MEMBER_ID]))
        return err_set(e, EINVAL, "invalid namespace or id");
    if (!uuid_valid(values[MEMBER_UUID], strlen(values[MEMBER_UUID])) ||
        strncmp(file_name, values[MEMBER_UUID], UUID_LENGTH) != 0)
        return err_set(e, EINVAL, "the uuid is not that of the file's name");
    if (values[MEMBER_IMAGE][0] &&
        !digest_hex_valid(values[MEMBER_IMAGE], strlen(values[MEMBER_IMAGE])))
        return err_set(e, EINVAL, "invalid image digest");
    if (strcmp(values[MEMBER_COMPLETE], "yes") != 0)
        return err_set(e, EINVAL, "cut short");
    record->domid = (uint32_t)domid;
    record->vcpus = (uint32_t)vcpus;
    record->loop = (uint32_t)loop;
    record->cpu_weight = (uint32_t)weight;
    record->cpu_cap = (uint32_t)cap;
    memcpy(record->uuid, values[MEMBER_UUID], UUID_LENGTH + 1);
    record->namespace = steal_ptr(&values[MEMBER_NAMESPACE]);
    record->id = steal_ptr(&values[MEMBER_ID]);
    record->state = steal_ptr(&values[MEMBER_STATE]);
    record->domain_type = steal_ptr(&values[MEMBER_DOMAIN_TYPE]);
    record->image = steal_ptr(&values[MEMBER_IMAGE]);
    return 0;
}

/* Domains outlive the domusd that built them, so records of older versions
 * are read as well; a newer one may have members that are not known here. */
static int complete(char **values, bool bad, struct err *e)
{
    uint64_t version;
    int r;

    if (!values[MEMBER_VERSION])
        return err_set(e, EINVAL, "%s",
                       bad ? "not a record" : "'version' is missing");
    r = number_of(values, MEMBER_VERSION, UINT32_MAX, &version, e);
    if (r == 0 && version > RECORD_VERSION)
        return err_set(e, EPROTONOSUPPORT,
                       "version %llu, this domusd knows up to %d",
                       (unsigned long long)version, RECORD_VERSION);
    if (r == 0 && version < 1)
        r = err_set(e, EINVAL, "version %llu", (unsigned long long)version);
    if (r == 0 && bad)
        r = err_set(e, EINVAL, "not a record");
    for (int i = 0; i < MEMBER_COUNT && r == 0; i++) {
        if (!values[i] && version < later[i].since)
            values[i] = xstrdup(later[i].before);
        if (!values[i])
            r = err_set(e, EINVAL, "'%s' is missing", member_names[i]);
    }
    return r;
}

int record_load(int dir_fd, const char *file_name, struct record *record_out,
                struct err *e)
{
    _cleanup_fd_ int fd = openat(
        dir_fd, file_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct reading reading = {.bad = false};
    struct record record = {.domid = 0};
    char text[RECORD_BYTES_MAX + 1];
    ssize_t n;
    int r;

    if (fd < 0)
        return err_errno(e, "record %s", file_name);
    n = read(fd, text, sizeof(text));
    if (n < 0)
        return err_errno(e, "record %s", file_name);
    if (n == 0 || n > RECORD_BYTES_MAX || memchr(text, '\0', (size_t)n) ||
        text[n - 1] != '\n')
        return err_set(e, EINVAL, "record %s is cut short or not text",
                       file_name);
    text[n] = '\0';
    if (ini_parse_string(text, on_entry, &reading) != 0)
        reading.bad = true;
    r = complete(reading.values, reading.bad, e);
    if (r == 0)
        r = fill(reading.values, file_name, &record, e);
    for (int i = 0; i < MEMBER_COUNT; i++)
        free(reading.values[i]);
    if (r < 0)
        return err_wrap(e, "record %s", file_name);
    *record_out = record;
    return 0;
}

int record_remove(int dir_fd, const char *uuid, struct err *e)
{
    _cleanup_free_ char *name = xasprintf("%s" SUFFIX, uuid);

    if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, "record %s", name);
    return 0;
}

void record_clear(struct record *record)
{
    free(record->namespace);
    free(record->id);
    free(record->state);
    free(record->domain_type);
    free(record->image);
}

int record_each(int dir_fd, record_found_fn *fn, void *context, struct err *e)
{
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_closedir_ DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;

    if (!dir) {
        close_fd(&copy);
        return err_errno(e, "directory of records");
    }
    while ((entry = readdir(dir))) {
        size_t n = strlen(entry->d_name);

        if (strncmp(entry->d_name, NEW_PREFIX, strlen(NEW_PREFIX)) == 0)
            (void)unlinkat(dir_fd, entry->d_name, 0);
        else if (n == UUID_LENGTH + strlen(SUFFIX) &&
                 uuid_valid(entry->d_name, UUID_LENGTH) &&
                 strcmp(entry->d_name + UUID_LENGTH, SUFFIX) == 0)
            fn(context, entry->d_name);
    }
    return 0;
}
