/*
 * The life of a device: its states, its events, and what each event does in
 * each state, in one table (see reactions below). All of it happens on the
 * loop, which never waits for a back-end, nor for a vCPU that waits for one.
 *
 *   NEW
 *    | start
 *    v           connected           answered          device_place()
 *   CONNECTING ------------> PROBING ---------> KNOWN ----------------+
 *    ^    |                   |   |               |                    |
 *    |    | failed     silence|   | failed        | failed, hang-up    |
 *    |    |                   |   |               |                    |
 *    +----|-------------------+   |               |                    |
 *         v                       v               v                    v
 *        LOST <------------------------------------------ SERVING <-> SETTLING
 *         ^   lost, and it may not return                  |  ^        |
 *         |                                                |  |        |
 *         |                            lost, and it may    |  |        |
 *         | given up, refused,         return              v  |        v
 *         | or another device                           PAUSING <------+
 *         |                                                |  ^       |
 *         |                                          timer |  | failed|
 *         |                                                v  |       |restored
 *         +------------------ RECONNECTING -> REPROBING -> RESTORING--+
 *
 * Before SERVING the loop owns the connection. In SERVING and SETTLING whoever
 * holds the device's lock does: the loop takes the lock only if nobody holds
 * it, and otherwise leaves a note (devices/mailbox.h). From PAUSING to
 * RESTORING the loop owns the connection again, and vCPUs do not touch it.
 *
 * The file is long because the table and all its reactions stand together: a
 * life is read in one place.
 */
#include "vmm/link/device.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/helper.h"
#include "devices/virtio.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"

#define STEADY 1.0 /* seconds of service that earn a new attempt at once */

enum device_event {
    ON_SOCKET,     /* the connection is readable or writable, as watched */
    ON_TIMER,      /* the pause, or the deadline of pending answers, is over */
    ON_HANG_UP,    /* the back-end shut its end of the connection */
    ON_CHILD_GONE, /* the back-end that was started ended, with all it started
                    */
    ON_ANSWERED,   /* the probe has ended well */
    ON_SILENCE,    /* a back-end that may be used without a probe ignored it */
    ON_FAILED,     /* this connection, or the attempt to get one, failed */
    ON_REFUSED,    /* and another attempt cannot help */
    ON_CONFIG,     /* the back-end says that its config space has changed */
    ON_RING_ERROR, /* the back-end says that a ring is broken */
    ON_WAKE,       /* whoever held the lock wants the loop */
    ON_REBOOT,     /* the VM reboots: no vCPU is left */
    DEVICE_EVENTS,
};

typedef void (*reaction)(struct device *device, const struct husk_err *why);

static void try_connecting(struct device *device, const struct husk_err *why);
static void fail_if_ended(struct device *device, const struct husk_err *why);
static void fail_device(struct device *device, const struct husk_err *why);
static void fail_hung_up(struct device *device, const struct husk_err *why);
static void go_on_probing(struct device *device, const struct husk_err *why);
static void miss_probe(struct device *device, const struct husk_err *why);
static void become_known(struct device *device, const struct husk_err *why);
static void connect_unprobed(struct device *device, const struct husk_err *why);
static void take_early_answers(struct device *device,
                               const struct husk_err *why);
static void refresh_config(struct device *device, const struct husk_err *why);
static void note_ring_error(struct device *device, const struct husk_err *why);
static void take_answers(struct device *device, const struct husk_err *why);
static void check_deadline(struct device *device, const struct husk_err *why);
static void miss_deadline(struct device *device, const struct husk_err *why);
static void note_hang_up(struct device *device, const struct husk_err *why);
static void note_config(struct device *device, const struct husk_err *why);
static void take_turn(struct device *device, const struct husk_err *why);
static void settle(struct device *device, const struct husk_err *why);
static void reconnect(struct device *device, const struct husk_err *why);
static void retry(struct device *device, const struct husk_err *why);
static void compare(struct device *device, const struct husk_err *why);
static void go_on_restoring(struct device *device, const struct husk_err *why);
static void miss_restore(struct device *device, const struct husk_err *why);
static void restore_hung_up(struct device *device, const struct husk_err *why);
static void give_up(struct device *device, const struct husk_err *why);
static void reboot_alone(struct device *device, const struct husk_err *why);

