/*
 * SPEC parsing. Strict: what is not understood is refused, never passed over.
 * A doubled comma stands for a comma in a value; exec= takes the rest as it is.
 */
#include "vmm/link/spec.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/machine/fail.h"
#include "vmm/machine/file.h"
#include "vmm/link/words.h"

#define MAX_QUEUE_SIZE 32768u
#define DEFAULT_SHM    (UINT64_C(1) << 30)
#define MAX_SECONDS    86400.0
#define MAX_UID        (UINT32_MAX - 1) /* the last number is no user's */

static int take_number(const char *key, const char *value, uint32_t min,
                       uint32_t max, uint32_t *out, struct husk_err *err)
{
    char *end;
    unsigned long long number;

    errno = 0; /* 010 is ten */
    number = strtoull(value, &end, strncasecmp(value, "0x", 2) ? 10 : 16);
    if (!isdigit((unsigned char)value[0]) || *end || errno || number < min ||
        number > max)
        return fail(err, -EINVAL, "%s=%s: give a number from %u to %u", key,
                    value, min, max);
    *out = (uint32_t)number;
    return 0;
}

static int take_seconds(const char *key, const char *value, double min,
                        double *out, struct husk_err *err)
{
    char *end;
    double number;

    errno = 0;
    number = strtod(value, &end);
    if (!(isdigit((unsigned char)value[0]) || value[0] == '.') || *end ||
        errno || !(number >= min) || number > MAX_SECONDS)
        return fail(err, -EINVAL, "%s=%s: give seconds from %g to %g", key,
                    value, min, MAX_SECONDS);
    *out = number;
    return 0;
}

static int take_socket(struct spec *spec, const char *value,
                       struct husk_err *err)
{
    struct sockaddr_un address;

    if (!*value)
        return fail(err, -EINVAL, "socket= needs a path");
    if (strlen(value) >= sizeof address.sun_path)
        return fail(err, -EINVAL,
                    "socket path of %zu bytes, at most %zu are "
                    "possible: %.40s...",
                    strlen(value), sizeof address.sun_path - 1, value);
    spec->socket = strdup(value);
    return spec->socket ? 0 : fail(err, -ENOMEM, "out of memory");
}

static int take_peer_uid(struct spec *spec, const char *value,
                         struct husk_err *err)
{
    uint32_t uid = 0;

    spec->peer.any = !strcmp(value, "any");
    spec->peer.has_uid = !spec->peer.any;
    if (spec->peer.has_uid &&
        take_number("peer-uid", value, 0, MAX_UID, &uid, NULL) < 0)
        return fail(err, -EINVAL,
                    "peer-uid=%s: give the number of a user, or any", value);
    spec->peer.uid = uid;
    return 0;
}

static int take_dir(struct spec *spec, const char *value, struct husk_err *err)
{
    if (!*value)
        return fail(err, -EINVAL, "dir= needs a path");
    spec->dir = strdup(value);
    return spec->dir ? 0 : fail(err, -ENOMEM, "out of memory");
}

static int take_env(struct spec *spec, const char *value, struct husk_err *err)
{
    size_t length = strcspn(value, "=");

    if (length == 0 || isdigit((unsigned char)value[0]))
        length = 0;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)value[i]) && value[i] != '_')
            length = 0;
    if (length == 0)
        return fail(err, -EINVAL,
                    "env=%s: give NAME or NAME=VALUE, with letters, digits and "
                    "_ in NAME",
                    value);
    for (char **other = spec->env; other && *other; other++)
        if (!strncmp(*other, value, length) &&
            ((*other)[length] == '=' || (*other)[length] == 0))
            return fail(err, -EINVAL, "env=%.*s is given twice", (int)length,
                        value);
    return words_append(&spec->env, value) < 0
               ? fail(err, -ENOMEM, "out of memory")
               : 0;
}

static int take_name(struct spec *spec, const char *value, struct husk_err *err)
{
    if (!*value || strlen(value) >= sizeof spec->name)
        return fail(err, -EINVAL, "name=%s: give 1 to %zu characters", value,
                    sizeof spec->name - 1);
    for (const char *c = value; *c; c++)
        if (!isgraph((unsigned char)*c))
            return fail(err, -EINVAL,
                        "name=%s: no spaces or control "
                        "characters",
                        value);
    snprintf(spec->name, sizeof spec->name, "%s", value);
    return 0;
}

static int read_config(struct spec *spec, const char *path,
                       struct husk_err *err)
{
    static const struct file_kind kind = {
        "config=@", FRONTEND_MAX_CONFIG, "give the device's config space alone"
    };
    struct file file;
    int size;

    /* standard input is the program's, and not the parser's to read */
    if (!strcmp(path, "-"))
        return fail(err, -EINVAL,
                    "config=@-: give the path of a file (./- if it has that "
                    "name)");
    if (file_read(&file, &kind, path, err) < 0)
        return -EINVAL;
    size = (int)file.size;
    memcpy(spec->config, file.data, file.size);
    file_free(&file);
    return size;
}

