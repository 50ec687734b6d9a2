/*
 * The command line of the test back-end. Refuses what it does not understand,
 * with status 2. The manual is in help.c.
 */
#include "peer.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_HELP = 1,
    OPT_SOCKET,
    OPT_LISTEN,
    OPT_FD,
    OPT_CONNECTIONS,
    OPT_DIALECT,
    OPT_AT41,
    OPT_ID,
    OPT_MIN,
    OPT_MAX,
    OPT_QUEUE_NUM,
    OPT_CONFIG,
    OPT_CONFIG_SIZE,
    OPT_FEATURES,
    OPT_PROTOCOL,
    OPT_SLOTS,
    OPT_SHMEM,
    OPT_EXTRA,
    OPT_FILL,
    OPT_ECHO,
    OPT_INBAND,
    OPT_FORBID,
    OPT_RECONNECTED,
    OPT_FORGET,
    OPT_KICK_LIMIT,
    OPT_ANSWER_LIMIT,
    OPT_NO_POISON,
    OPT_LENIENT,
    OPT_LATENCY,
    OPT_DRIP,
    OPT_DIE,
    OPT_HANG,
    OPT_CUT,
    OPT_MUTATE,
    OPT_ATTACH,
    OPT_ONCE,
    OPT_REFUSE_FEATURES,
    OPT_REFUSE_NUM,
    OPT_NO_CALL,
    OPT_SPURIOUS,
    OPT_IGNORE_KICK,
    OPT_ERR_AFTER,
    OPT_SHM_MAP,
    OPT_SHM_DELAY,
    OPT_SHM_UNMAP,
    OPT_SHM_CUT,
    OPT_SHM_FILE,
    OPT_CHANGE,
    OPT_CHANGES,
    OPT_REQUEST,
    OPT_TRUNCATE,
    OPT_LOG,
    OPT_STATS,
};

#define TAKES(text, value)                                                     \
    {                                                                          \
        text, required_argument, NULL, value                                   \
    }
#define FLAG(text, value)                                                      \
    {                                                                          \
        text, no_argument, NULL, value                                         \
    }
#define MAY(text, value)                                                       \
    {                                                                          \
        text, optional_argument, NULL, value                                   \
    }

static const struct option table[] = {
    FLAG("help", OPT_HELP),
    TAKES("socket-path", OPT_SOCKET),
    TAKES("listen-fd", OPT_LISTEN),
    TAKES("fd", OPT_FD),
    TAKES("connections", OPT_CONNECTIONS),
    TAKES("dialect", OPT_DIALECT),
    TAKES("at-41", OPT_AT41),
    TAKES("id", OPT_ID),
    TAKES("min-vqs", OPT_MIN),
    TAKES("max-vqs", OPT_MAX),
    TAKES("queue-num", OPT_QUEUE_NUM),
    TAKES("config", OPT_CONFIG),
    TAKES("config-size", OPT_CONFIG_SIZE),
    TAKES("features", OPT_FEATURES),
    TAKES("protocol", OPT_PROTOCOL),
    TAKES("mem-slots", OPT_SLOTS),
    TAKES("shmem", OPT_SHMEM),
    TAKES("specs-extra", OPT_EXTRA),
    TAKES("fill", OPT_FILL),
    FLAG("echo", OPT_ECHO),
    FLAG("allow-inband", OPT_INBAND),
    FLAG("forbid-probe", OPT_FORBID),
    FLAG("reconnected", OPT_RECONNECTED),
    FLAG("forget", OPT_FORGET),
    TAKES("kick-limit", OPT_KICK_LIMIT),
    TAKES("answer-limit", OPT_ANSWER_LIMIT),
    FLAG("no-poison", OPT_NO_POISON),
    FLAG("lenient", OPT_LENIENT),
    TAKES("latency", OPT_LATENCY),
    TAKES("drip", OPT_DRIP),
    TAKES("die-at", OPT_DIE),
    TAKES("hang-at", OPT_HANG),
    TAKES("cut", OPT_CUT),
    TAKES("mutate", OPT_MUTATE),
    TAKES("attach-fds", OPT_ATTACH),
    FLAG("faults-once", OPT_ONCE),
    FLAG("refuse-features", OPT_REFUSE_FEATURES),
    TAKES("refuse-num", OPT_REFUSE_NUM),
    FLAG("no-call", OPT_NO_CALL),
    MAY("spurious-call", OPT_SPURIOUS),
    MAY("ignore-kick-until-enabled", OPT_IGNORE_KICK),
    TAKES("vring-err-after", OPT_ERR_AFTER),
    TAKES("config-change", OPT_CHANGE),
    TAKES("config-changes", OPT_CHANGES),
    TAKES("backend-request", OPT_REQUEST),
    TAKES("shm-map", OPT_SHM_MAP),
    TAKES("shm-delay", OPT_SHM_DELAY),
    TAKES("shm-unmap", OPT_SHM_UNMAP),
    TAKES("shm-truncate", OPT_SHM_CUT),
    TAKES("shm-file", OPT_SHM_FILE),
    FLAG("truncate-memory", OPT_TRUNCATE),
    TAKES("log", OPT_LOG),
    FLAG("stats", OPT_STATS),
    { NULL, 0, NULL, 0 },
};