/* What is not here is ignored. */
static const reaction reactions[DEVICE_STATES][DEVICE_EVENTS] = {
    [DEVICE_CONNECTING] = { [ON_TIMER] = try_connecting,
                            [ON_CHILD_GONE] = fail_if_ended,
                            [ON_FAILED] = fail_device },
    [DEVICE_PROBING] = { [ON_SOCKET] = go_on_probing,
                         [ON_TIMER] = miss_probe,
                         [ON_ANSWERED] = become_known,
                         [ON_SILENCE] = connect_unprobed,
                         [ON_FAILED] = fail_device },
    [DEVICE_KNOWN] = { [ON_SOCKET] = take_early_answers,
                       [ON_HANG_UP] = fail_hung_up,
                       [ON_CONFIG] = refresh_config,
                       [ON_RING_ERROR] = note_ring_error },
    [DEVICE_SERVING] = { [ON_SOCKET] = take_answers,
                         [ON_TIMER] = check_deadline,
                         [ON_HANG_UP] = note_hang_up,
                         [ON_CONFIG] = note_config,
                         [ON_RING_ERROR] = note_ring_error,
                         [ON_WAKE] = take_turn,
                         [ON_REBOOT] = settle },
    [DEVICE_SETTLING] = { [ON_SOCKET] = take_answers,
                          [ON_TIMER] = miss_deadline,
                          [ON_HANG_UP] = note_hang_up,
                          [ON_CONFIG] = note_config,
                          [ON_RING_ERROR] = note_ring_error,
                          [ON_WAKE] = take_turn },
    [DEVICE_PAUSING] = { [ON_TIMER] = reconnect, [ON_REBOOT] = reboot_alone },
    [DEVICE_RECONNECTING] = { [ON_TIMER] = try_connecting,
                              [ON_FAILED] = retry,
                              [ON_REBOOT] = reboot_alone },
    [DEVICE_REPROBING] = { [ON_SOCKET] = go_on_probing,
                           [ON_TIMER] = miss_probe,
                           [ON_ANSWERED] = compare,
                           [ON_FAILED] = retry,
                           [ON_REBOOT] = reboot_alone },
    [DEVICE_RESTORING] = { [ON_SOCKET] = go_on_restoring,
                           [ON_TIMER] = miss_restore,
                           [ON_HANG_UP] = restore_hung_up,
                           [ON_FAILED] = retry,
                           [ON_REFUSED] = give_up,
                           [ON_CONFIG] = note_config,
                           [ON_RING_ERROR] = note_ring_error,
                           [ON_REBOOT] = reboot_alone },
    [DEVICE_LOST] = { [ON_REBOOT] = reboot_alone },
};

static void fire(struct device *device, enum device_event event,
                 const struct husk_err *why)
{
    reaction react = reactions[device->state][event];

    if (react)
        react(device, why);
}

#define TO(state) (1u << DEVICE_##state)

/* Every change of state. Loop thread, under the lock. */
static void enter(struct device *device, enum device_state next)
{
    static const unsigned from[DEVICE_STATES] = {
        [DEVICE_NEW] = TO(CONNECTING),
        [DEVICE_CONNECTING] = TO(PROBING) | TO(LOST),
        [DEVICE_PROBING] = TO(CONNECTING) | TO(KNOWN) | TO(LOST),
        [DEVICE_KNOWN] = TO(SERVING) | TO(LOST),
        [DEVICE_SERVING] = TO(SETTLING) | TO(PAUSING) | TO(LOST),
        [DEVICE_SETTLING] = TO(SERVING) | TO(PAUSING) | TO(LOST),
        [DEVICE_PAUSING] = TO(RECONNECTING),
        [DEVICE_RECONNECTING] = TO(REPROBING) | TO(PAUSING) | TO(LOST),
        [DEVICE_REPROBING] = TO(RESTORING) | TO(PAUSING) | TO(LOST),
        [DEVICE_RESTORING] = TO(SERVING) | TO(PAUSING) | TO(LOST),
    };

    assert(from[device->state] & 1u << next);
    device->state = next;
}

