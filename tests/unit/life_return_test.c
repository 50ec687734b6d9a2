/*
 * A back-end that is lost and returns: the pauses between attempts, what is
 * restored, whatever the guest does meanwhile, and when it is given up.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/doorbell.h"
#include "devices/virtio.h"
#include "tests/unit/life.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define ROUNDS   100

static struct life life;

/* The timer, and after how long. */
static void expect_tick(double seconds)
{
    double passed = life_tick(&life);

    cr_assert_float_eq(passed, seconds, 1e-6, "%g s, not %g", passed, seconds);
}

static void expect_status(uint32_t status)
{
    uint32_t is = life_read(&life, VIRTIO_MMIO_STATUS);

    cr_assert_eq(is, status, "status 0x%x, not 0x%x", is, status);
}

/* A driver runs, and its back-end is gone. */
static void begin(const char *pairs)
{
    life_init(&life, pairs);
    life_drive(&life, FEATURES);
    life_hang_up(&life);
    life_expect(&life, DEVICE_PAUSING);
}

Test(life_return, restored, .timeout = 20)
{
    static const uint32_t order[] = {
        VU_SET_STATUS,      VU_SET_STATUS,       VU_SET_FEATURES,
        VU_SET_STATUS,      VU_GET_STATUS,       VU_SET_MEM_TABLE,
        VU_SET_INFLIGHT_FD, VU_SET_VRING_NUM,    VU_SET_VRING_ADDR,
        VU_SET_VRING_BASE,  VU_SET_VRING_ERR,    VU_SET_VRING_CALL,
        VU_SET_VRING_KICK,  VU_SET_VRING_ENABLE, VU_SET_STATUS,
        VU_GET_STATUS,
    };
    const struct model *m = &life.model;
    unsigned at = 0;

    begin("reconnect=on");
    cr_assert_eq(life_said(&life, "the back-end hung up: connecting again"), 1);
    expect_tick(0);
    life_expect(&life, DEVICE_SERVING);
    while (at < m->n_log && m->log[at].request != VU_SET_STATUS)
        at++;
    for (unsigned i = 0; i < COUNT(order); i++)
        cr_assert_eq(m->log[at + i].request, order[i], "message %u is %u", i,
                     m->log[at + i].request);
    cr_assert_eq(at + COUNT(order), m->n_log);
    cr_assert_eq(m->status, 0x0f);
    cr_assert(life_rung(m->kick[0]), "ring 0 got no kick");
    cr_assert(life_rung(life.call_fd), "the guest got no interrupt");
    cr_assert_eq(life_said(&life, "the back-end is back"), 1);
    cr_assert_eq(life.device.connections, 2);
    cr_assert_not(ev_is_active(&life.device.link.timer));
    expect_status(0x0f);
    cr_assert_eq(life.n_lost, 0);
    life_fini(&life);
}

/* A back-end that nothing was said to yet. */
Test(life_return, without_a_driver, .timeout = 20)
{
    life_init(&life, "reconnect=on");
    life_place(&life);
    life_hang_up(&life);
    life_come_back(&life);
    cr_assert_eq(model_count(&life.model, VU_SET_STATUS), 0);
    life_go(&life, FEATURES);
    expect_status(0x0f);
    life_fini(&life);
}