static int read_hex(struct spec *spec, const char *hex, struct husk_err *err)
{
    size_t n = strlen(hex);

    if (n % 2 || n / 2 > FRONTEND_MAX_CONFIG)
        return fail(err, -EINVAL,
                    "config= has %zu digits: give two a byte, at "
                    "most %u bytes",
                    n, FRONTEND_MAX_CONFIG);
    for (size_t i = 0; i < n; i += 2) {
        char digits[3] = { hex[i], hex[i + 1], 0 };

        if (!isxdigit((unsigned char)digits[0]) ||
            !isxdigit((unsigned char)digits[1]))
            return fail(err, -EINVAL, "config=: '%s' is no hexadecimal byte",
                        digits);
        spec->config[i / 2] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return (int)(n / 2);
}

static int take_config(struct spec *spec, const char *value,
                       struct husk_err *err)
{
    uint32_t size = spec->given.config_size;
    int n;

    spec->config = calloc(1, FRONTEND_MAX_CONFIG + 1);
    if (!spec->config)
        return fail(err, -ENOMEM, "out of memory");
    n = value[0] == '@' ? read_config(spec, value + 1, err)
                        : read_hex(spec, value, err);
    if (n < 0)
        return n;
    if (n == 0)
        return fail(err, -EINVAL, "config= has no bytes");
    if (spec->given.has_config_size && size != (uint32_t)n)
        return fail(err, -EINVAL, "config= has %d bytes, config-size= says %u",
                    n, size);
    spec->given.config = spec->config;
    spec->given.config_size = (uint32_t)n;
    spec->given.has_config_size = true;
    return 0;
}

static int take_config_size(struct spec *spec, const char *value,
                            struct husk_err *err)
{
    uint32_t before = spec->given.config_size;
    int rc = take_number("config-size", value, 0, FRONTEND_MAX_CONFIG,
                         &spec->given.config_size, err);

    if (rc == 0 && spec->config && spec->given.config_size != before)
        return fail(err, -EINVAL, "config= has %u bytes, config-size= says %u",
                    before, spec->given.config_size);
    spec->given.has_config_size = true;
    return rc;
}

static int take_probe(struct spec *spec, const char *value,
                      struct husk_err *err)
{
    static const char *const modes[] = { "auto", "specs", "messages", "off" };

    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (!strcmp(value, modes[i])) {
            spec->given.mode = (enum probe_mode)i;
            return 0;
        }
    return fail(err, -EINVAL, "probe=%s: give auto, specs, messages or off",
                value);
}

static int take_shm(struct spec *spec, const char *value, struct husk_err *err)
{
    static const char units[] = "KMGT";
    unsigned shift = 0;
    char *end;

    errno = 0;
    spec->shm = strtoull(value, &end, 10);
    for (unsigned i = 0; *end && i < 4; i++)
        if (toupper((unsigned char)*end) == units[i] && !end[1])
            shift = 10 * (i + 1);
    if (!isdigit((unsigned char)value[0]) || errno || (*end && !shift) ||
        spec->shm > UINT64_MAX >> shift)
        return fail(err, -EINVAL,
                    "shm=%s: give bytes, or a number with K, M, G or T", value);
    spec->shm <<= shift;
    return 0;
}

static int take_reconnect(struct spec *spec, const char *value,
                          struct husk_err *err)
{
    int rc = 0;

    if (!strcmp(value, "on"))
        spec->reconnect = INFINITY;
    else if (!strcmp(value, "off"))
        spec->reconnect = 0;
    else
        rc = take_seconds("reconnect", value, 0.001, &spec->reconnect, NULL);
    if (rc < 0)
        return fail(err, rc, "reconnect=%s: give on, off or seconds", value);
    spec->given.inflight = spec->reconnect > 0;
    return 0;
}

static int take_queue_size(struct spec *spec, const char *value,
                           struct husk_err *err)
{
    int rc = take_number("queue-size", value, 1, MAX_QUEUE_SIZE,
                         &spec->given.queue_size, err);

    if (rc == 0 && spec->given.queue_size & (spec->given.queue_size - 1))
        return fail(err, -EINVAL, "queue-size=%s: give a power of two", value);
    return rc;
}

static int take_id(struct spec *spec, const char *value, struct husk_err *err)
{
    spec->given.has_id = true;
    return take_number("id", value, 1, UINT32_MAX, &spec->given.id, err);
}

static int take_vqs(struct spec *spec, const char *value, struct husk_err *err)
{
    spec->given.has_vqs = true;
    return take_number("vqs", value, 1, FRONTEND_MAX_VQS, &spec->given.vqs,
                       err);
}

static int take_inband(struct spec *spec, const char *value,
                       struct husk_err *err)
{
    spec->given.inband = !strcmp(value, "on");
    if (!spec->given.inband && strcmp(value, "off"))
        return fail(err, -EINVAL, "inband=%s: give on or off", value);
    return 0;
}

static int take_deadline(struct spec *spec, const char *value,
                         struct husk_err *err)
{
    return take_seconds("deadline", value, 0.001, &spec->deadline, err);
}

static int take_wait(struct spec *spec, const char *value, struct husk_err *err)
{
    return take_seconds("wait", value, 0, &spec->wait, err);
}

static const struct {
    const char *name;
    int (*take)(struct spec *spec, const char *value, struct husk_err *err);
    bool repeats;
} keys[] = {
    { "socket", take_socket, false },
    { "peer-uid", take_peer_uid, false },
    { "env", take_env, true },
    { "dir", take_dir, false },
    { "id", take_id, false },
    { "vqs", take_vqs, false },
    { "config-size", take_config_size, false },
    { "config", take_config, false },
    { "queue-size", take_queue_size, false },
    { "probe", take_probe, false },
    { "inband", take_inband, false },
    { "deadline", take_deadline, false },
    { "wait", take_wait, false },
    { "shm", take_shm, false },
    { "reconnect", take_reconnect, false },
    { "name", take_name, false },
};

#define KEYS (sizeof keys / sizeof keys[0])

/* seen has a bit for each of the keys. */
static int take_pair(struct spec *spec, const char *key, const char *value,
                     unsigned *seen, struct husk_err *err)
{
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(key, keys[i].name))
            continue;
        if (*seen >> i & 1 && !keys[i].repeats)
            return fail(err, -EINVAL, "%s= is given twice", key);
        *seen |= 1u << i;
        return keys[i].take(spec, value, err);
    }
    return fail(err, -EINVAL,
                "unknown key '%s': give socket, peer-uid, exec, "
                "env, dir, id, vqs, config-size, config, queue-size, probe, "
                "inband, deadline, wait, shm, reconnect or name",
                key);
}