/* The same where nothing else is to be done under the lock, which nobody holds
 * for long: no back-end is connected. */
static void move(struct device *device, enum device_state next)
{
    mailbox_lock(&device->box);
    enter(device, next);
    mailbox_unlock(&device->box);
}

bool device_is_connected(const struct device *device)
{
    return device->state == DEVICE_SERVING || device->state == DEVICE_SETTLING;
}

bool device_may_return(const struct device *device)
{
    return device->spec.reconnect > 0;
}

/* Waiting for answers on the loop. */

/* (Re)start the deadline of pending answers. */
static void arm(struct device *device)
{
    device->taken = device->fe.taken;
    link_timer_every(&device->link, device->spec.deadline);
}

/* Under the lock while a back-end is connected: vCPUs send, too. */
static void watch(struct device *device)
{
    short events = frontend_events(&device->fe);

    if (events & POLLOUT)
        mailbox_claim(&device->box, DEVICE_CALL_UNSENT);
    else
        mailbox_release(&device->box, DEVICE_CALL_UNSENT);
    link_watch(&device->link, device->fe.wire.fd, events);
}

static void stop_waiting(struct device *device)
{
    link_watch(&device->link, device->fe.wire.fd, 0);
    link_timer_stop(&device->link);
    mailbox_release(&device->box, DEVICE_CALL_ANSWERS | DEVICE_CALL_UNSENT);
}

static void wait_for_answers(struct device *device)
{
    mailbox_claim(&device->box, DEVICE_CALL_ANSWERS);
    watch(device);
    if (!ev_is_active(&device->link.timer))
        arm(device);
}

/* Drop what there is of a connection. */
static void disconnect(struct device *device)
{
    link_unwatch(&device->link);
    requests_close(&device->requests);
    wire_fini(&device->fe.wire);
}

/* A ready connection: watch for its end, and serve the back-end's requests. */
static int serve_requests(struct device *device)
{
    int rc = link_watch_hang_up(&device->link, device->fe.wire.fd);

    if (rc == 0)
        requests_serve(&device->requests, &device->fe);
    return rc;
}

/* frontend.config_arrived: under the lock, by whoever takes the answers. */
static void on_config_arrived(void *ctx)
{
    struct device *device = ctx;

    if (!device_is_connected(device))
        return; /* the guest gets it at the place, or when it is restored */
    transport_config(&device->transport, device->fe.config,
                     device->config_interrupt);
    device->config_interrupt =
        device->config_interrupt && device->fe.config_again;
}

/* CONNECTING and PROBING, and the same for one that is to come back. */

static int begin_probe(struct device *device, int fd, struct husk_err *err)
{
    bool again = device->state == DEVICE_RECONNECTING;
    int rc;

    if (device->connections++ == 0)
        device->t_connected = sys_now();
    frontend_init(&device->fe, fd);
    rc = requests_open(&device->requests, device->helper);
    if (rc < 0)
        return fail(err, rc, "%s: socketpair: %s", device->spec.name,
                    strerror(-rc));
    device->probe.backend_req_fd = device->requests.channel.far;
    if (again) /* whatever another one that came in between made of it */
        device->probe.is.dialect = device->is.dialect;
    move(device, again ? DEVICE_REPROBING : DEVICE_PROBING);
    probe_start(&device->probe, &device->fe);
    arm(device);
    go_on_probing(device, NULL);
    return 0;
}

/* One try; the timer calls for the next one, if there is one. */
static int connect_once(struct device *device, struct husk_err *err)
{
    int fd, rc = link_try(&device->link, &fd, err);

    if (rc == -EAGAIN)
        return 0;
    return rc < 0 ? rc : begin_probe(device, fd, err);
}

static void try_connecting(struct device *device, const struct husk_err *why)
{
    struct husk_err err;

    (void)why;
    if (connect_once(device, &err) < 0)
        fire(device, ON_FAILED, &err);
}

/* A new attempt, from scratch. */
static int begin_connecting(struct device *device, double wait,
                            struct husk_err *err)
{
    if (helper_is_stuck(device->helper))
        return fail(err, -EMFILE,
                    "%s: the descriptors that the back-end sent cannot be "
                    "closed",
                    device->spec.name);
    link_begin(&device->link, wait);
    return connect_once(device, err);
}

