/*
 * A device's life from its SPEC up to SERVING, and what happens to it while it
 * serves and may not return.
 */
#include <errno.h>
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

static struct life life;

/* The timer, and after how long. */
static void expect_tick(double seconds)
{
    double passed = life_tick(&life);

    cr_assert_float_eq(passed, seconds, 1e-6, "%g s, not %g", passed, seconds);
}

Test(life, known, .timeout = 20)
{
    life_init(&life, "");
    life_expect(&life, DEVICE_NEW);
    life_know(&life);
    cr_assert_eq(life.device.is.id, 42);
    cr_assert_eq(life.device.is.vqs, 2);
    cr_assert_eq(life.device.connections, 1);
    cr_assert_eq(life.n_lines, 0);
    life_fini(&life);
    cr_assert_eq(life.n_failed + life.n_lost, 0);
}

/* A socket that comes late is connected to, with growing pauses. */
Test(life, socket_comes_late, .timeout = 20)
{
    double pauses[10];

    life_init(&life, "wait=5");
    cr_assert_eq(life_start(&life), 0, "%s", life.err.text);
    for (unsigned i = 0; i < COUNT(pauses); i++) {
        life_expect(&life, DEVICE_CONNECTING);
        pauses[i] = life_tick(&life);
        if (i > 0)
            cr_assert_float_eq(pauses[i], i < 6 ? 2 * pauses[i - 1] : 0.05,
                               1e-3, "pause %u is %g s", i, pauses[i]);
    }
    life_listen(&life);
    life_tick(&life);
    life_expect(&life, DEVICE_KNOWN);
    cr_assert_eq(life.n_ready, 1);
    life_fini(&life);
}

Test(life, socket_never_comes, .timeout = 20)
{
    unsigned n = 0;

    life_init(&life, "wait=1");
    cr_assert_eq(life_start(&life), 0);
    while (!life.n_failed) {
        life_tick(&life);
        cr_assert_lt(n++, 100);
    }
    cr_assert_geq(n, 20); /* a second in pauses of at most 0.05 s */
    life_expect(&life, DEVICE_LOST);
    life_expect_failed(&life, -ENOENT, "wait=SECONDS");
    life_fini(&life);
    /* without wait= at once, and without a callback */
    life_init(&life, "");
    cr_assert_eq(life_start(&life), -ENOENT);
    cr_assert_eq(life.n_failed, 0);
    life_fini(&life);
}

/* A file that nobody listens on any more. */
Test(life, nobody_listens, .timeout = 20)
{
    life_init(&life, "");
    life_listen(&life);
    life_deafen(&life);
    cr_assert_eq(life_start(&life), -ECONNREFUSED);
    life_expect_failed(&life, -ECONNREFUSED, "is the back-end running?");
    life_fini(&life);
    life_init(&life, "wait=1");
    life_listen(&life);
    life_deafen(&life);
    cr_assert_eq(life_start(&life), 0);
    life_expect(&life, DEVICE_CONNECTING);
    life_listen(&life);
    life_tick(&life);
    life_expect(&life, DEVICE_KNOWN);
    life_fini(&life);
}

/* Fill the queue of connections that nobody accepts. */
static unsigned crowd(struct life *l, int *fds, unsigned max)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    unsigned n = 0;

    strcpy(address.sun_path, l->folder.file[0]);
    for (; n < max; n++) {
        fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(fds[n], (struct sockaddr *)&address, sizeof address) < 0) {
            close(fds[n]);
            break;
        }
    }
    cr_assert(n > 0 && n < max);
    return n;
}

/* It listens, but takes no connection: for as long as the deadline. */
Test(life, busy, .timeout = 20)
{
    for (unsigned frees = 0; frees < 2; frees++) {
        int fds[8], listener;
        unsigned n;

        life_init(&life, "deadline=1");
        life_listen(&life);
        n = crowd(&life, fds, COUNT(fds));
        listener = life.listener;
        life.listener = -1; /* nobody accepts */
        cr_assert_eq(life_start(&life), 0, "%s", life.err.text);
        for (unsigned i = 0; i < 10; i++)
            life_tick(&life);
        life_expect(&life, DEVICE_CONNECTING);
        if (frees)
            life.listener = listener;
        life_run(&life);
        for (unsigned i = 0; i < 40 && life.device.state != DEVICE_LOST &&
                             life.device.state != DEVICE_KNOWN;
             i++)
            life_tick(&life);
        life_expect(&life, frees ? DEVICE_KNOWN : DEVICE_LOST);
        if (!frees)
            life_expect_failed(&life, -ETIMEDOUT, "takes no connection");
        life.listener = listener;
        for (unsigned i = 0; i < n; i++)
            close(fds[i]);
        life_fini(&life);
    }
}

