/*
 * The probe's rounds and its verdict. Bit 18 alone proves nothing: upstream
 * has since given it, and the numbers 41 to 43, to other things. So 41 goes out
 * only where the bit is offered, the size of its answer tells the dialect, a
 * request whose answer is certain goes behind it as a fence, and a back-end
 * that hangs up or falls silent at it is connected to again, without a probe.
 */
#include "devices/probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio.h"

/* One probe a front-end, which points back at it through ctx. */
static struct probe *of(struct frontend *fe)
{
    return fe->ctx;
}

void probe_start(struct probe *probe, struct frontend *fe)
{
    enum dialect dialect = probe->is.dialect;

    probe->is = (struct identity){ .dialect = dialect,
                                   .queue_size = probe->given.queue_size };
    probe->queue_num = 0;
    probe->fe = fe;
    fe->is = &probe->is;
    fe->ctx = probe;
    fe->config_arrived = NULL;
    probe->round = PROBE_FEATURES;
    probe->started = false;
    probe->asked = false;
    probe->note[0] = 0;
}

bool probe_again(struct probe *probe)
{
    int code = probe->fe->err.code;

    if (!probe->asked || probe->round != PROBE_ASK ||
        probe->given.mode != PROBE_AUTO || probe->is.dialect == DIALECT_SPECS ||
        probe->is.dialect == DIALECT_MESSAGES)
        return false; /* not at 41, or not because of it */
    if (code != -EPIPE && code != -ECONNRESET && code != -ETIMEDOUT)
        return false; /* it did answer, and wrongly */
    probe->is.dialect = DIALECT_NONE;
    return true;
}

static int ask(struct frontend *fe, uint32_t request, uint32_t min,
               uint32_t max, bool optional, frontend_done done)
{
    int rc = frontend_send(fe, request, NULL, 0, NULL, 0);

    if (rc < 0)
        return rc;
    return frontend_expect(fe, (struct frontend_pending){ .request = request,
                                                          .min = min,
                                                          .max = max,
                                                          .optional = optional,
                                                          .done = done });
}

static int take_u64(struct frontend *fe, const struct frontend_pending *pending,
                    const uint8_t *payload, size_t size)
{
    struct probe *probe = of(fe);
    uint64_t value;

    (void)size;
    memcpy(&value, payload, sizeof value);
    switch (pending->request) {
    case VU_GET_FEATURES:
        probe->is.features = value;
        break;
    case VU_GET_PROTOCOL_FEATURES:
        probe->is.protocol = value;
        break;
    case VU_GET_MAX_MEM_SLOTS:
        fe->max_slots = value;
        break;
    case VU_GET_QUEUE_NUM:
        if (value < 1 || value > FRONTEND_MAX_VQS)
            return frontend_lose(fe, -EPROTO,
                                 "GET_QUEUE_NUM was answered with "
                                 "%" PRIu64 " queues, 1 to %u are possible",
                                 value, FRONTEND_MAX_VQS);
        probe->queue_num = value;
        break;
    }
    return 0;
}

/* The fence behind 41: an answer, and nothing in it that is not known. */
static int take_fence(struct frontend *fe,
                      const struct frontend_pending *pending,
                      const uint8_t *payload, size_t size)
{
    (void)fe;
    (void)pending;
    (void)payload;
    (void)size;
    return 0;
}

static int take_u32(struct frontend *fe, const struct frontend_pending *pending,
                    const uint8_t *payload, size_t size)
{
    struct probe *probe = of(fe);
    uint32_t value;

    (void)size;
    memcpy(&value, payload, sizeof value);
    if (pending->request == VU_GET_CONFIG_SIZE)
        probe->is.config_size = value;
    else
        probe->is.min_vqs = value;
    return 0;
}