static void go_on_probing(struct device *device, const struct husk_err *why)
{
    unsigned waits = device->fe.waits;
    int rc = probe_step(&device->probe);
    struct husk_err err;

    (void)why;
    if (rc == -EAGAIN) {
        watch(device);
        if (device->fe.waits != waits)
            arm(device);
    } else if (rc == 0) {
        stop_waiting(device);
        device->fe.ctx = device;
        device->fe.config_arrived = on_config_arrived;
        fire(device, ON_ANSWERED, NULL);
    } else if (probe_again(&device->probe)) {
        fire(device, ON_SILENCE, NULL);
    } else {
        err = device->fe.err;
        fire(device, ON_FAILED, &err);
    }
}

static void miss_probe(struct device *device, const struct husk_err *why)
{
    frontend_timeout(&device->fe);
    go_on_probing(device, why);
}

static void connect_unprobed(struct device *device, const struct husk_err *why)
{
    struct husk_err err;

    (void)why;
    lines_say(&device->lines, HUSK_LOG_INFO,
              "no answer to the probe: connecting again without one");
    disconnect(device);
    move(device, DEVICE_CONNECTING);
    if (begin_connecting(device, device->spec.wait, &err) < 0)
        fire(device, ON_FAILED, &err);
}

static void fail_device(struct device *device, const struct husk_err *why)
{
    struct husk_err err = *why;

    move(device, DEVICE_LOST);
    link_unwatch(&device->link);
    requests_stop(&device->requests);
    if (err.code == -EPIPE || err.code == -ECONNRESET)
        link_child_end(&device->link, &err); /* says more */
    device->events.failed(device->events.ctx, &err);
}

/* Nobody is left who could come to listen. */
static void fail_if_ended(struct device *device, const struct husk_err *why)
{
    struct husk_err err;

    (void)why;
    if (link_child_end(&device->link, &err))
        fail_device(device, &err);
}

static int keep_answers(struct device *device, struct husk_err *err)
{
    struct husk_err inner;
    int rc;

    device->is = device->probe.is;
    device->round_trips = device->fe.waits;
    device->config = malloc(device->is.config_size + 1);
    if (!device->config)
        return fail(err, -ENOMEM, "%s: out of memory", device->spec.name);
    memcpy(device->config, device->fe.config, device->is.config_size);
    if (shm_total(&device->is.shm) > device->spec.shm)
        return fail(err, -ENOMEM,
                    "%s: its shared memory regions have %" PRIu64
                    " bytes, shm= allows %" PRIu64,
                    device->spec.name, shm_total(&device->is.shm),
                    device->spec.shm);
    rc = shm_init(&device->shm, &device->is.shm, &inner);
    if (rc < 0)
        return fail(err, rc, "%s: %s", device->spec.name, inner.text);
    rc = serve_requests(device);
    if (rc < 0)
        return fail(err, rc, "%s: epoll: %s", device->spec.name, strerror(-rc));
    return 0;
}

static void become_known(struct device *device, const struct husk_err *why)
{
    struct husk_err err;

    (void)why;
    if (device->probe.note[0])
        device->events.log(device->events.ctx, HUSK_LOG_WARNING,
                           device->probe.note);
    if (keep_answers(device, &err) < 0) {
        fire(device, ON_FAILED, &err);
        return;
    }
    move(device, DEVICE_KNOWN);
    device->t_ready = sys_now();
    device->events.ready(device->events.ctx, device);
}

/* KNOWN: no register shows anything yet. */

static void take_early_answers(struct device *device,
                               const struct husk_err *why)
{
    (void)why;
    if (frontend_pump(&device->fe) != -EAGAIN)
        link_watch(&device->link, device->fe.wire.fd, 0);
}

static void refresh_config(struct device *device, const struct husk_err *why)
{
    (void)why;
    if (frontend_config_refresh(&device->fe) == 0)
        watch(device);
}