static int bad(const char *what, const char *text)
{
    fprintf(stderr, "husk-peer: %s: \"%s\" (see --help)\n", what, text);
    return 2;
}

static int number(const char *text, int base, uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, base);
    if (end == text || *end || errno || *out > max)
        return bad("not a number in range", text);
    return 0;
}

static int number32(const char *text, uint32_t *out)
{
    uint64_t v;
    int rc = number(text, 0, UINT32_MAX, &v);

    *out = (uint32_t)v;
    return rc;
}

static int number_int(const char *text, unsigned *out)
{
    uint64_t v;
    int rc = number(text, 0, INT32_MAX, &v);

    *out = (unsigned)v;
    return rc;
}

static int descriptor(const char *text, int *out)
{
    unsigned v;
    int rc = number_int(text, &v);

    *out = (int)v;
    return rc;
}

static int choice(const char *text, const char *const *names, unsigned *out)
{
    for (unsigned i = 0; names[i]; i++) {
        if (!strcmp(text, names[i])) {
            *out = i;
            return 0;
        }
    }
    return bad("not one of the choices", text);
}

/* Splits text at its last separator and adds a fault for the request. */
static int fault(struct options *o, enum fault_kind kind, const char *text,
                 char separator, bool needed, struct fault **out,
                 const char **rest)
{
    char name[64];
    const char *colon = strchr(text, separator);
    size_t n = colon ? (size_t)(colon - text) : strlen(text);

    if (n >= sizeof name || (needed && !colon))
        return bad("not REQUEST:VALUE", text);
    if (o->n_faults == MAX_FAULTS)
        return bad("too many faults", text);
    memcpy(name, text, n);
    name[n] = '\0';
    struct fault *f = &o->fault[o->n_faults];
    char *nth = strchr(name, '#');

    *f = (struct fault){ .kind = kind };
    if (nth) {
        *nth++ = '\0';
        if (number_int(nth, &f->nth))
            return 2;
    }
    f->request = wire_number(name);
    if (!f->request)
        return bad("no such request", name);
    o->n_faults++;
    *out = f;
    *rest = colon ? colon + 1 : NULL;
    return 0;
}

static int stop_fault(struct options *o, enum fault_kind kind, const char *text)
{
    struct fault *f;
    const char *rest;
    int rc = fault(o, kind, text, ':', false, &f, &rest);

    if (rc)
        return rc;
    return rest ? number_int(rest, &f->nth) : 0;
}

static int value_fault(struct options *o, enum fault_kind kind,
                       const char *text, uint64_t max)
{
    struct fault *f;
    const char *rest;
    int rc = fault(o, kind, text, ':', true, &f, &rest);

    return rc ? rc : number(rest, 0, max, &f->value);
}

static int mutate_fault(struct options *o, const char *text)
{
    struct fault *f;
    const char *rest;
    int rc = fault(o, FAULT_SET_PAYLOAD, text, ':', true, &f, &rest);

    if (rc)
        return rc;
    const char *equals = strchr(rest, '=');

    if (!equals)
        return bad("no FIELD=VALUE", text);
    size_t n = (size_t)(equals - rest);
    uint64_t max = UINT32_MAX;

    if (n == 7 && !strncmp(rest, "request", n)) {
        f->kind = FAULT_SET_REQUEST;
    } else if (n == 5 && !strncmp(rest, "flags", n)) {
        f->kind = FAULT_SET_FLAGS;
    } else if (n == 4 && !strncmp(rest, "size", n)) {
        f->kind = FAULT_SET_SIZE;
    } else {
        char *end;

        f->width = *rest == 'p' ? 1 : *rest == 'w' ? 4 : *rest == 'q' ? 8 : 0;
        f->offset = (uint32_t)strtoul(rest + 1, &end, 0);
        if (!f->width || end == rest + 1 || end != equals)
            return bad("no such FIELD", rest);
        max = f->width == 8 ? UINT64_MAX : f->width == 1 ? 0xff : UINT32_MAX;
    }
    return number(equals + 1, 0, max, &f->value);
}