/* The answer to 41: its size tells who speaks. */
static int take_probe(struct frontend *fe,
                      const struct frontend_pending *pending,
                      const uint8_t *payload, size_t size)
{
    struct probe *probe = of(fe);
    enum probe_mode mode = probe->given.mode;
    struct vu_specs specs;

    (void)pending;
    if (payload && size >= sizeof specs && mode != PROBE_MESSAGES) {
        memcpy(&specs, payload, sizeof specs);
        probe->is.id = specs.id;
        probe->is.config_size = specs.config_size;
        probe->is.min_vqs = specs.min_vqs;
        probe->is.max_vqs = specs.max_vqs;
        probe->is.dialect = DIALECT_SPECS;
    } else if (payload && size == sizeof probe->is.id && mode != PROBE_SPECS) {
        memcpy(&probe->is.id, payload, sizeof probe->is.id);
        probe->is.dialect = DIALECT_MESSAGES;
    } else if (mode == PROBE_AUTO) {
        probe->is.dialect = DIALECT_NONE;
    } else if (!payload) {
        return frontend_lose(fe, -EPROTO,
                             "the back-end ignored the probe that "
                             "probe=%s asks for",
                             mode == PROBE_SPECS ? "specs" : "messages");
    } else {
        return frontend_lose(fe, -EPROTO,
                             "the back-end answered the probe with"
                             " %zu bytes; probe=%s takes %s",
                             size, mode == PROBE_SPECS ? "specs" : "messages",
                             mode == PROBE_SPECS ? "16 or more" : "4");
    }
    return 0;
}

/* Upstream sends all 256 sizes; fewer are enough if no other is there. */
static int take_shm(struct frontend *fe, const struct frontend_pending *pending,
                    const uint8_t *payload, size_t size)
{
    struct probe *probe = of(fe);

    (void)pending;
    if (size % 8)
        return frontend_lose(fe, -EPROTO,
                             "GET_SHMEM_CONFIG was answered with "
                             "%zu bytes, whole sizes of 8 bytes are expected",
                             size);
    memcpy(&probe->is.shm, payload, size);
    return 0;
}

/* What is acknowledged: what is offered, served, and whole. */
static uint64_t choose(const struct probe *probe)
{
    uint64_t offered = probe->is.protocol;
    uint64_t bits = offered & FRONTEND_PROTOCOL;

    if (probe->given.inflight)
        bits |= offered & VU_PF_INFLIGHT_SHMFD;
    if (probe->backend_req_fd < 0)
        return bits & ~VU_PF_BACKEND_REQ;
    if ((offered & FRONTEND_SHM) == FRONTEND_SHM)
        bits |= FRONTEND_SHM;
    if (probe->given.inband && (offered & FRONTEND_INBAND) == FRONTEND_INBAND)
        bits |= FRONTEND_INBAND;
    return bits;
}

static bool wants_probe(const struct probe *probe)
{
    return probe->is.protocol & VU_PF_STANDALONE &&
           probe->given.mode != PROBE_OFF && probe->is.dialect != DIALECT_NONE;
}

static int set_protocol(struct probe *probe, bool with_probe)
{
    struct frontend *fe = probe->fe;
    uint64_t bits = fe->acked | (with_probe ? VU_PF_STANDALONE : 0);

    return frontend_send(fe, VU_SET_PROTOCOL_FEATURES, &bits, sizeof bits, NULL,
                         0);
}

/* Without a probe: what must come from the command line, and does not. */
static int need_values(struct probe *probe)
{
    const struct probe_given *given = &probe->given;
    struct frontend *fe = probe->fe;
    bool need_vqs = !given->has_vqs && !(probe->is.protocol & VU_PF_MQ);

    if (given->mode == PROBE_SPECS || given->mode == PROBE_MESSAGES)
        return frontend_lose(fe, -ENODEV,
                             "probe=%s, but the back-end offers "
                             "no probe (protocol feature bit 18)",
                             given->mode == PROBE_SPECS ? "specs" : "messages");
    if (given->has_id && !need_vqs)
        return 0;
    return frontend_lose(fe, -ENODEV,
                         "the back-end %s; give %s%s%s in the "
                         "device's spec (and config-size=N if it has a config "
                         "space)",
                         probe->saw_bit18 ? "has protocol feature "
                                            "bit 18 but answers no probe"
                                          : "answers no probe",
                         given->has_id ? "" : "id=N",
                         !given->has_id && need_vqs ? " and " : "",
                         need_vqs ? "vqs=N" : "");
}