static void fail_hung_up(struct device *device, const struct husk_err *why)
{
    struct husk_err err;

    (void)why;
    fail(&err, -EPIPE, "%s: the back-end hung up before the guest started",
         device->spec.name);
    fail_device(device, &err);
}

void device_serve(struct device *device)
{
    device->serving_since = -INFINITY;
    move(device, DEVICE_SERVING);
}

/* SERVING and SETTLING: what comes up is a note for the holder of the lock. */

static void note_hang_up(struct device *device, const struct husk_err *why)
{
    (void)why;
    mailbox_post(&device->box, DEVICE_NOTE_HUNG_UP);
}

static void note_config(struct device *device, const struct husk_err *why)
{
    (void)why;
    mailbox_post(&device->box, DEVICE_NOTE_CONFIG);
}

static void note_ring_error(struct device *device, const struct husk_err *why)
{
    (void)why;
    mailbox_post(&device->box, DEVICE_NOTE_RING_ERROR);
}

static const char *const shm_losses[] = {
    [SHM_KEPT] = "its shared memory is lost",
    [SHM_CUT] = "a file that the guest has as shared memory was cut short",
    [SHM_NO_PAGE] = "a page of a file that the guest has as shared memory "
                    "cannot be had: is its file system full?",
    [SHM_SCATTERED] = "the guest used shared memory that nothing is mapped "
                      "at, in a region of too many mappings",
};

static void lose_connection(struct device *device, unsigned notes)
{
    if (notes & DEVICE_NOTE_HUNG_UP)
        frontend_lose(&device->fe, -EPIPE, "the back-end hung up");
    if (notes & DEVICE_NOTE_FAULTED)
        frontend_lose(&device->fe, -EFAULT, "%s",
                      shm_losses[atomic_load(&device->shm_loss)]);
}

static void read_config_again(struct device *device)
{
    struct frontend *fe = &device->fe;

    if (fe->lost || !(fe->acked & VU_PF_CONFIG) || !fe->is->config_size)
        return;
    device->config_interrupt = true;
    if (frontend_config_refresh(fe) == 0)
        frontend_pump(fe);
}

/* What is left to do goes to the loop. */
static void call_loop(struct device *device)
{
    struct frontend *fe = &device->fe;

    if (device->transport.kicks_refused)
        mailbox_call(&device->box, DEVICE_CALL_KICKS);
    if (fe->lost)
        mailbox_call(&device->box, DEVICE_CALL_LOST);
    else if (frontend_events(fe) & POLLOUT)
        mailbox_call(&device->box, DEVICE_CALL_ANSWERS | DEVICE_CALL_UNSENT);
    else if (frontend_events(fe))
        mailbox_call(&device->box, DEVICE_CALL_ANSWERS);
}

/* mailbox_ops.read: under the lock, on any thread, before it is let go of. */
static void read_notes(void *ctx, unsigned notes)
{
    struct device *device = ctx;

    if (notes & TRANSPORT_NOTE_RESET)
        transport_late_reset(&device->transport);
    device->kept |= notes & DEVICE_NOTES;
    if (!device_is_connected(device))
        return; /* the connection is the loop's alone */
    notes = device->kept;
    device->kept = 0;
    lose_connection(device, notes);
    if (notes & DEVICE_NOTE_RING_ERROR ||
        device->fe.device_status & VIRTIO_STATUS_NEEDS_RESET)
        transport_needs_reset(&device->transport, false);
    if (notes & DEVICE_NOTE_CONFIG)
        read_config_again(device);
    if (device->fe.lost && !device_may_return(device) &&
        !device->transport.lost)
        transport_needs_reset(&device->transport, true);
    call_loop(device);
}

static void wake(void *ctx)
{
    struct device *device = ctx;

    device->events.wake(device->events.ctx);
}

static const struct mailbox_ops mailbox_ops = { read_notes, wake };

static void take_answers(struct device *device, const struct husk_err *why)
{
    if (!mailbox_turn(&device->box)) { /* the holder takes them */
        stop_waiting(device);
        return;
    }
    frontend_pump(&device->fe);
    if (!device->fe.lost && frontend_events(&device->fe))
        watch(device);
    else
        stop_waiting(device);
    mailbox_unlock(&device->box);
    if (device->state == DEVICE_SETTLING)
        take_turn(device, why);
}