static int hex_bytes(const char *text, uint8_t **out, uint32_t *size)
{
    size_t n = strlen(text);

    if (n % 2 || n / 2 > 65536)
        return bad("not whole bytes of hex", text);
    free(*out);
    *out = calloc(1, n / 2 + 1);
    if (!*out)
        return 1;
    for (size_t i = 0; i < n / 2; i++) {
        char two[3] = { text[2 * i], text[2 * i + 1], '\0' };
        uint64_t v;

        if (number(two, 16, 0xff, &v))
            return 2;
        (*out)[i] = (uint8_t)v;
    }
    *size = (uint32_t)(n / 2);
    return 0;
}

static int sizes(struct options *o, const char *text)
{
    const char *p = text;
    char *end;

    for (o->n_shmem = 0; o->n_shmem < MAX_SHMEM; p = end + 1) {
        o->shmem[o->n_shmem++] = strtoull(p, &end, 0);
        if (end == p || (*end && *end != ','))
            break;
        if (!*end)
            return 0;
    }
    return bad("not a list of sizes", text);
}

static const char *const shm_modes[] = { "ro", "rw", "refused", NULL };

/* ID:OFFSET:SIZE[:MODE] */
static int mapping(struct options *o, const char *text)
{
    struct shm_map *map = &o->shm_map[o->n_shm_maps];
    uint64_t v[3];
    unsigned mode = SHM_READ_ONLY;
    const char *p = text;
    char *end;

    if (o->n_shm_maps == MAX_SHM_MAPS)
        return bad("too many mappings", text);
    for (unsigned i = 0; i < 3; i++, p = end + 1) {
        v[i] = strtoull(p, &end, 0);
        if (end == p || (*end && *end != ':') || (i < 2 && !*end))
            return bad("not ID:OFFSET:SIZE", text);
        if (!*end)
            break;
    }
    if (v[0] > 255)
        return bad("not ID:OFFSET:SIZE", text);
    if (*end && choice(p, shm_modes, &mode))
        return 2;
    *map = (struct shm_map){ (uint8_t)v[0], v[1], v[2], (enum shm_mode)mode };
    o->n_shm_maps++;
    return 0;
}

static const char *const dialects[] = { "specs",         "messages", "none",
                                        "shared-object", "ignore",   NULL };
static const char *const at41s[] = { "answer", "hangup", "ignore", "silence",
                                     "zero",   "u64",    "short",  NULL };