/* The driver's steps while nobody is there are those of the next one. */
Test(life_return, driven_meanwhile, .timeout = 20)
{
    life_init(&life, "reconnect=on");
    life_place(&life);
    life_hang_up(&life);
    life_go(&life, FEATURES);
    expect_status(0x0f);
    life_write(&life, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    life_write_config(&life, 3, 0x33);
    life_write_config(&life, 4, 0x44);
    life_write_config(&life, 9, 0x99);
    life_come_back(&life);
    cr_assert_eq(life.model.status, 0x0f);
    cr_assert_eq(model_count(&life.model, VU_SET_CONFIG), 2);
    cr_assert_eq(life.model.config[3], 0x33);
    cr_assert_eq(life.model.config[4], 0x44);
    cr_assert_eq(life.model.config[9], 0x99);
    cr_assert_eq(life_read(&life, VIRTIO_MMIO_CONFIG + 4) & 0xff, 0x44);
    cr_assert(life_rung(life.model.kick[0]));
    life_fini(&life);
}

Test(life_return, reset_meanwhile, .timeout = 20)
{
    begin("reconnect=on");
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    expect_status(0);
    life_come_back(&life);
    cr_assert_eq(model_count(&life.model, VU_SET_STATUS), 0);
    life_go(&life, FEATURES);
    expect_status(0x0f);
    /* and features that are accepted while nobody is there */
    life_hang_up(&life);
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    life_go(&life, VIRTIO_F_VERSION_1);
    life_come_back(&life);
    cr_assert_eq(life.model.accepted,
                 VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES);
    life_fini(&life);
}

/* Where a ring that was reset stood the inflight area does not say. */
Test(life_return, ring_reset_meanwhile, .timeout = 20)
{
    begin("reconnect=on");
    life_write(&life, VIRTIO_MMIO_QUEUE_RESET, 1);
    life_ready(&life, 0, 8);
    life_come_back(&life);
    expect_status(0x0f | VIRTIO_STATUS_NEEDS_RESET);
    cr_assert_eq(model_count(&life.model, VU_SET_VRING_KICK), 0);
    life_write(&life, VIRTIO_MMIO_QUEUE_RESET, 1); /* goes nowhere either */
    life_ready(&life, 0, 8);
    cr_assert_eq(model_count(&life.model, VU_GET_VRING_BASE), 0);
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    life_go(&life, FEATURES);
    expect_status(0x0f);
    cr_assert_eq(model_count(&life.model, VU_SET_VRING_KICK), 1);
    life_fini(&life);
}

Test(life_return, doubles, .timeout = 20)
{
    life_init(&life, "reconnect=on");
    life.model.protocol &= ~VU_PF_INFLIGHT_SHMFD;
    life_drive(&life, FEATURES);
    for (unsigned i = 0; i < 2; i++) {
        life_hang_up(&life);
        life_come_back(&life);
    }
    cr_assert_eq(life_said(&life, "may be done twice"), 1);
    life_fini(&life);
}

/* A packed ring's place is lost with a back-end that keeps no area. */
Test(life_return, packed_ring, .timeout = 20)
{
    for (unsigned kept = 0; kept < 2; kept++) {
        life_init(&life, "reconnect=on");
        if (!kept)
            life.model.protocol &= ~VU_PF_INFLIGHT_SHMFD;
        life_drive(&life, FEATURES | VIRTIO_F_RING_PACKED);
        life_hang_up(&life);
        life_come_back(&life);
        expect_status(kept ? 0x0f : 0x0f | VIRTIO_STATUS_NEEDS_RESET);
        life_fini(&life);
    }
}

/* Nobody listens: pauses double, and begin anew after a second of service. */
Test(life_return, pauses, .timeout = 20)
{
    static const double pauses[] = { 0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1 };

    life_init(&life, "reconnect=on");
    life_drive(&life, FEATURES);
    life_deafen(&life);
    life_hang_up(&life);
    for (unsigned i = 0; i < COUNT(pauses); i++) {
        expect_tick(pauses[i]);
        life_expect(&life, DEVICE_PAUSING);
    }
    life_listen(&life);
    expect_tick(1);
    life_expect(&life, DEVICE_SERVING);
    life_pass(0.9);
    life_hang_up(&life);
    expect_tick(1); /* it served too short a time */
    life_expect(&life, DEVICE_SERVING);
    life_pass(1.1);
    life_hang_up(&life);
    expect_tick(0);
    life_expect(&life, DEVICE_SERVING);
    cr_assert_eq(life_said(&life, "connecting again"), 3);
    life_fini(&life);
}

/* For as long as reconnect= says. */
Test(life_return, given_up, .timeout = 20)
{
    double passed = 0;

    life_init(&life, "reconnect=3");
    life_drive(&life, FEATURES);
    life_deafen(&life);
    life_hang_up(&life);
    for (unsigned n = 0; life.device.state == DEVICE_PAUSING; n++) {
        passed += life_tick(&life);
        cr_assert_lt(n, ROUNDS);
    }
    cr_assert(passed > 3 && passed <= 4.1, "after %g s", passed);
    life_expect(&life, DEVICE_LOST);
    cr_assert_eq(life.n_lost, 1);
    cr_assert_eq(life_said(&life, "given up after 3 s (reconnect=)"), 1);
    expect_status(0x0f | VIRTIO_STATUS_NEEDS_RESET);
    cr_assert(life_rung(life.call_fd));
    life_fini(&life);
}

/* What came back is another device, or less than it was: refused at once. */
static void other_id(struct model *m)
{
    m->id = 43;
}

static void fewer_features(struct model *m)
{
    m->features &= ~VIRTIO_F_RING_RESET;
}

static void other_shm(struct model *m)
{
    m->protocol |= VU_PF_SHMEM;
    m->shm.n_regions = 1;
    m->shm.size[1] = 4096;
}

static void no_features_ok(struct model *m)
{
    m->status_refused = VIRTIO_STATUS_FEATURES_OK;
}

Test(life_return, refused, .timeout = 20)
{
    static const struct {
        void (*change)(struct model *m);
        const char *text;
    } rows[] = {
        { other_id, "another device came back: id 43" },
        { fewer_features, "without features that it offered" },
        { other_shm, "with other shared memory regions" },
        { no_features_ok, "refuses the features that the guest uses" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        begin("reconnect=on");
        rows[i].change(&life.model);
        life_tick(&life);
        life_expect(&life, DEVICE_LOST);
        cr_assert_eq(life.n_lost, 1);
        cr_assert_eq(life_said(&life, rows[i].text), 1, "%s", rows[i].text);
        expect_status(0x0f | VIRTIO_STATUS_NEEDS_RESET);
        life_fini(&life);
    }
}

/* Ticks until the device serves again. */
static unsigned come_back(void)
{
    unsigned n = 0;

    while (life.device.state != DEVICE_SERVING) {
        life_tick(&life);
        cr_assert_lt(n++, ROUNDS, "it never comes back");
    }
    return n;
}

static void hang_up_once(struct model *m, struct model_reply *reply)
{
    if (m->n_log != m->arg)
        return;
    m->arg = 0;
    reply->never = false;
    reply->cut = 0;
}

/* It hangs up again at each message of its return, which the loop sees by the
 * end of its socket or by EPOLLRDHUP first. */
static unsigned hang_up_everywhere(bool backwards)
{
    for (unsigned at = 1;; at++) {
        unsigned ticks;

        begin("reconnect=on");
        life.backwards = backwards;
        life.model.bend_any = true;
        life.model.bend = hang_up_once;
        life.model.arg = at;
        ticks = come_back();
        cr_assert_leq(ticks, 2, "message %u: %u ticks", at, ticks);
        expect_status(0x0f);
        cr_assert_eq(life.model.status, 0x0f);
        cr_assert_eq(life.n_lost, 0);
        cr_assert_eq(life.device.connections, life.model.arg ? 2 : 3);
        life_fini(&life);
        if (life.model.arg)
            return at; /* it has not so many messages */
    }
}

Test(life_return, gone_once_more, .timeout = 60)
{
    cr_assert_geq(hang_up_everywhere(false), 20);
    cr_assert_geq(hang_up_everywhere(true), 20);
}

/* What the guest does in the midst of it. */
static void write_now(uint32_t offset, uint32_t value)
{
    transport_write(&life.device.transport, offset, &value, sizeof value);
}

static void do_reset(void)
{
    write_now(VIRTIO_MMIO_STATUS, 0);
}

static void do_config(void)
{
    uint8_t value = 0x5a;

    transport_write(&life.device.transport, VIRTIO_MMIO_CONFIG + 7, &value, 1);
}

static void do_ring_reset(void)
{
    write_now(VIRTIO_MMIO_QUEUE_SEL, 0);
    write_now(VIRTIO_MMIO_QUEUE_RESET, 1);
}

static void do_kick(void)
{
    write_now(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

static void do_reboot(void)
{
    device_reboot(&life.device);
    cr_assert_eq(life.n_settled, 1, "no back-end has to answer");
}

static void (*deed)(void);

static void act_once(struct model *m, struct model_reply *reply)
{
    (void)reply;
    if (m->n_log != m->arg)
        return;
    m->arg = 0;
    deed();
}

/* A device that serves shows the guest and its back-end the same. */
static void expect_agreement(uint32_t status)
{
    const struct vrings *rings = &life.device.transport.rings;

    expect_status(status);
    cr_assert_eq(life.model.status, status & ~VIRTIO_STATUS_NEEDS_RESET);
    for (unsigned i = 0; i < rings->n && status == 0x0f; i++)
        cr_assert_eq(rings->given[i].started, rings->ring[i].ready, "ring %u",
                     i);
}

Test(life_return, changed_meanwhile, .timeout = 60)
{
    static void (*const deeds[])(void) = { do_reset, do_config, do_ring_reset,
                                           do_kick, do_reboot };

    for (unsigned i = 0; i < COUNT(deeds); i++) {
        for (unsigned at = 1; at < 60; at++) {
            begin("reconnect=on");
            deed = deeds[i];
            life.model.bend_any = true;
            life.model.bend = act_once;
            life.model.arg = at;
            life_tick(&life);
            if (life.model.arg) { /* it has not so many messages */
                cr_assert_geq(at, 20);
                life_fini(&life);
                break;
            }
            come_back();
            life_run(&life);
            if (deed == do_reset || deed == do_reboot) {
                life.model.status = 0; /* a new connection has had none */
                expect_agreement(0);
                cr_assert_not(life.device.transport.rings.given[0].started);
                life_go(&life, FEATURES);
                expect_agreement(0x0f);
            } else if (deed == do_config) {
                expect_agreement(0x0f);
                cr_assert_eq(life.model.config[7], 0x5a, "message %u", at);
                cr_assert_eq(life_read(&life, VIRTIO_MMIO_CONFIG + 4) >> 24,
                             0x5a);
            } else if (deed == do_kick) {
                expect_agreement(0x0f);
                cr_assert_eq(life.device.connections, 2);
            }
            life_fini(&life);
        }
    }
}

/* A back-end that answers no more while it is probed or restored. */
static void fall_silent(struct model *m, struct model_reply *reply)
{
    (void)reply;
    if (m->n_log == m->arg || m->log[m->n_log - 1].request == m->arg)
        m->silent = true;
}

static void silence_at(uint32_t request)
{
    life.model.bend_request = request;
    life.model.arg = request;
    life.model.bend = fall_silent;
}

Test(life_return, deadlines, .timeout = 20)
{
    static const struct {
        uint32_t request;
        enum device_state state;
    } rows[] = {
        { VU_GET_FEATURES, DEVICE_REPROBING },
        { VU_GET_BACKEND_SPECS, DEVICE_REPROBING },
        { VU_GET_CONFIG, DEVICE_REPROBING },
        { VU_GET_STATUS, DEVICE_RESTORING },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        begin("reconnect=60,deadline=2");
        silence_at(rows[i].request);
        expect_tick(0);
        life_expect(&life, rows[i].state);
        expect_tick(2);
        life_expect(&life, DEVICE_PAUSING);
        expect_tick(0.05);
        life_expect(&life, rows[i].state);
        expect_tick(2);
        life.model.bend = NULL;
        expect_tick(0.1);
        life_expect(&life, DEVICE_SERVING);
        expect_status(0x0f);
        life_fini(&life);
    }
}

/* One that never answers is given up, also in the midst of its restoring. */
Test(life_return, given_up_while_restored, .timeout = 20)
{
    unsigned n = 0;

    begin("reconnect=5,deadline=2");
    silence_at(VU_GET_STATUS);
    while (life.device.state != DEVICE_LOST) {
        life_tick(&life);
        cr_assert_lt(n++, ROUNDS);
    }
    cr_assert_eq(life_said(&life, "no answer to GET_STATUS within 2 s"), 1);
    cr_assert_eq(life_said(&life, "given up after 5 s"), 1);
    cr_assert_eq(life.n_lost, 1);
    life_fini(&life);
}

/* No descriptor is left for an attempt: there is another one. */
Test(life_return, no_descriptor_left, .timeout = 20)
{
    for (unsigned n = 0; n < 3; n++) {
        begin("reconnect=on");
        life_limit(n);
        ev_timer_stop(life.loop, &life.device.link.timer);
        ev_invoke(life.loop, &life.device.link.timer, EV_TIMER);
        life_limit(LIFE_ALL);
        life_expect(&life, DEVICE_PAUSING);
        life_run(&life);
        life_come_back(&life);
        expect_status(0x0f);
        life_fini(&life);
    }
}

/* What the back-end reports while it is restored waits until it serves. */
static void report(struct model *m, struct model_reply *reply)
{
    (void)reply;
    m->bend = NULL;
    m->config[1] = 0xc1;
    model_ask(m, VU_BACKEND_CONFIG_CHANGE_MSG, NULL, 0, -1);
    if (m->arg)
        doorbell_ring(life.device.requests.err_fd);
    life_run(&life);
}

Test(life_return, reports_while_restored, .timeout = 20)
{
    for (uint64_t error = 0; error < 2; error++) {
        begin("reconnect=on");
        life.model.bend_request = VU_GET_STATUS;
        life.model.bend = report;
        life.model.arg = error;
        life_come_back(&life);
        life_run(&life);
        cr_assert_eq(life_read(&life, VIRTIO_MMIO_CONFIG) >> 8 & 0xff, 0xc1);
        expect_status(error ? 0x0f | VIRTIO_STATUS_NEEDS_RESET : 0x0f);
        cr_assert_eq(life_said(&life, "an error on a ring"), error);
        life_fini(&life);
    }
}

/* The back-end is lost while a guest's access waits for it. */
static void hang_up_at(struct model *m, struct model_reply *reply)
{
    m->bend = NULL;
    reply->never = false;
    reply->cut = 0;
}

static void report_and_hang_up(struct model *m, struct model_reply *reply)
{
    report(m, reply);
    m->bend_request = VU_SET_VRING_ENABLE;
    m->bend = hang_up_at;
}

/* What one back-end reports while it is restored does not stick to the next. */
Test(life_return, reports_before_a_failed_restore, .timeout = 20)
{
    begin("reconnect=on");
    life.model.bend_request = VU_GET_STATUS;
    life.model.bend = report_and_hang_up;
    life.model.arg = 1;
    life_tick(&life);
    life_expect(&life, DEVICE_PAUSING);
    cr_assert_null(life.model.bend);
    life_come_back(&life);
    life_run(&life);
    expect_status(0x0f);
    cr_assert_eq(life_said(&life, "an error on a ring"), 1);
    life_fini(&life);
}

Test(life_return, lost_in_an_access, .timeout = 20)
{
    static const uint32_t requests[] = { VU_GET_STATUS, VU_SET_VRING_ENABLE,
                                         VU_SET_STATUS, VU_GET_INFLIGHT_FD };

    for (unsigned i = 0; i < COUNT(requests); i++) {
        life_init(&life, "reconnect=on");
        life_place(&life);
        life.model.bend_request = requests[i];
        life.model.bend = hang_up_at;
        life_go(&life, FEATURES);
        cr_assert_null(life.model.bend);
        expect_status(0x0f);
        come_back();
        expect_agreement(0x0f);
        life_fini(&life);
    }
    /* config space, a ring's stop, and a reset */
    for (unsigned i = 0; i < 3; i++) {
        life_init(&life, "reconnect=on");
        life_drive(&life, FEATURES);
        life.model.bend_any = true;
        life.model.bend = hang_up_at;
        if (i == 0)
            life_write_config(&life, 5, 0x56);
        else if (i == 1)
            life_write(&life, VIRTIO_MMIO_QUEUE_RESET, 1);
        else
            life_write(&life, VIRTIO_MMIO_STATUS, 0);
        cr_assert_null(life.model.bend);
        come_back();
        if (i == 0)
            cr_assert_eq(life.model.config[5], 0x56);
        if (i == 2)
            expect_status(0);
        life_fini(&life);
    }
}

/* A vCPU that holds the lock hears of it first. */
Test(life_return, lock_is_held, .timeout = 20)
{
    begin("reconnect=on");
    life_come_back(&life);
    cr_assert(mailbox_trylock(&life.device.box));
    model_ask(&life.model, VU_BACKEND_CONFIG_CHANGE_MSG, NULL, 0, -1);
    link_watch(&life.device.link, life.device.fe.wire.fd, POLLOUT);
    life_run(&life);
    cr_assert_not(ev_is_active(&life.device.link.socket));
    link_timer_every(&life.device.link, 5);
    life_tick(&life);
    cr_assert(ev_is_active(&life.device.link.timer));
    life_hang_up(&life);
    life_expect(&life, DEVICE_SERVING);
    mailbox_unlock(&life.device.box);
    life_expect(&life, DEVICE_SERVING);
    life_run(&life);
    life_expect(&life, DEVICE_PAUSING);
    life_fini(&life);
}

/* A reset that could not have the lock is done when it is free. */
Test(life_return, late_reset, .timeout = 20)
{
    for (unsigned connected = 0; connected < 2; connected++) {
        begin("reconnect=on");
        if (connected)
            life_come_back(&life);
        cr_assert(mailbox_trylock(&life.device.box));
        life.device.transport.deadline = 0.001;
        write_now(VIRTIO_MMIO_STATUS, 0);
        expect_status(0x0f);
        mailbox_unlock(&life.device.box);
        expect_status(0);
        life_run(&life);
        if (!connected)
            life_come_back(&life);
        if (connected)
            cr_assert_eq(life.model.status, 0);
        else
            cr_assert_eq(model_count(&life.model, VU_SET_STATUS), 0);
        life_expect(&life, DEVICE_SERVING);
        life_fini(&life);
    }
}

/* The VM reboots, in each state. */
Test(life_return, reboot_while_serving, .timeout = 20)
{
    life_init(&life, "reconnect=on");
    life_drive(&life, FEATURES);
    device_reboot(&life.device);
    life_run(&life);
    cr_assert_eq(life.n_settled, 1);
    life_expect(&life, DEVICE_SERVING);
    expect_status(0);
    cr_assert_eq(life.model.status, 0);
    life_go(&life, FEATURES);
    expect_agreement(0x0f);
    life_fini(&life);
}

/* Its reset is not answered: a deadline, a hang-up, with and without a return.
 * What the back-end reports meanwhile changes nothing. */
Test(life_return, reboot_without_answer, .timeout = 20)
{
    for (unsigned i = 0; i < 4; i++) {
        life_init(&life, i & 1 ? "reconnect=on,deadline=2" : "deadline=2");
        life_drive(&life, FEATURES);
        life.model.silent = true;
        device_reboot(&life.device);
        life_run(&life);
        life_expect(&life, DEVICE_SETTLING);
        model_ask(&life.model, VU_BACKEND_CONFIG_CHANGE_MSG, NULL, 0, -1);
        doorbell_ring(life.device.requests.err_fd);
        life_run(&life);
        life_expect(&life, DEVICE_SETTLING);
        cr_assert_eq(life.n_settled, 0);
        if (i & 2)
            life_hang_up(&life);
        else
            expect_tick(2);
        cr_assert_eq(life.n_settled, 1);
        life_expect(&life, i & 1 ? DEVICE_PAUSING : DEVICE_LOST);
        expect_status(0);
        if (i & 1) {
            life_come_back(&life);
            life_go(&life, FEATURES);
            expect_agreement(0x0f);
        }
        life_fini(&life);
    }
}

/* Bring the device into a state of PAUSING to RESTORING, or LOST. */
static void bring(enum device_state state)
{
    static int crowd[8];

    begin(state == DEVICE_LOST ? "reconnect=60" : "reconnect=on");
    switch (state) {
    case DEVICE_RECONNECTING: {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int listener = life.listener;
        unsigned n = 0;

        life.listener = -1; /* nobody accepts */
        strcpy(address.sun_path, life.folder.file[0]);
        do {
            cr_assert_lt(n, COUNT(crowd));
            crowd[n] =
                socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        } while (connect(crowd[n++], (struct sockaddr *)&address,
                         sizeof address) == 0);
        life_tick(&life);
        life.listener = listener;
        for (unsigned i = 0; i < n; i++)
            close(crowd[i]);
        break;
    }
    case DEVICE_REPROBING:
        silence_at(VU_GET_FEATURES);
        life_tick(&life);
        break;
    case DEVICE_RESTORING:
        silence_at(VU_GET_STATUS);
        life_tick(&life);
        break;
    case DEVICE_LOST:
        other_id(&life.model);
        life_tick(&life);
        break;
    default:
        break;
    }
    life_expect(&life, state);
    life.model.bend = NULL;
}

Test(life_return, reboot_without_a_backend, .timeout = 20)
{
    for (enum device_state state = DEVICE_PAUSING; state <= DEVICE_LOST;
         state++) {
        bring(state);
        device_reboot(&life.device);
        cr_assert_eq(life.n_settled, 1, "state %d", (int)state);
        life_expect(&life, state);
        expect_status(0);
        life_run(&life);
        if (state != DEVICE_LOST) {
            come_back();
            expect_status(0);
            life_go(&life, FEATURES);
            expect_agreement(0x0f);
        }
        cr_assert_eq(life.n_settled, 1);
        life_fini(&life);
    }
}

/* Silence, and an end, in each state: nothing more is reported or watched. */
static void end_silently(void)
{
    unsigned lines = life.n_lines;

    device_silence(&life.device);
    life.silent = true;
    cr_assert_not(ev_is_active(&life.device.link.timer));
    cr_assert_not(ev_is_active(&life.device.link.socket));
    cr_assert_not(ev_is_active(&life.device.link.hang_up));
    life_hang_up(&life);
    cr_assert_eq(life.n_lines, lines);
    life_fini(&life);
}

Test(life_return, silence, .timeout = 20)
{
    for (enum device_state state = DEVICE_PAUSING; state <= DEVICE_LOST;
         state++) {
        bring(state);
        end_silently();
    }
    life_init(&life, "wait=5");
    end_silently();
    life_init(&life, "wait=5");
    life_start(&life);
    end_silently();
    life_init(&life, "");
    life.model.probe = MODEL_SILENT;
    life_listen(&life);
    life_start(&life);
    life_expect(&life, DEVICE_PROBING);
    end_silently();
    life_init(&life, "");
    life_know(&life);
    end_silently();
    life_init(&life, "");
    life_drive(&life, FEATURES);
    end_silently();
    life_init(&life, "");
    life_drive(&life, FEATURES);
    life.model.silent = true;
    device_reboot(&life.device);
    life_expect(&life, DEVICE_SETTLING);
    end_silently();
}