/* A vCPU that holds the lock has a deadline of its own. */
static void check_deadline(struct device *device, const struct husk_err *why)
{
    (void)why;
    if (!mailbox_trylock(&device->box))
        return;
    if (!frontend_events(&device->fe)) {
        link_timer_stop(&device->link);
    } else if (device->fe.taken != device->taken) {
        arm(device); /* what is pending now was asked for since */
    } else {
        link_timer_stop(&device->link);
        frontend_timeout(&device->fe);
    }
    mailbox_unlock(&device->box);
}

/* All that a reboot causes shares one. */
static void miss_deadline(struct device *device, const struct husk_err *why)
{
    (void)why;
    link_timer_stop(&device->link);
    if (!mailbox_turn(&device->box))
        return;
    if (frontend_events(&device->fe))
        frontend_timeout(&device->fe);
    mailbox_unlock(&device->box);
}

static void report_kicks(struct device *device)
{
    if (!device->transport.kicks_refused || device->kicks_said)
        return;
    device->kicks_said = true;
    lines_keep(&device->lines, HUSK_LOG_INFO,
               "KVM has no room for more kick "
               "descriptors: some kicks leave KVM_RUN");
}

/* The reason of the loss without the device's name. */
static const char *reason(const struct device *device)
{
    return device->fe.err.text + strlen(device->spec.name) + 2;
}

/* The back-end is gone and may come back. Under the lock. */
static void begin_recovery(struct device *device)
{
    lines_keep(&device->lines, HUSK_LOG_WARNING, "%s: connecting again",
               reason(device));
    disconnect(device);
    shm_clear(&device->shm);
    recovery_gone(&device->recovery, &device->transport.rings);
    /* what it said last is not of the next one */
    device->kept = 0;
    device->config_interrupt = false;
    mailbox_discard(&device->box, DEVICE_NOTES);
    mailbox_release(&device->box, DEVICE_CALL_ANSWERS | DEVICE_CALL_UNSENT |
                                      DEVICE_CALL_LOST);
    device->gone_since = link_now(&device->link);
    if (device->gone_since - device->serving_since > STEADY)
        link_back_off_reset(&device->link);
    else
        link_back_off(&device->link);
    enter(device, DEVICE_PAUSING);
    link_timer_once(&device->link, device->link.back_off);
}

static void report_lost(struct device *device, const char *text)
{
    device->events.log(device->events.ctx, HUSK_LOG_WARNING, text);
    device->events.lost(device->events.ctx, device);
}

static void take_turn(struct device *device, const struct husk_err *why)
{
    bool was_settling = device->state == DEVICE_SETTLING;

    (void)why;
    if (!mailbox_turn(&device->box))
        return;
    report_kicks(device);
    if (device->fe.lost && device_may_return(device)) {
        begin_recovery(device);
    } else if (device->fe.lost) {
        enter(device, DEVICE_LOST);
    } else if (frontend_events(&device->fe)) {
        wait_for_answers(device);
    } else {
        stop_waiting(device);
        if (was_settling)
            enter(device, DEVICE_SERVING);
    }
    mailbox_unlock(&device->box);
    lines_flush(&device->lines);
    if (device->state == DEVICE_LOST) {
        disconnect(device);
        report_lost(device, device->fe.err.text);
    }
    if (was_settling && device->state != DEVICE_SETTLING)
        device->events.settled(device->events.ctx, device);
}

static void settle(struct device *device, const struct husk_err *why)
{
    stop_waiting(device);
    mailbox_lock(&device->box);
    enter(device, DEVICE_SETTLING);
    transport_reboot(&device->transport);
    frontend_pump(&device->fe);
    mailbox_claim(&device->box, DEVICE_CALL_ANSWERS); /* take_turn() does it */
    mailbox_unlock(&device->box);
    take_turn(device, why);
}

/* No back-end is connected: nobody has to answer. */
static void reboot_alone(struct device *device, const struct husk_err *why)
{
    (void)why;
    mailbox_lock(&device->box);
    transport_reboot(&device->transport);
    mailbox_unlock(&device->box);
    device->events.settled(device->events.ctx, device);
}