static int option(struct options *o, int c, const char *arg, uint8_t **config,
                  uint32_t *config_bytes)
{
    unsigned u;
    uint64_t v;
    int rc;

    switch (c) {
    case OPT_SOCKET:
        o->socket_path = arg;
        return 0;
    case OPT_LISTEN:
        return descriptor(arg, &o->listen_fd);
    case OPT_FD:
        return descriptor(arg, &o->fd);
    case OPT_CONNECTIONS:
        return number_int(arg, &o->connections);
    case OPT_DIALECT:
        rc = choice(arg, dialects, &u);
        if (!rc)
            o->dialect = (enum dialect)u;
        return rc;
    case OPT_AT41:
        rc = choice(arg, at41s, &u);
        if (!rc)
            o->at41 = (enum at41)u;
        return rc;
    case OPT_ID:
        return number32(arg, &o->id);
    case OPT_MIN:
        return number32(arg, &o->min_vqs);
    case OPT_MAX:
        return number32(arg, &o->max_vqs);
    case OPT_QUEUE_NUM:
        return number(arg, 0, UINT64_MAX, &o->queue_num);
    case OPT_CONFIG:
        return hex_bytes(arg, config, config_bytes);
    case OPT_CONFIG_SIZE:
        return number32(arg, &o->config_size);
    case OPT_FEATURES:
        return number(arg, 16, UINT64_MAX, &o->features);
    case OPT_PROTOCOL:
        return number(arg, 16, UINT64_MAX, &o->protocol);
    case OPT_SLOTS:
        return number32(arg, &o->mem_slots);
    case OPT_SHMEM:
        return sizes(o, arg);
    case OPT_EXTRA:
        return number32(arg, &o->specs_extra);
    case OPT_FILL:
        rc = number(arg, 16, 0xff, &v);
        o->fill = (uint8_t)v;
        return rc;
    case OPT_ECHO:
        o->echo = true;
        return 0;
    case OPT_INBAND:
        o->allow_inband = true;
        return 0;
    case OPT_FORBID:
        o->forbid_probe = true;
        return 0;
    case OPT_RECONNECTED:
        o->reconnected = true;
        return 0;
    case OPT_FORGET:
        o->forget = true;
        return 0;
    case OPT_KICK_LIMIT:
        return number_int(arg, &o->kick_limit);
    case OPT_ANSWER_LIMIT:
        return number_int(arg, &o->answer_limit);
    case OPT_NO_POISON:
        o->no_poison = true;
        return 0;
    case OPT_LENIENT:
        o->lenient = true;
        return 0;
    case OPT_LATENCY:
        return number_int(arg, &o->latency);
    case OPT_DRIP:
        o->drips = true;
        return number_int(arg, &o->drip);
    case OPT_DIE:
        return stop_fault(o, FAULT_DIE, arg);
    case OPT_HANG:
        return stop_fault(o, FAULT_HANG, arg);
    case OPT_CUT:
        return value_fault(o, FAULT_CUT, arg, INT32_MAX);
    case OPT_MUTATE:
        return mutate_fault(o, arg);
    case OPT_ATTACH:
        return value_fault(o, FAULT_ATTACH, arg, 253);
    case OPT_ONCE:
        o->faults_once = true;
        return 0;
    case OPT_REFUSE_FEATURES:
        o->refuse_features = true;
        return 0;
    case OPT_REFUSE_NUM:
        return number32(arg, &o->refuse_num);
    case OPT_NO_CALL:
        o->no_call = true;
        return 0;
    case OPT_SPURIOUS:
        o->spurious = 10;
        return arg ? number_int(arg, &o->spurious) : 0;
    case OPT_IGNORE_KICK:
        o->ignore_kick = IGNORE_SURE;
        if (arg && strcmp(arg, "hard"))
            return bad("not \"hard\"", arg);
        if (arg)
            o->ignore_kick = IGNORE_HARD;
        return 0;
    case OPT_ERR_AFTER:
        return number(arg, 0, UINT64_MAX, &o->vring_err_after);
    case OPT_CHANGE:
        return number_int(arg, &o->config_change);
    case OPT_CHANGES:
        return number_int(arg, &o->config_changes);
    case OPT_REQUEST:
        return number32(arg, &o->backend_request);
    case OPT_SHM_MAP:
        return mapping(o, arg);
    case OPT_SHM_DELAY:
        return number_int(arg, &o->shm_delay);
    case OPT_SHM_UNMAP:
        return number_int(arg, &o->shm_unmap);
    case OPT_SHM_FILE:
        o->shm_file = arg;
        return 0;
    case OPT_SHM_CUT:
        return number_int(arg, &o->shm_truncate);
    case OPT_TRUNCATE:
        o->truncate_memory = true;
        return 0;
    case OPT_LOG:
        o->log_path = arg;
        return 0;
    case OPT_STATS:
        o->stats = true;
        return 0;
    default:
        return bad("unknown option", arg ? arg : "");
    }
}

int options_parse(struct options *o, int argc, char **argv, uint8_t **config,
                  uint32_t *config_bytes)
{
    const uint32_t unset = UINT32_MAX;
    bool sized = false, numbered = false;
    int c, rc;

    *o = (struct options){
        .fd = -1,
        .listen_fd = -1,
        .id = 4,
        .min_vqs = 1,
        .max_vqs = 1,
        .features = BIT(F_INDIRECT) | BIT(F_EVENT_IDX) | BIT(F_PROTOCOL) |
                    BIT(F_VERSION_1),
        .protocol = BIT(PF_MQ) | BIT(PF_REPLY_ACK) | BIT(PF_BACKEND_REQ) |
                    BIT(PF_CONFIG) | BIT(PF_RESET_DEVICE) | BIT(PF_MEM_SLOTS) |
                    BIT(PF_STATUS),
        .mem_slots = 8,
        .fill = 0xa5,
        .kick_limit = 10000,
        .answer_limit = 10000,
    };
    *config_bytes = unset;
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == OPT_HELP) {
            options_help();
            return 0;
        }
        if (c == '?')
            return 2;
        sized |= c == OPT_CONFIG_SIZE;
        numbered |= c == OPT_QUEUE_NUM;
        rc = option(o, c, optarg, config, config_bytes);
        if (rc)
            return rc;
    }
    if (optind != argc)
        return bad("what is this", argv[optind]);
    if ((o->fd >= 0) + (o->listen_fd >= 0) + !!o->socket_path != 1)
        return bad("one of --fd, --listen-fd, --socket-path", "");
    if (!sized)
        o->config_size = *config_bytes == unset ? 0 : *config_bytes;
    if (!numbered)
        o->queue_num = o->max_vqs;
    if (o->dialect == DIALECT_NONE)
        o->protocol &= ~BIT(PF_PROBE);
    else
        o->protocol |= BIT(PF_PROBE);
    if (*config_bytes == unset)
        *config_bytes = 0;
    return -1;
}