static int ask_config(struct probe *probe, uint32_t size)
{
    struct frontend *fe = probe->fe;

    free(fe->config);
    free(fe->config_in);
    fe->config = calloc(1, size ? size : 1);
    fe->config_in = calloc(1, size ? size : 1);
    probe->is.config_size = size;
    if (!fe->config || !fe->config_in)
        return frontend_lose(fe, -ENOMEM,
                             "out of memory for %u bytes of "
                             "config space",
                             size);
    if (probe->given.config && size)
        memcpy(fe->config, probe->given.config, size);
    return frontend_config_refresh(fe);
}

static int check_vqs(struct probe *probe)
{
    const struct probe_given *given = &probe->given;
    struct frontend *fe = probe->fe;

    if (probe->is.max_vqs < 1 || probe->is.max_vqs > FRONTEND_MAX_VQS)
        return frontend_lose(fe, -EPROTO,
                             "the back-end's probe says at most "
                             "%u queues, 1 to %u are possible",
                             probe->is.max_vqs, FRONTEND_MAX_VQS);
    if (probe->is.min_vqs > probe->is.max_vqs)
        return frontend_lose(fe, -EPROTO,
                             "the back-end's probe says at least "
                             "%u queues and at most %u",
                             probe->is.min_vqs, probe->is.max_vqs);
    if (probe->queue_num && probe->queue_num != probe->is.max_vqs) {
        snprintf(probe->note, sizeof probe->note,
                 "%s: the probe says %u "
                 "queues, GET_QUEUE_NUM %" PRIu64 ": using the smaller",
                 fe->name, probe->is.max_vqs, probe->queue_num);
        if (probe->queue_num < probe->is.max_vqs)
            probe->is.max_vqs = (uint32_t)probe->queue_num;
        if (probe->is.min_vqs > probe->is.max_vqs)
            return frontend_lose(fe, -EPROTO,
                                 "the back-end's probe says at "
                                 "least %u queues, GET_QUEUE_NUM %u",
                                 probe->is.min_vqs, probe->is.max_vqs);
    }
    if (given->has_vqs &&
        (given->vqs < probe->is.min_vqs || given->vqs > probe->is.max_vqs))
        return frontend_lose(fe, -EINVAL,
                             "vqs=%u was given, the back-end has "
                             "%u to %u",
                             given->vqs, probe->is.min_vqs, probe->is.max_vqs);
    probe->is.vqs = given->has_vqs ? given->vqs : probe->is.max_vqs;
    return 0;
}

/* The rule's last row: both speak, so both must say the same. */
static int judge(struct probe *probe)
{
    const struct probe_given *given = &probe->given;
    struct frontend *fe = probe->fe;
    bool has_config = fe->acked & VU_PF_CONFIG;
    int rc;

    if (given->has_id && given->id != probe->is.id)
        return frontend_lose(fe, -EINVAL,
                             "id=%u was given, the back-end says "
                             "it is %u",
                             given->id, probe->is.id);
    if (probe->is.id == 0)
        return frontend_lose(fe, -EPROTO,
                             "the back-end says that its device "
                             "id is 0, which stands for no device");
    if (probe->is.config_size > FRONTEND_MAX_CONFIG)
        return frontend_lose(fe, -EPROTO,
                             "the back-end says it has %u bytes "
                             "of config space, at most %u are possible",
                             probe->is.config_size, FRONTEND_MAX_CONFIG);
    if (given->has_config_size && given->config_size != probe->is.config_size)
        return frontend_lose(fe, -EINVAL,
                             "config-size=%u was given, the "
                             "back-end says %u",
                             given->config_size, probe->is.config_size);
    rc = check_vqs(probe);
    if (rc < 0)
        return rc;
    probe->is.standalone =
        fe->acked & VU_PF_STATUS && (has_config || probe->is.config_size == 0);
    if (!has_config && probe->is.config_size && !given->config) {
        snprintf(probe->note, sizeof probe->note,
                 "%s: the back-end has %u "
                 "bytes of config space but offers no CONFIG: the guest sees "
                 "none (give config=)",
                 fe->name, probe->is.config_size);
        probe->is.config_size = 0;
    }
    return ask_config(probe, probe->is.config_size);
}