/* PAUSING to RESTORING: the back-end is gone, and may come back. */

static void reconnect(struct device *device, const struct husk_err *why)
{
    struct husk_err err;

    (void)why;
    move(device, DEVICE_RECONNECTING);
    /* no wait: back_off is between the attempts */
    if (begin_connecting(device, 0, &err) < 0)
        fire(device, ON_FAILED, &err);
}

static void give_up(struct device *device, const struct husk_err *why)
{
    struct husk_err err = *why;

    disconnect(device);
    mailbox_lock(&device->box);
    enter(device, DEVICE_LOST);
    if (!device->fe.lost)
        frontend_lose(&device->fe, -ENODEV, "given up");
    transport_needs_reset(&device->transport, true);
    mailbox_unlock(&device->box);
    lines_flush(&device->lines);
    report_lost(device, err.text);
}

static void retry(struct device *device, const struct husk_err *why)
{
    double gone = link_now(&device->link) - device->gone_since;
    struct husk_err err;

    if (gone > device->spec.reconnect) {
        fail(&err, why->code, "%s: given up after %g s (reconnect=)", why->text,
             device->spec.reconnect);
        give_up(device, &err);
        return;
    }
    disconnect(device);
    link_back_off(&device->link);
    mailbox_lock(&device->box);
    device->kept = 0; /* not of the next back-end */
    enter(device, DEVICE_PAUSING);
    mailbox_unlock(&device->box);
    lines_flush(&device->lines);
    link_timer_once(&device->link, device->link.back_off);
}

static void compare(struct device *device, const struct husk_err *why)
{
    struct husk_err err;
    char text[120];
    int rc;

    if (identity_differs(&device->probe.is, &device->is,
                         device->transport.shown, text, sizeof text)) {
        fail(&err, -ENODEV, "%s: %s", device->spec.name, text);
        move(device, DEVICE_RESTORING);
        fire(device, ON_REFUSED, &err);
        return;
    }
    move(device, DEVICE_RESTORING);
    recovery_begin(&device->recovery);
    rc = serve_requests(device);
    if (rc < 0)
        frontend_lose(&device->fe, rc, "epoll: %s", strerror(-rc));
    arm(device);
    go_on_restoring(device, why);
}

/* Everything is restored: the device is the guest's again. Under the lock. */
static void come_back(struct device *device)
{
    struct transport *t = &device->transport;
    struct frontend *fe = &device->fe;

    stop_waiting(device);
    recovery_show_config(t, fe);
    if (recovery_waits_for_reset(&device->recovery))
        transport_needs_reset(t, false);
    frontend_kick_all(fe, &t->rings);
    frontend_pump(fe); /* sends kicks that go by message */
    /* what the predecessor finished may not have been signalled */
    if (t->status & VIRTIO_STATUS_DRIVER_OK)
        helper_ring(device->helper, t->call_fd);
    enter(device, DEVICE_SERVING);
    device->serving_since = link_now(&device->link);
    lines_keep(&device->lines, HUSK_LOG_WARNING,
               "the back-end is back after %.1f s",
               device->serving_since - device->gone_since);
}

/* One step; false: the last one was done. */
static bool restore_step(struct device *device)
{
    bool more;

    mailbox_lock(&device->box);
    more = recovery_step(&device->recovery, &device->transport, &device->fe);
    if (!more)
        come_back(device);
    mailbox_unlock(&device->box);
    return more;
}

static void go_on_restoring(struct device *device, const struct husk_err *why)
{
    struct husk_err err;
    int rc;

    do {
        rc = frontend_pump(&device->fe);
        if (rc == -EAGAIN) {
            watch(device);
            return;
        }
        if (rc < 0) {
            err = device->fe.err;
            fire(device, err.code == -ENODEV ? ON_REFUSED : ON_FAILED, &err);
            return;
        }
    } while (restore_step(device));
    lines_flush(&device->lines);
    take_turn(device, why);
}

static void miss_restore(struct device *device, const struct husk_err *why)
{
    frontend_timeout(&device->fe);
    go_on_restoring(device, why);
}