/* The words of exec=, and how the back-end is to find its front-end. */
static int take_exec(struct spec *spec, const char *value, struct husk_err *err)
{
    static const char *const marks[] = { "{fd}", "{listen}", "{socket}" };
    int found = -1, rc = words_split(value, &spec->argv, err);

    if (rc < 0)
        return rc;
    if (!spec->argv[0])
        return fail(err, -EINVAL, "exec= needs a command");
    for (int i = 0; i < 3; i++) {
        if (!strstr(value, marks[i]))
            continue;
        if (found >= 0)
            return fail(err, -EINVAL, "exec= holds both %s and %s: give one",
                        marks[found], marks[i]);
        found = i;
    }
    spec->link = found < 0 ? SPEC_CONNECTED : (enum spec_link)found;
    if (found < 0 && words_append(&spec->argv, "--fd={fd}") < 0)
        return fail(err, -ENOMEM, "out of memory");
    return 0;
}

/* Cut the pair at *text off: up to a comma that stands alone. */
static char *next_pair(char **text)
{
    char *begin = *text, *in = begin, *out = begin;

    while (*in && !(in[0] == ',' && in[1] != ',')) {
        if (in[0] == ',')
            in++;
        *out++ = *in++;
    }
    *text = *in ? in + 1 : NULL;
    *out = 0;
    return begin;
}

static int parse_pairs(struct spec *spec, char *text, struct husk_err *err)
{
    char *rest = text;
    unsigned seen = 0;

    while (rest) {
        char *pair, *equals;
        int rc;

        if (!strncmp(rest, "exec=", 5)) {
            rc = take_exec(spec, rest + 5, err);
            rest = NULL;
        } else {
            pair = next_pair(&rest);
            equals = strchr(pair, '=');
            if (!equals)
                return fail(err, -EINVAL, "'%s' is no key=value pair", pair);
            *equals = 0;
            rc = take_pair(spec, pair, equals + 1, &seen, err);
        }
        if (rc < 0)
            return rc;
    }
    if (spec->socket && spec->argv)
        return fail(err, -EINVAL, "give socket= or exec=, not both");
    if (!spec->socket && !spec->argv)
        return fail(err, -EINVAL, "give socket=PATH or exec=COMMAND");
    if (spec->socket && (spec->env || spec->dir))
        return fail(err, -EINVAL,
                    "%s= goes with exec=", spec->env ? "env" : "dir");
    if (spec->argv && (spec->peer.any || spec->peer.has_uid))
        return fail(err, -EINVAL, "peer-uid= goes with socket=");
    return 0;
}

int spec_parse(struct spec *spec, const char *text, unsigned index,
               struct husk_err *err)
{
    struct husk_err inner;
    char *copy;
    int rc;

    memset(spec, 0, sizeof *spec);
    snprintf(spec->name, sizeof spec->name, "virtio%u", index);
    spec->given.queue_size = 256;
    spec->deadline = 5;
    spec->shm = DEFAULT_SHM;
    if (!strchr(text, '=')) {
        rc = take_socket(spec, text, &inner);
    } else {
        copy = strdup(text);
        if (!copy)
            return fail(err, -ENOMEM, "out of memory");
        rc = parse_pairs(spec, copy, &inner);
        free(copy);
    }
    return rc < 0 ? fail(err, rc, "device %u: %s", index, inner.text) : 0;
}

void spec_fini(struct spec *spec)
{
    words_free(spec->argv);
    words_free(spec->env);
    free(spec->dir);
    free(spec->socket);
    free(spec->config);
    memset(spec, 0, sizeof *spec);
}