/* A probe that gets no answer, and then: a deadline, a hang-up. */
Test(life, probe_without_answer, .timeout = 20)
{
    life_init(&life, "");
    life.model.probe = MODEL_SILENT;
    life_listen(&life);
    cr_assert_eq(life_start(&life), 0);
    life_expect(&life, DEVICE_PROBING);
    life.model.probe = MODEL_IGNORES;
    expect_tick(5);
    cr_assert_eq(life_said(&life, "connecting again without one"), 1);
    life_expect(&life, DEVICE_LOST);
    life_expect_failed(&life, -ENODEV, "give id=N");
    cr_assert_eq(life.device.connections, 2);
    life_fini(&life);

    life_init(&life, "id=42,vqs=2,config-size=20");
    life.model.probe = MODEL_HANGS_UP;
    life_listen(&life);
    cr_assert_eq(life_start(&life), 0);
    life_expect(&life, DEVICE_KNOWN);
    cr_assert_eq(life_said(&life, "connecting again without one"), 1);
    cr_assert_eq(life.device.connections, 2);
    life_fini(&life);
}

static void stop_listening(struct model *m, struct model_reply *reply)
{
    (void)m;
    life_deafen(&life);
    reply->never = false;
    reply->cut = 0;
}

/* And cannot be connected to again. */
Test(life, probe_ends_it, .timeout = 20)
{
    life_init(&life, "id=42,vqs=2");
    life.model.bend_request = VU_GET_BACKEND_SPECS;
    life.model.bend = stop_listening;
    life_listen(&life);
    cr_assert_eq(life_start(&life), 0);
    life_expect(&life, DEVICE_LOST);
    life_expect_failed(&life, -ECONNREFUSED, "connecting to");
    life_fini(&life);
}

Test(life, no_answer_to_features, .timeout = 20)
{
    life_init(&life, "deadline=2");
    life_listen(&life);
    cr_assert_eq(device_start(&life.device, &life.err), 0);
    cr_assert(model_accept(&life.model, life.listener));
    life.model.silent = true;
    life_run(&life);
    expect_tick(2);
    life_expect_failed(&life, -ETIMEDOUT, "GET_FEATURES");
    cr_assert_eq(life.n_failed, 1);
    life_fini(&life);
}

Test(life, hang_up_before_the_guest, .timeout = 20)
{
    struct husk_err err;

    life_init(&life, "reconnect=on");
    life_know(&life);
    life_hang_up(&life);
    life_expect(&life, DEVICE_LOST);
    life_expect_failed(&life, -EPIPE, "before the guest started");
    cr_assert_eq(device_place(&life.device, &life.window, &life.mem, 5,
                              life.call_fd, -1, &err),
                 -ENOTCONN);
    life_fini(&life);
}

/* The probe's remark reaches the log. */
Test(life, queue_counts_differ, .timeout = 20)
{
    life_init(&life, "");
    life.model.queue_num = 1;
    life_know(&life);
    cr_assert_eq(life_said(&life, "using the smaller"), 1);
    cr_assert_eq(life.device.is.vqs, 1);
    life_fini(&life);
}

/* A change of config space before the guest starts is in its first page. */
Test(life, config_changes_early, .timeout = 20)
{
    life_init(&life, "");
    life_know(&life);
    life.model.config[3] = 0xab;
    model_ask(&life.model, VU_BACKEND_CONFIG_CHANGE_MSG, NULL, 0, -1);
    life_run(&life);
    cr_assert_eq(model_result(&life.model), 0);
    cr_assert_eq(life.device.fe.config[3], 0xab);
    life_fini(&life);
}

Test(life, serving, .timeout = 20)
{
    life_init(&life, "");
    life_drive(&life, FEATURES);
    cr_assert_eq(model_last(&life.model, VU_SET_STATUS)->value, 0x0f);
    cr_assert_eq(life.model.accepted, FEATURES | VHOST_F_PROTOCOL_FEATURES);
    cr_assert(life_rung(life.model.kick[0]), "ring 0 got no kick");
    cr_assert_not(ev_is_active(&life.device.link.timer));
    life_write_config(&life, 2, 0x77);
    cr_assert_eq(life.model.config[2], 0x77);
    cr_assert_eq(life_read(&life, VIRTIO_MMIO_CONFIG) >> 16 & 0xff, 0x77);
    life_write(&life, VIRTIO_MMIO_QUEUE_RESET, 1);
    cr_assert_eq(model_count(&life.model, VU_GET_VRING_BASE), 1);
    life_ready(&life, 0, 4);
    cr_assert_eq(model_count(&life.model, VU_SET_VRING_KICK), 2);
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    cr_assert_eq(life.model.status, 0);
    cr_assert_eq(life.n_lines, 0);
    life_fini(&life);
}