static void restore_hung_up(struct device *device, const struct husk_err *why)
{
    frontend_lose(&device->fe, -EPIPE, "the back-end hung up");
    go_on_restoring(device, why);
}

/* What comes up from the parts. */

static void on_link(void *ctx, enum link_event event)
{
    static const enum device_event events[] = {
        [LINK_SOCKET] = ON_SOCKET,
        [LINK_TIMER] = ON_TIMER,
        [LINK_HANG_UP] = ON_HANG_UP,
        [LINK_CHILD_GONE] = ON_CHILD_GONE,
    };

    fire(ctx, events[event], NULL);
}

/* Before it is known the device's failure says it. */
static void on_child_ended(void *ctx, const char *text)
{
    struct device *device = ctx;

    lines_say(&device->lines,
              device->call_fd >= 0 ? HUSK_LOG_WARNING : HUSK_LOG_INFO, "%s",
              text);
}

static const struct link_ops link_ops = { on_link, on_child_ended };

static void on_config_changed(void *ctx)
{
    fire(ctx, ON_CONFIG, NULL);
}

static void on_ring_failed(void *ctx)
{
    fire(ctx, ON_RING_ERROR, NULL);
}

static void on_call(void *ctx)
{
    struct device *device = ctx;

    if (device->call_fd >= 0)
        helper_ring(device->helper, device->call_fd);
}

static bool on_check_shm(void *ctx)
{
    return device_check_shm(ctx);
}

static const struct requests_ops requests_ops = { on_config_changed, on_call,
                                                  on_ring_failed,
                                                  on_check_shm };

int device_init(struct device *device, struct ev_loop *loop, const char *spec,
                unsigned index, const struct mem *mem, int stop_fd,
                const struct device_events *events, struct husk_err *err)
{
    device->events = *events;
    device->call_fd = -1;
    device->lines = (struct lines){ .name = device->spec.name,
                                    .log = events->log,
                                    .ctx = events->ctx };
    mailbox_init(&device->box, &mailbox_ops, device);
    link_init(&device->link, loop, &device->spec, &device->lines, &link_ops,
              device);
    requests_init(&device->requests, loop, &device->lines, &device->shm,
                  &requests_ops, device);
    recovery_init(&device->recovery, &device->lines);
    device->fe.wire.fd = device->fe.inflight_fd = -1;
    device->fe.call_fd = device->fe.err_fd = -1;
    device->fe.mem = mem;
    device->fe.stop_fd = stop_fd;
    if (helper_new(&device->helper) < 0)
        return fail(err, -ENOMEM, "out of memory");
    device->fe.helper = device->helper;
    return spec_parse(&device->spec, spec, index, err);
}

void device_fini(struct device *device, uint64_t deadline)
{
    disconnect(device);
    transport_fini(&device->transport);
    shm_fini(&device->shm);
    frontend_fini(&device->fe);
    requests_fini(&device->requests);
    link_fini(&device->link, deadline);
    if (device->call_fd >= 0)
        helper_retire(device->helper, device->call_fd);
    device->call_fd = -1;
    helper_free(device->helper);
    device->helper = NULL;
    recovery_fini(&device->recovery);
    free(device->config);
    device->config = NULL;
    spec_fini(&device->spec);
    mailbox_fini(&device->box);
}

int device_start(struct device *device, struct husk_err *err)
{
    int rc = requests_start(&device->requests);

    if (rc < 0)
        return fail(err, rc, "eventfd: %s", strerror(-rc));
    device->fe.name = device->spec.name;
    device->fe.deadline = device->spec.deadline;
    device->fe.err_fd = device->requests.err_fd;
    device->probe.given = device->spec.given;
    move(device, DEVICE_CONNECTING);
    return begin_connecting(device, device->spec.wait, err);
}

void device_ask_to_end(struct device *device)
{
    child_ask(&device->link.child);
}

void device_silence(struct device *device)
{
    link_unwatch(&device->link);
    link_silence(&device->link);
    requests_stop(&device->requests);
}

void device_reboot(struct device *device)
{
    fire(device, ON_REBOOT, NULL);
}

void device_wake(struct device *device)
{
    fire(device, ON_WAKE, NULL);
}
