/*
 * The front-end against a back-end whose every answer the input may bend: the
 * probe, then what a guest's accesses cause in the order in which the transport
 * causes it, resets, and connections that come back. After each step the
 * connection is either lost, with a reason, or owes and is owed nothing.
 *
 * Input: 16 bytes of what both sides are, a count, so many bytes of steps, and
 * the back-end's lies.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/frontend.h"
#include "devices/probe.h"
#include "devices/shm.h"
#include "devices/virtio.h"
#include "tests/fuzz/liar.h"

#define RINGS    3u
#define MAX_ACTS 24u
#define NAME     "virtio0"

#define SERVED                                                                 \
    (FRONTEND_PROTOCOL | FRONTEND_SHM | FRONTEND_INBAND |                      \
     VU_PF_INFLIGHT_SHMFD | VU_PF_STANDALONE)

int fuzz_poll(struct pollfd *fds, nfds_t n, int timeout);

/* Made once. */
static struct {
    bool made;
    struct mem mem;
    int kick[RINGS], call, err, stop, attached, request_fd;
} host;

/* One run. */
static struct run {
    struct frontend fe;
    struct probe probe;
    struct liar liar;
    struct vring ring[RINGS];
    struct vring_given given[RINGS];
    struct vrings rings;
    bool small_buffer; /* the socket is soon full */
    bool whole;        /* nothing is wrong unless an answer is bent */
    bool running;
    uint8_t statuses[3]; /* as the driver would have written them */
    unsigned n_statuses;
    uint8_t config[FRONTEND_MAX_CONFIG];
    unsigned arrived;
    unsigned opened; /* descriptors, before */
} run;

static void make_host(void)
{
    static const struct mem_layout layout = {
        .n = 2,
        .range = { { 0, 0x10000 }, { 0x100000000, 0x10000 } },
    };
    struct husk_err err;
    int pair[2];

    if (host.made)
        return;
    host.made = true;
    CHECK(mem_init(&host.mem, 0x20000, &layout, &err) == 0);
    for (unsigned i = 0; i < RINGS; i++)
        host.kick[i] = eventfd(0, EFD_NONBLOCK);
    host.call = eventfd(0, EFD_NONBLOCK);
    host.err = eventfd(0, EFD_NONBLOCK);
    host.stop = eventfd(0, EFD_NONBLOCK);
    host.attached = eventfd(0, EFD_NONBLOCK);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    host.request_fd = pair[0];
}

static void turn(void)
{
    liar_turn(&run.liar);
}

static void connect_again(void)
{
    int pair[2], size = 1;

    liar_hang_up(&run.liar);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    if (run.small_buffer)
        CHECK(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) ==
              0);
    wire_fini(&run.fe.wire);
    liar_connect(&run.liar, pair[1]);
    frontend_init(&run.fe, pair[0]);
    probe_start(&run.probe, &run.fe);
}

/* The reason must be there, and bear the device's name. */
static void check_lost(int rc)
{
    CHECK(rc < 0 && rc != -EAGAIN);
    CHECK(run.fe.lost);
    CHECK(run.fe.err.code < 0);
    CHECK(!strncmp(run.fe.err.text, NAME ": ", strlen(NAME ": ")));
    CHECK(run.fe.err.text[strlen(NAME ": ")] != 0);
    CHECK_EQ(frontend_pump(&run.fe), -ENOTCONN);
    CHECK(frontend_wait(&run.fe, 0) == -ENOTCONN);
}

static uint64_t deadline(void)
{
    return fuzz_now + 5000000000;
}

static void drain_stop(void)
{
    uint64_t count;

    while (read(host.stop, &count, sizeof count) > 0)
        ;
}

/* What a call that waits has returned. */
static void judge(int rc)
{
    struct frontend *fe = &run.fe;

    if (rc == 0) {
        CHECK(!fe->lost);
        CHECK(!run.liar.flagrant || run.liar.shifted);
        CHECK_EQ(fe->head, fe->tail);
        CHECK_EQ(fe->wire.sent, fe->wire.end);
        CHECK_EQ(fe->config_due, 0);
        CHECK_EQ(frontend_events(fe), 0);
    } else if (rc == -ECANCELED) {
        /* answers stay due; the loop would take them */
        CHECK(!fe->lost);
        drain_stop();
        judge(frontend_wait(fe, deadline()));
    } else {
        CHECK(!run.whole || run.liar.lied);
        check_lost(rc);
    }
}