/* The rule's third row: the command line speaks alone. */
static int use_given(struct probe *probe)
{
    const struct probe_given *given = &probe->given;
    struct frontend *fe = probe->fe;

    probe->is.id = given->id;
    probe->is.min_vqs = probe->is.max_vqs = 0;
    probe->is.vqs = given->has_vqs ? given->vqs : (uint32_t)probe->queue_num;
    probe->is.standalone = false;
    /* some count pairs of queues there, so that both can be right */
    if (given->has_vqs && probe->queue_num && given->vqs > probe->queue_num)
        snprintf(probe->note, sizeof probe->note,
                 "%s: vqs=%u was given, "
                 "GET_QUEUE_NUM says %" PRIu64 ": going by what was given",
                 fe->name, given->vqs, probe->queue_num);
    if (!given->has_config_size && fe->acked & VU_PF_CONFIG)
        snprintf(probe->note, sizeof probe->note,
                 "%s: without config-size= "
                 "the guest sees no config space, though the back-end offers "
                 "one",
                 fe->name);
    return 0;
}

static int check_config_source(struct probe *probe)
{
    const struct probe_given *given = &probe->given;
    struct frontend *fe = probe->fe;

    if (given->config && fe->acked & VU_PF_CONFIG)
        return frontend_lose(fe, -EINVAL,
                             "config= was given, but the back-end "
                             "offers its own config space (CONFIG): leave it "
                             "out");
    if (probe->is.dialect == DIALECT_NONE && given->has_config_size &&
        given->config_size && !given->config && !(fe->acked & VU_PF_CONFIG))
        return frontend_lose(fe, -EINVAL,
                             "config-size=%u was given, but the "
                             "back-end has no config space to read (CONFIG): "
                             "give its bytes with config=HEX or config=@FILE",
                             given->config_size);
    return 0;
}

/* Round three: everything that needs no answer but the features. */
static int ask_all(struct probe *probe)
{
    struct frontend *fe = probe->fe;
    bool probing = wants_probe(probe);
    int rc = 0;

    fe->acked = choose(probe);
    probe->is.inband = fe->acked & VU_PF_INBAND_NOTIFICATIONS;
    memset(&probe->is.shm, 0, sizeof probe->is.shm);
    if (!probing) {
        probe->is.dialect = DIALECT_NONE;
        rc = need_values(probe);
    }
    if (rc == 0)
        rc = check_config_source(probe);
    if (rc == 0 && probe->is.features & VHOST_F_PROTOCOL_FEATURES)
        rc = set_protocol(probe, probing);
    if (rc == 0 && probing) {
        probe->asked = true;
        rc = ask(fe, VU_GET_BACKEND_SPECS, 0, VU_MAX_PAYLOAD, true, take_probe);
    }
    if (rc == 0 && fe->acked & VU_PF_MQ)
        rc = ask(fe, VU_GET_QUEUE_NUM, 8, 8, false, take_u64);
    else if (rc == 0 && probing)
        rc = ask(fe, VU_GET_FEATURES, 8, 8, false, take_fence);
    if (rc == 0 && fe->acked & VU_PF_CONFIGURE_MEM_SLOTS)
        rc = ask(fe, VU_GET_MAX_MEM_SLOTS, 8, 8, false, take_u64);
    if (rc == 0 && fe->acked & VU_PF_SHMEM)
        rc = ask(fe, VU_GET_SHMEM_CONFIG, 8, sizeof probe->is.shm, false,
                 take_shm);
    if (rc == 0 && fe->acked & VU_PF_BACKEND_REQ)
        rc = frontend_send(fe, VU_SET_BACKEND_REQ_FD, NULL, 0,
                           &probe->backend_req_fd, 1);
    if (rc == 0 && !probing)
        rc = ask_config(
            probe, probe->given.has_config_size ? probe->given.config_size : 0);
    return rc;
}