/* The config space changes: answers come by the loop, with an interrupt. */
Test(life, config_changes, .timeout = 20)
{
    uint32_t generation;

    life_init(&life, "");
    life_drive(&life, FEATURES);
    generation = life_read(&life, VIRTIO_MMIO_CONFIG_GEN);
    life.model.config[0] = 0x55;
    model_ask(&life.model, VU_BACKEND_CONFIG_CHANGE_MSG, NULL, 0, -1);
    life_run(&life);
    cr_assert(life_rung(life.call_fd));
    cr_assert_eq(life_read(&life, VIRTIO_MMIO_CONFIG) & 0xff, 0x55);
    cr_assert_eq(life_read(&life, VIRTIO_MMIO_CONFIG_GEN), generation + 1);
    cr_assert_not(ev_is_active(&life.device.link.timer));
    cr_assert_not(ev_is_active(&life.device.link.socket));
    life_fini(&life);
}

/* Answers that never come: the deadline begins again with each that does. */
Test(life, deadline_missed, .timeout = 20)
{
    life_init(&life, "deadline=3");
    life_drive(&life, FEATURES);
    model_ask(&life.model, VU_BACKEND_CONFIG_CHANGE_MSG, NULL, 0, -1);
    life.model.silent = true;
    life_run(&life);
    cr_assert(ev_is_active(&life.device.link.timer));
    life.device.taken--; /* as if one had come since */
    life_tick(&life);
    life_expect(&life, DEVICE_SERVING);
    expect_tick(3);
    life_expect(&life, DEVICE_LOST);
    cr_assert_eq(life.n_lost, 1);
    cr_assert_eq(life_said(&life, "no answer to GET_CONFIG within 3 s"), 1);
    cr_assert(life_read(&life, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
    life_fini(&life);
}

Test(life, deadline_with_nothing_pending, .timeout = 20)
{
    life_init(&life, "");
    life_drive(&life, FEATURES);
    link_timer_every(&life.device.link, 5);
    life_tick(&life);
    life_expect(&life, DEVICE_SERVING);
    cr_assert_not(ev_is_active(&life.device.link.timer));
    life_fini(&life);
}

Test(life, ring_error, .timeout = 20)
{
    life_init(&life, "");
    life_drive(&life, FEATURES);
    for (unsigned i = 0; i < 5; i++) {
        doorbell_ring(life.model.err);
        life_run(&life);
        /* the next one is served when the window of this one ends */
        cr_assert(ev_is_active(&life.device.requests.on_window));
        ev_invoke(life.loop, &life.device.requests.on_window, EV_TIMER);
    }
    cr_assert_eq(life_said(&life, "an error on a ring"), 3);
    cr_assert(life_read(&life, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
    cr_assert(life_rung(life.call_fd));
    life_expect(&life, DEVICE_SERVING);
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    cr_assert_eq(life_read(&life, VIRTIO_MMIO_STATUS), 0);
    life_fini(&life);
}

/* Without reconnect= a hang-up is the end, and the guest sees it. */
Test(life, lost, .timeout = 20)
{
    life_init(&life, "");
    life_drive(&life, FEATURES);
    life_hang_up(&life);
    life_expect(&life, DEVICE_LOST);
    cr_assert_eq(life.n_lost, 1);
    cr_assert_eq(life_said(&life, "virtio7: the back-end hung up"), 1);
    cr_assert(life_read(&life, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    life_write(&life, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    life_write_config(&life, 0, 1);
    device_reboot(&life.device);
    cr_assert_eq(life.n_settled, 1);
    life_fini(&life);
    cr_assert_eq(life.n_lost, 1);
}

/* No descriptor is left, at each that the start and the place take. */
Test(life, no_descriptor_left, .timeout = 20)
{
    static const char *const texts[] = { "eventfd: ", "socket: ",
                                         "socketpair: ", "socketpair: " };
    struct husk_err err;
    int rc;

    for (unsigned n = 0; n <= COUNT(texts); n++) {
        life_init(&life, "");
        life_listen(&life);
        life_limit(n);
        rc = device_start(&life.device, &life.err);
        life_limit(LIFE_ALL);
        cr_assert_eq(rc, n < COUNT(texts) ? -EMFILE : 0);
        if (rc < 0)
            life_expect_failed(&life, -EMFILE, texts[n]);
        life_fini(&life);
        cr_assert_eq(life.n_failed, 0);
    }
    life_init(&life, "");
    life_know(&life);
    life_limit(0);
    rc = device_place(&life.device, &life.window, &life.mem, 5, life.call_fd,
                      -1, &err);
    life_limit(LIFE_ALL);
    cr_assert_eq(rc, -EMFILE);
    life_expect(&life, DEVICE_KNOWN);
    life_fini(&life);
}