/* As the loop does it: poll, or lose the connection at the deadline. */
static int probe_all(void)
{
    for (;;) {
        struct pollfd polled = { .fd = run.fe.wire.fd };
        int rc = probe_step(&run.probe);

        if (rc != -EAGAIN)
            return rc;
        polled.events = frontend_events(&run.fe);
        CHECK(polled.events);
        if (fuzz_poll(&polled, 1, 5000) == 0)
            frontend_timeout(&run.fe);
    }
}

static void check_verdict(void)
{
    const struct probe *probe = &run.probe;
    const struct probe_given *given = &probe->given;
    uint64_t served = SERVED & ~VU_PF_STANDALONE;
    struct husk_err err = { 0 };
    struct shm shm;

    judge(0);
    CHECK(probe->is.vqs >= 1 && probe->is.vqs <= FRONTEND_MAX_VQS);
    CHECK(probe->is.id != 0);
    CHECK(run.fe.is->config_size <= FRONTEND_MAX_CONFIG);
    CHECK_EQ(run.fe.is->config_size, probe->is.config_size);
    CHECK_EQ(run.fe.acked & ~(run.fe.is->protocol & served), 0);
    CHECK(run.fe.is->features & VIRTIO_F_VERSION_1);
    if (given->has_id)
        CHECK_EQ(given->id, probe->is.id);
    if (given->has_vqs)
        CHECK_EQ(given->vqs, probe->is.vqs);
    if (probe->backend_req_fd < 0)
        CHECK_EQ(run.fe.acked & VU_PF_BACKEND_REQ, 0);
    CHECK(memchr(probe->note, 0, sizeof probe->note) != NULL);
    if (run.whole && !run.liar.lied)
        CHECK(!memcmp(run.fe.config, run.liar.config, run.fe.is->config_size));
    if (shm_init(&shm, &probe->is.shm, &err) < 0)
        CHECK(err.code < 0 && err.text[0]);
    shm_fini(&shm);
}

static void config_arrived(void *ctx)
{
    CHECK(ctx == &run);
    memcpy(run.config, run.fe.config, run.fe.is->config_size);
    run.arrived++;
}

/* Through the probe, again without one where that may help. */
static bool handshake(void)
{
    for (unsigned tries = 0;; tries++) {
        int rc;

        CHECK(tries < 2);
        connect_again();
        rc = probe_all();
        if (rc == 0)
            break;
        check_lost(rc);
        CHECK(!run.whole || run.liar.lied);
        if (!probe_again(&run.probe))
            return false;
    }
    check_verdict();
    run.fe.ctx = &run;
    run.fe.config_arrived = config_arrived;
    return true;
}

static int set_features(struct input *acts)
{
    static const uint64_t mix[] = { 0, VIRTIO_F_RING_PACKED,
                                    VIRTIO_F_RING_RESET, VIRTIO_F_EVENT_IDX };
    uint8_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                     VIRTIO_STATUS_FEATURES_OK;
    bool accepted = false;
    int rc;

    run.rings.driver_features = VIRTIO_F_VERSION_1 | mix[input_u8(acts) & 3];
    rc = frontend_features(&run.fe, run.rings.driver_features, status,
                           &accepted, deadline());
    if (rc == 0) {
        run.statuses[0] = VIRTIO_STATUS_ACKNOWLEDGE;
        run.statuses[1] = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;
        run.statuses[2] = status;
        run.n_statuses = accepted ? 3 : 2;
        if (run.whole && !run.liar.lied)
            CHECK(accepted);
    }
    return rc;
}

static void lay_ring(unsigned index, struct input *acts)
{
    uint8_t where = input_u8(acts);
    gpa_t base = where & 0x80 ? 0x100000000 : 0;

    run.ring[index] = (struct vring){
        .desc = base + 0x1000 * index,
        .driver = base + 0x5000 + 0x1000 * index,
        .device = base + 0xa000 + 0x100 * (where & 15),
        .num = 1u << (where >> 4 & 7),
        .ready = true,
    };
}

static int start(struct input *acts)
{
    uint8_t mask = ~input_u8(acts);
    uint64_t stale = 3;

    if (run.running)
        return 0;
    for (unsigned i = 0; i < run.rings.n; i++)
        if (mask >> i & 1) {
            lay_ring(i, acts);
            CHECK(write(host.kick[i], &stale, sizeof stale) > 0);
        }
    run.running = true;
    return frontend_start(&run.fe, &run.rings, 0x0f, deadline());
}