/* Round three has been answered; what does it ask for next? */
static int after_ask(struct probe *probe)
{
    struct frontend *fe = probe->fe;
    bool asked = probe->asked;
    int rc;

    probe->round = PROBE_DONE;
    switch (probe->is.dialect) {
    case DIALECT_SPECS:
        probe->round = PROBE_CONFIG;
        return judge(probe);
    case DIALECT_MESSAGES:
        probe->round = PROBE_SIZES;
        probe->is.max_vqs = (uint32_t)probe->queue_num;
        rc = ask(fe, VU_GET_CONFIG_SIZE, 4, 4, false, take_u32);
        return rc < 0 ? rc : ask(fe, VU_GET_MIN_VQ, 4, 4, false, take_u32);
    case DIALECT_UNKNOWN:
    case DIALECT_NONE:
        break;
    }
    if (asked) { /* and got nothing: the bit is not what it seemed */
        if ((rc = need_values(probe)) < 0 ||
            (rc = check_config_source(probe)) < 0 ||
            (rc = set_protocol(probe, false)) < 0 ||
            (rc = ask_config(probe, probe->given.has_config_size
                                        ? probe->given.config_size
                                        : 0)) < 0)
            return rc;
    }
    probe->round = PROBE_CONFIG;
    return use_given(probe);
}

static int check_features(struct probe *probe)
{
    struct frontend *fe = probe->fe;

    if (!(probe->is.features & VIRTIO_F_VERSION_1))
        return frontend_lose(fe, -ENODEV,
                             "the back-end offers no VERSION_1 "
                             "(feature bit 32), and legacy devices are not "
                             "supported");
    return 0;
}

/* Send the first or next round, given that the one before was answered. */
static int next_round(struct probe *probe)
{
    struct frontend *fe = probe->fe;
    int rc;

    if (!probe->started) {
        probe->started = true;
        rc = frontend_send(fe, VU_SET_OWNER, NULL, 0, NULL, 0);
        return rc < 0 ? rc : ask(fe, VU_GET_FEATURES, 8, 8, false, take_u64);
    }
    switch (probe->round) {
    case PROBE_FEATURES:
        probe->round = PROBE_PROTOCOL;
        rc = check_features(probe);
        if (rc < 0 || !(probe->is.features & VHOST_F_PROTOCOL_FEATURES))
            return rc;
        return ask(fe, VU_GET_PROTOCOL_FEATURES, 8, 8, false, take_u64);
    case PROBE_PROTOCOL:
        probe->round = PROBE_ASK;
        if (probe->is.protocol & VU_PF_STANDALONE)
            probe->saw_bit18 = true;
        return ask_all(probe);
    case PROBE_ASK:
        return after_ask(probe);
    case PROBE_SIZES:
        probe->round = PROBE_CONFIG;
        if (!probe->queue_num)
            probe->is.max_vqs = probe->is.min_vqs;
        return judge(probe);
    case PROBE_CONFIG:
    case PROBE_DONE:
        probe->round = PROBE_DONE;
        return 0;
    }
    return 0;
}

int probe_step(struct probe *probe)
{
    struct frontend *fe = probe->fe;

    for (;;) {
        int rc = frontend_pump(fe);

        if (rc < 0 || probe->round == PROBE_DONE)
            return rc;
        rc = next_round(probe);
        if (rc < 0)
            return rc;
        if (fe->head < fe->tail)
            fe->waits++;
    }
}