static int stop_ring(struct input *acts)
{
    unsigned index = input_u8(acts) % run.rings.n;
    int rc;

    if (!run.running || !run.given[index].started)
        return 0;
    rc = frontend_ring_stop(&run.fe, &run.rings, index, deadline());
    if (rc == 0)
        CHECK(!run.given[index].started);
    run.ring[index].ready = false;
    return rc;
}

static int start_ring(struct input *acts)
{
    unsigned index = input_u8(acts) % run.rings.n;

    if (!run.running || run.given[index].started || run.ring[index].ready)
        return 0;
    lay_ring(index, acts);
    return frontend_ring_start(&run.fe, &run.rings, index, deadline());
}

static int write_config(struct input *acts)
{
    uint32_t offset = input_u16(acts), size = 1u << input_u8(acts) % 3;
    uint8_t bytes[4] = { 1, 2, 3, 4 };

    if (offset > run.fe.is->config_size ||
        size > run.fe.is->config_size - offset)
        return 0;
    return frontend_config_write(&run.fe, offset, bytes, size, deadline());
}

/* A kick by message, as the transport does it. */
static int kick(struct input *acts)
{
    unsigned index = input_u8(acts) % run.rings.n;
    int rc;

    if (!(run.fe.acked & VU_PF_INBAND_NOTIFICATIONS) ||
        !run.given[index].started)
        return 0;
    rc = frontend_kick(&run.fe, index);
    return rc < 0 ? rc : frontend_wait(&run.fe, deadline());
}

static void forget_rings(void)
{
    for (unsigned i = 0; i < run.rings.n; i++) {
        CHECK(!run.given[i].started);
        run.ring[i] = (struct vring){ 0 };
    }
    run.running = false;
    run.n_statuses = 0;
}

static int reset(bool waits)
{
    int rc;

    if (waits) {
        rc = frontend_reset(&run.fe, &run.rings, deadline());
    } else {
        rc = frontend_send_reset(&run.fe, &run.rings);
        if (rc == 0)
            rc = frontend_wait(&run.fe, deadline());
    }
    forget_rings();
    return rc;
}

/* The back-end went, and another one comes in its place. */
static int come_back(void)
{
    bool had = false;
    int rc;

    for (unsigned i = 0; i < run.rings.n; i++) {
        had |= run.given[i].started;
        run.given[i].started = false;
    }
    if (!handshake())
        return -ENOTCONN;
    if (!had || !(run.fe.acked & VU_PF_INFLIGHT_SHMFD))
        frontend_drop_inflight(&run.fe);
    rc = frontend_send_statuses(&run.fe, run.statuses, run.n_statuses,
                                run.rings.driver_features);
    if (rc == 0)
        rc = frontend_wait(&run.fe, deadline());
    if (rc < 0 || !run.running)
        return rc;
    rc = frontend_get_inflight(&run.fe, &run.rings);
    if (rc == 0)
        rc = frontend_wait(&run.fe, deadline());
    if (rc == 0)
        rc = frontend_send_rings(&run.fe, &run.rings, 0x0f);
    if (rc == 0)
        rc = frontend_wait(&run.fe, deadline());
    if (rc == 0)
        rc = frontend_kick_all(&run.fe, &run.rings);
    return rc < 0 ? rc : frontend_wait(&run.fe, deadline());
}

static int act(struct input *acts)
{
    switch (input_u8(acts) % 12) {
    case 0:
        return set_features(acts);
    case 1:
        return start(acts);
    case 2:
        return frontend_status(&run.fe, input_u8(acts), deadline());
    case 3:
        frontend_config_refresh(&run.fe);
        run.liar.config[input_u8(acts)]++;
        frontend_config_refresh(&run.fe);
        return frontend_wait(&run.fe, deadline());
    case 4:
        return write_config(acts);
    case 5:
        return stop_ring(acts);
    case 6:
        return start_ring(acts);
    case 7:
        return reset(true);
    case 8:
        return reset(false);
    case 9:
        return kick(acts);
    case 10:
        return come_back();
    default:
        frontend_pump(&run.fe);
        return frontend_wait(&run.fe, deadline());
    }
}

/* What stands at both ends, and whether nothing is wrong with it. */
static void set_up(struct input *in)
{
    static const uint32_t sizes[] = { 20, 0, 1, 255, 256, 257, 4096, 4097 };
    static const uint32_t counts[] = {
        2, 1, 3, 256, 257, 0, 0x10001, 0xffffffff
    };
    static const uint32_t ids[] = { 4, 1, 0, 0xffffffff };
    static const uint8_t given_config[FRONTEND_MAX_CONFIG];
    struct liar *liar = &run.liar;
    struct probe_given *given = &run.probe.given;
    uint8_t dialect = input_u8(in), flags = input_u8(in), mode = input_u8(in);
    uint32_t protocol = input_u32(in);
    uint8_t features = input_u8(in), config = input_u8(in);
    uint8_t queues = input_u8(in), numbers = input_u8(in);
    uint8_t rest = input_u8(in), slots = input_u8(in);

    liar->dialect = (enum liar_dialect)(dialect % 4);
    liar->protocol = (SERVED & ~VU_PF_INBAND_NOTIFICATIONS) ^ protocol;
    liar->features = VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES |
                     VIRTIO_F_RING_RESET | VIRTIO_F_RING_PACKED;
    if (features & 1)
        liar->features ^= VIRTIO_F_VERSION_1;
    if (features & 2)
        liar->features ^= VHOST_F_PROTOCOL_FEATURES;
    liar->specs.id = ids[numbers & 3];
    liar->specs.config_size = sizes[config & 7];
    liar->specs.max_vqs = counts[queues & 7];
    liar->specs.min_vqs = counts[(queues >> 3 & 7) ^ 1];
    liar->queue_num = counts[(queues & 7) ^ (numbers >> 5)];
    liar->slots = slots ^ 8;
    for (unsigned i = 0; i < sizeof liar->config; i++)
        liar->config[i] = (uint8_t)(i * 3 + 1);

    given->mode = (enum probe_mode)(mode % 4);
    given->has_id = flags & 1;
    given->id = ids[numbers >> 2 & 1];
    given->has_vqs = flags & 2;
    given->vqs = counts[config >> 3 & 3];
    given->has_config_size = flags & 12;
    given->config_size = sizes[config >> 5 & 3];
    given->config = flags & 8 ? given_config : NULL;
    given->inband = flags & 16;
    given->inflight = flags & 32;
    run.small_buffer = rest & 1;
    run.probe.backend_req_fd = rest & 2 ? -1 : host.request_fd;

    run.whole = dialect % 4 < 2 && !(flags & 15) && mode % 4 == 0 &&
                !(features & 3) && liar->protocol & VU_PF_STANDALONE &&
                (liar->protocol & VU_PF_MQ || dialect % 4 == LIAR_SPECS) &&
                liar->protocol & VU_PF_CONFIG && liar->specs.id &&
                liar->specs.config_size <= FRONTEND_MAX_CONFIG &&
                liar->specs.max_vqs >= 1 && liar->specs.max_vqs <= 256 &&
                liar->specs.min_vqs <= liar->specs.max_vqs &&
                liar->specs.min_vqs <= liar->queue_num &&
                liar->queue_num >= 1 && liar->queue_num <= 256 &&
                liar->slots >= 2;
}

static void clean_up(void)
{
    uint64_t count;

    fuzz_turn = NULL;
    liar_hang_up(&run.liar);
    frontend_fini(&run.fe);
    frontend_fini(&run.fe);
    drain_stop();
    for (unsigned i = 0; i < RINGS; i++)
        while (read(host.kick[i], &count, sizeof count) > 0)
            ;
    CHECK_EQ(fuzz_open_fds(), run.opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size }, setup, acts;

    make_host();
    memset(&run, 0, sizeof run);
    run.opened = fuzz_open_fds();
    run.liar.fd = -1;
    run.liar.attached = host.attached;
    run.liar.stop_fd = run.fe.stop_fd = host.stop;
    run.fe.wire.fd = run.fe.inflight_fd = -1;
    run.fe.name = NAME;
    run.fe.mem = &host.mem;
    run.fe.call_fd = host.call;
    run.fe.err_fd = host.err;
    run.fe.deadline = 5;
    for (unsigned i = 0; i < RINGS; i++)
        atomic_init(&run.given[i].kick, host.kick[i]);
    run.rings = (struct vrings){ .ring = run.ring, .given = run.given };
    setup = input_cut(&in, 16);
    set_up(&setup);
    acts = input_cut(&in, input_u8(&in));
    run.liar.lies = in;

    fuzz_turn = turn;
    if (handshake()) {
        run.rings.n = run.probe.is.vqs < RINGS ? run.probe.is.vqs : RINGS;
        for (unsigned i = 0; i < MAX_ACTS && input_left(&acts); i++) {
            bool lost = run.fe.lost;
            uint64_t before = fuzz_now;
            int rc = act(&acts);

            /* one deadline an access, four where it came back */
            CHECK(fuzz_now - before < 21000000000);
            if (!lost || !run.fe.lost)
                judge(rc);
        }
    }
    clean_up();
    return 0;
}
