/*
 * The whole life of a device: connecting, probing, service, loss, return and
 * reboot, with a guest that writes registers, a back-end that answers as it
 * likes, and a loop that takes its turns between them, also while a vCPU holds
 * the device's lock and waits. All in one thread, at the harness's clock.
 *
 * After each step: a state that waits has a deadline, what is lost is not
 * watched, the guest sees the status that the device has, the loop waited for
 * nothing, and no access waited longer than its deadline. In the end the
 * back-end becomes an honest one that listens: the device must come back or be
 * lost for good, and nothing may be left of it.
 *
 * Input: what there is, 16 bytes; the length of the steps; steps; lies.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/helper.h"
#include "devices/virtio.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/liar.h"
#include "tests/fuzz/life_host.h"
#include "tests/fuzz/stand_in.h"
#include "vmm/link/device.h"

#define NAME      "virtio0"
#define DEADLINE  5
#define SECOND    UINT64_C(1000000000)
#define MAX_STEPS 200u
#define MAX_FDS   600u /* a message has up to 253, and two wires keep one */
#define MMIO_BASE 0xd0000000u
#define SHM_BASE  UINT64_C(0x400000000)
#define ON        (1u | 2u | 4u | 8u | 16u) /* of a ring in struct order */

static struct {
    bool made;
    struct mem mem;
    struct windows windows;
    int call, ack, stop;
} host;

static struct run {
    struct device device;
    struct liar liar, first; /* first: what it says that it is */
    struct machine machine;  /* its bus alone */
    struct ev_loop *loop;
    struct input acts;
    bool woken;         /* device_wake() is to be called */
    bool known, placed; /* ready() came; device_place() was called */
    bool failed, lost;  /* those came */
    bool rebooting;     /* until settled(): there is no vCPU */
    bool held;          /* the lock, by a vCPU that waits for nothing */
    unsigned accesses;  /* that are under way, one within another */
    bool small;         /* the socket is soon full */
    bool honest;        /* the back-end always was what it is now */
    bool endless;       /* it may always return */
    unsigned opened;    /* descriptors, before */
} run;

static void make_host(void)
{
    static const struct mem_layout layout = {
        .n = 2,
        .range = { { 0, 0x10000 }, { 0x100000000, 0x10000 } },
    };
    struct husk_err err;

    if (host.made)
        return;
    host.made = true;
    CHECK(mem_init(&host.mem, 0x20000, &layout, &err) == 0);
    CHECK(windows_init(&host.windows, MMIO_BASE, 0x2000) == 0);
    host.call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    host.ack = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    host.stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    life_host_init();
}

static void drain(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof count) > 0)
        ;
}

/* What the device reports. None of it comes under its lock. */

static bool vcpu_has_lock(void)
{
    return run.held || run.accesses;
}

static void check_unlocked(void)
{
    pthread_mutex_t *lock = &run.device.box.lock;

    if (vcpu_has_lock())
        return;
    CHECK(pthread_mutex_trylock(lock) == 0);
    pthread_mutex_unlock(lock);
}

static void on_ready(void *ctx, struct device *device)
{
    CHECK(ctx == &run && device == &run.device);
    CHECK(!run.known && !run.failed);
    check_unlocked();
    run.known = true;
    run.honest = run.honest && !run.liar.lied;
}

static void on_failed(void *ctx, const struct husk_err *err)
{
    CHECK(ctx == &run && !run.failed && !run.placed);
    CHECK(err->code < 0 && !strncmp(err->text, NAME ": ", strlen(NAME ": ")));
    CHECK_EQ(run.device.state, DEVICE_LOST);
    check_unlocked();
    run.failed = true;
}

static void on_lost(void *ctx, struct device *device)
{
    CHECK(ctx == &run && device == &run.device);
    CHECK(run.placed && !run.lost);
    CHECK_EQ(device->state, DEVICE_LOST);
    check_unlocked();
    run.lost = true;
}

static void on_settled(void *ctx, struct device *device)
{
    CHECK(ctx == &run && device == &run.device && run.rebooting);
    check_unlocked();
    run.rebooting = false;
}

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    (void)level;
    CHECK(ctx == &run && text[0]);
    check_unlocked();
}

static void on_wake(void *ctx)
{
    CHECK(ctx == &run);
    run.woken = true;
}

static const struct device_events events = {
    on_ready, on_failed, on_lost, on_settled, on_log, on_wake, &run,
};

/* The back-end. */

static void set_truth(void)
{
    struct liar *liar = &run.liar;
    const struct liar *first = &run.first;

    liar->dialect = first->dialect;
    liar->features = first->features;
    liar->protocol = first->protocol;
    liar->specs = first->specs;
    liar->queue_num = first->queue_num;
    liar->slots = first->slots;
}

/* What connects is served, and what was connected is given up. */
static void take_connection(void)
{
    int fd = life_accept();

    if (fd < 0)
        return;
    liar_hang_up(&run.liar);
    liar_connect(&run.liar, fd);
}

static void turn_back_end(void)
{
    int size = 1;

    if (run.small && run.device.fe.wire.fd >= 0)
        setsockopt(run.device.fe.wire.fd, SOL_SOCKET, SO_SNDBUF, &size,
                   sizeof size);
    take_connection();
    liar_turn(&run.liar);
}

/* The loop. */

static bool turn_loop(uint8_t order)
{
    uint64_t before = fuzz_now;
    bool woken = run.woken && order & 0x80;
    unsigned n;

    if (woken) {
        run.woken = false;
        device_wake(&run.device);
    }
    n = loop_round(run.loop, order & 0x7f);
    if (run.woken && !woken) {
        run.woken = false;
        device_wake(&run.device);
        woken = true;
    }
    CHECK_EQ(fuzz_now, before); /* it waited for nothing */
    return n > 0 || woken;
}

static void check_deadlines(void)
{
    struct device *device = &run.device;
    short pending;
    int watched;

    switch (device->state) {
    case DEVICE_CONNECTING:
    case DEVICE_PROBING:
    case DEVICE_SETTLING:
    case DEVICE_PAUSING:
    case DEVICE_RECONNECTING:
    case DEVICE_REPROBING:
    case DEVICE_RESTORING:
        CHECK(ev_is_active(&device->link.timer) || vcpu_has_lock());
        break;
    case DEVICE_SERVING:
        if (vcpu_has_lock())
            break;
        CHECK(!device->fe.lost);
        pending = frontend_events(&device->fe);
        watched =
            ev_is_active(&device->link.socket) ? device->link.socket.events : 0;
        CHECK(!pending || ev_is_active(&device->link.timer));
        CHECK(!(pending & POLLIN) || watched & EV_READ);
        CHECK(!(pending & POLLOUT) || watched & EV_WRITE);
        break;
    case DEVICE_LOST:
        CHECK_EQ(loop_active(run.loop), 0);
        CHECK(!run.placed || device->transport.lost);
        CHECK(!run.placed || device->fe.wire.fd < 0);
        break;
    default:
        break;
    }
}

/* Until it has nothing to do; whether it had. */
static bool turn_loop_all(uint8_t order)
{
    unsigned n = 0;

    while (turn_loop(order))
        CHECK(++n < 500);
    check_deadlines();
    return n > 0;
}

static void pass_time(void)
{
    uint64_t when;

    if (loop_next(run.loop, &when))
        fuzz_now = when;
}

/* The guest. */

static uint32_t read_word(uint32_t offset)
{
    uint32_t word = 0;

    bus_read(&run.machine.mmio, MMIO_BASE + offset, &word, sizeof word);
    return word;
}

static void write_at(uint32_t offset, uint32_t value, unsigned size)
{
    struct transport *t = &run.device.transport;
    uint64_t before = fuzz_now;
    bool was_lost, outermost = !vcpu_has_lock();
    uint8_t old;

    if (!run.placed || run.rebooting)
        return;
    was_lost = t->lost;
    old = t->status;
    run.accesses++;
    bus_write(&run.machine.mmio, MMIO_BASE + offset, &value, size);
    run.accesses--;
    CHECK(fuzz_now - before <= (DEADLINE + 1) * SECOND);
    if (!outermost)
        return;
    if (offset == VIRTIO_MMIO_STATUS && value == 0 && size == 4)
        CHECK_EQ(read_word(VIRTIO_MMIO_STATUS), 0);
    if (was_lost && !(old & VIRTIO_STATUS_FEATURES_OK))
        CHECK(!(read_word(VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_FEATURES_OK));
}

static void write_register(uint32_t offset, uint32_t value)
{
    write_at(offset, value, 4);
}

static void write_ring(unsigned index, uint8_t where)
{
    uint32_t base = 0x1000 * (index & 3);

    write_register(VIRTIO_MMIO_QUEUE_SEL, index);
    write_register(VIRTIO_MMIO_QUEUE_NUM, 8u << (where & 3));
    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t offsets[] = { VIRTIO_MMIO_QUEUE_DESC,
                                            VIRTIO_MMIO_QUEUE_DRIVER,
                                            VIRTIO_MMIO_QUEUE_DEVICE };

        write_register(offsets[i], base + 0x4000 * i);
        write_register(offsets[i] + 4, where & 4 ? 1 : 0);
    }
    write_register(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void write_features(uint8_t without)
{
    uint64_t features = run.device.transport.shown;

    if (without & 1)
        features &= ~VIRTIO_F_RING_PACKED;
    if (without & 2)
        features &= ~VIRTIO_F_RING_RESET;
    if (without & 4)
        features &= ~VIRTIO_F_VERSION_1;
    for (uint32_t i = 0; i < 2; i++) {
        write_register(VIRTIO_MMIO_DRIVER_FEAT_SEL, i);
        write_register(VIRTIO_MMIO_DRIVER_FEATURES,
                       (uint32_t)(features >> 32 * i));
    }
}

/* A driver from reset to DRIVER_OK, or as far as that. */
static void walk(uint8_t without, uint8_t rings, unsigned steps, bool turns)
{
    static const uint8_t statuses[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f };

    for (unsigned i = 0; i < steps; i++) {
        if (statuses[i] == 0x0b)
            write_features(without);
        for (unsigned k = 0; statuses[i] == 0x0f && k < 3; k++)
            if (!(rings >> k & 1))
                write_ring(k, rings >> 4);
        write_register(VIRTIO_MMIO_STATUS, statuses[i]);
        if (turns)
            turn_loop_all(0);
    }
}

/* While a vCPU waits: the back-end's turn, the loop's, and another vCPU's. */
static void turn_meanwhile(void)
{
    uint8_t what = input_u8(&run.acts);

    if (run.accesses == 1 && what & 1)
        turn_loop(what >> 4);
    if (run.accesses == 1 && what & 2)
        write_register(VIRTIO_MMIO_STATUS, 0);
    if (run.accesses == 1 && what & 4)
        write_register(VIRTIO_MMIO_QUEUE_NOTIFY, what >> 4 & 3);
    if (what & 8)
        liar_hang_up(&run.liar);
    turn_back_end();
}

/* Requests of the back-end's. */

static void ask(struct input *acts)
{
    uint8_t what = input_u8(acts), file = input_u8(acts);
    struct vu_header header = { VU_BACKEND_CONFIG_CHANGE_MSG, VU_VERSION, 0 };
    struct vu_vring_state state = { .index = file };
    static const uint8_t ids[] = { 1, 255, 0, 7 };
    struct vu_map map = { .shmid = ids[file >> 4 & 3] };
    const void *payload = NULL;
    unsigned bytes = 0, n_fds = 0;

    switch (what & 7) {
    case 0:
        run.liar.config[file]++;
        break;
    case 1:
    case 2:
        header.request =
            what & 1 ? VU_BACKEND_VRING_CALL : VU_BACKEND_VRING_ERR;
        header.size = sizeof state;
        payload = &state;
        break;
    case 3:
    case 4:
        header.request =
            what & 1 ? VU_BACKEND_SHMEM_MAP : VU_BACKEND_SHMEM_UNMAP;
        header.size = sizeof map;
        map.shm_offset = (input_u8(acts) & 3) * LIFE_PAGE;
        map.fd_offset = (what & 1 ? input_u8(acts) & 3 : 0) * LIFE_PAGE;
        map.size = ((input_u8(acts) & 3) ^ 1) * LIFE_PAGE;
        map.flags = what & 1 ? input_u8(acts) & 3 : 0;
        payload = &map;
        n_fds = what & 1;
        break;
    case 5:
        header = (struct vu_header){ input_u8(acts), input_u8(acts),
                                     input_u16(acts) };
        n_fds = file >> 4;
        break;
    case 6:
        bytes = input_u8(acts) % 12 + 1;
        break;
    default:
        n_fds = 253;
        break;
    }
    if (what & 8)
        header.flags |= VU_NEED_REPLY;
    for (unsigned i = 0; i <= (what >> 4 & 3u) * 10; i++)
        life_ask(run.liar.channel, &header, payload, bytes,
                 life_file((enum life_file)((file & 15) % LIFE_FILES)), n_fds);
    if (!(what & 0x80))
        life_drain(run.liar.channel);
}

/* It is another device from now on, or says so. */
static void change_truth(struct input *acts)
{
    struct liar *liar = &run.liar;
    uint8_t what = input_u8(acts), value = input_u8(acts);

    run.honest = false;
    switch (what % 8) {
    case 0:
        set_truth();
        break;
    case 1:
        liar->features ^= UINT64_C(1) << value % 64;
        break;
    case 2:
        liar->protocol ^= UINT64_C(1) << value % 24;
        break;
    case 3:
        liar->specs.id = value;
        break;
    case 4:
        liar->specs.config_size = value;
        break;
    case 5:
        liar->specs.max_vqs = liar->queue_num = value;
        break;
    case 6:
        liar->dialect = (enum liar_dialect)(value % 4);
        break;
    default:
        liar->slots = value % 4;
        break;
    }
}

/* The steps. */

static void attach(void)
{
    struct husk_err err;

    bus_fini(&run.machine.mmio);
    memset(&run.machine.mmio, 0, sizeof run.machine.mmio);
    CHECK(device_attach(&run.device, &run.machine, &err) == 0);
}

static void place(void)
{
    struct device *device = &run.device;
    struct window window;
    struct husk_err err;
    gpa_t end;

    if (!run.known || run.failed || run.placed)
        return;
    CHECK_EQ(device->state, DEVICE_KNOWN);
    device_place_shm(device, SHM_BASE, &end);
    window_init(&window, &host.windows, 0, device_window_size(device));
    if (device_place(device, &window, &host.mem, 5, host.call, host.ack, &err) <
        0) {
        CHECK(err.code < 0 && err.text[0]);
        run.failed = true;
        return;
    }
    run.placed = true;
    device_check(device, &host.mem, &err);
    attach();
}

/* As a VM does it: no vCPU is left, and the run goes on. */
static void reboot(void)
{
    if (!run.placed || run.rebooting || run.held)
        return;
    drain(host.stop);
    run.rebooting = true;
    device_reboot(&run.device);
    if (run.device.state == DEVICE_LOST)
        CHECK(!run.rebooting);
}

/* A vCPU takes the lock, and lets go of it some steps later. */
static void hold(void)
{
    if (run.held) {
        run.held = false;
        mailbox_unlock(&run.device.box);
    } else if (device_is_connected(&run.device) && !run.rebooting) {
        CHECK(mailbox_trylock(&run.device.box));
        run.held = true;
    }
}

static void ring_error(void)
{
    uint64_t one = 1;

    if (run.device.requests.err_fd >= 0)
        CHECK(write(run.device.requests.err_fd, &one, sizeof one) > 0);
}

static void touch_shm(uint8_t what)
{
    const struct shm *shm = &run.device.shm;
    uint32_t value = what;

    if (!run.placed || run.rebooting || !shm->n)
        return;
    run.accesses++;
    if (what & 1)
        bus_read(&run.machine.mmio, shm->regions[0].base + (what & 0xf0),
                 &value, sizeof value);
    else
        bus_write(&run.machine.mmio, shm->regions[0].base + (what & 0xf0),
                  &value, sizeof value);
    run.accesses--;
}

/* Until the device has what it waits for, as far as that comes. */
static void turn_all(void)
{
    for (unsigned idle = 0; idle < 3 && !run.failed; idle++) {
        turn_back_end();
        if (turn_loop_all(0))
            idle = 0;
        place();
    }
}

/* KVM found no page where the guest accessed one. */
static void fault(uint8_t what)
{
    gpa_t gpa = what & 0x80 ? SHM_ANYWHERE : SHM_BASE + (what & 7) * LIFE_PAGE;

    if (run.placed && !run.rebooting)
        device_faulted(&run.device, gpa, what & 0x40);
}

static void act_guest(uint8_t act, struct input *acts)
{
    static const uint8_t statuses[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f,
                                        0x83, 0x8f, 0x07, 0x4f, 0xff };
    uint8_t a, b;

    switch (act) {
    case 0:
        a = input_u8(acts);
        b = input_u8(acts);
        walk(a & 7, b, 5 - (a >> 3) % 5, a & 0x80);
        break;
    case 1:
        a = input_u8(acts);
        write_register(VIRTIO_MMIO_STATUS, statuses[a % sizeof statuses]);
        break;
    case 2:
        a = input_u8(acts);
        write_ring(a & 3, a >> 4);
        break;
    case 3:
        write_register(VIRTIO_MMIO_QUEUE_SEL, input_u8(acts) & 3);
        write_register(VIRTIO_MMIO_QUEUE_RESET, 1);
        break;
    case 4:
        write_register(VIRTIO_MMIO_QUEUE_NOTIFY, input_u8(acts) & 3);
        break;
    case 5:
        a = input_u8(acts);
        write_at(VIRTIO_MMIO_CONFIG + input_u8(acts), a, 1u << a % 3);
        break;
    case 6:
        a = input_u8(acts);
        write_at(4u * (a & 63), input_u32(acts), 4);
        break;
    default:
        read_word(4u * (input_u8(acts) & 127));
        break;
    }
}

static void act_back_end(uint8_t act, struct input *acts)
{
    switch (act) {
    case 0:
        turn_back_end();
        break;
    case 1:
        liar_hang_up(&run.liar);
        break;
    case 2:
        life_path_set((enum life_path)(input_u8(acts) % LIFE_PATHS));
        break;
    case 3:
        change_truth(acts);
        break;
    case 4:
        if (run.liar.channel >= 0)
            ask(acts);
        break;
    case 5:
        ring_error();
        break;
    case 6:
        life_cut((input_u8(acts) & 7) * (LIFE_PAGE / 2));
        break;
    default:
        run.liar.attached =
            life_file((enum life_file)(input_u8(acts) % LIFE_FILES));
        break;
    }
}

static void act_host(uint8_t act, struct input *acts)
{
    uint64_t one = 1;

    switch (act) {
    case 0:
        turn_loop_all(0);
        break;
    case 1:
        turn_loop(input_u8(acts));
        break;
    case 2:
        pass_time();
        break;
    case 3:
        fuzz_now += SECOND << (input_u8(acts) & 7) >> 4;
        break;
    case 4:
        hold();
        break;
    case 5:
        reboot();
        break;
    case 6:
        place();
        break;
    case 7:
        touch_shm(input_u8(acts));
        break;
    case 8:
        fault(input_u8(acts));
        break;
    case 9:
        CHECK(write(host.stop, &one, sizeof one) > 0);
        break;
    case 10:
        drain(host.stop);
        break;
    case 11:
        helper_stuck = !helper_stuck;
        run.honest = false;
        break;
    default:
        turn_all();
        break;
    }
}

static void act(struct input *acts)
{
    uint8_t what = input_u8(acts);

    if (what < 0x60)
        act_guest(what & 7, acts);
    else if (what < 0xb0)
        act_back_end(what & 7, acts);
    else
        act_host((what - 0xb0u) % 13, acts);
}

static void check_step(void)
{
    struct device *device = &run.device;
    int fd;

    CHECK(device->state < DEVICE_STATES);
    CHECK(!run.lost || device->state == DEVICE_LOST);
    if (!vcpu_has_lock()) {
        check_unlocked();
        CHECK_EQ(device->box.notes, 0);
    }
    if (run.placed)
        CHECK_EQ(read_word(VIRTIO_MMIO_STATUS), device->transport.status);
    if (device->transport.lost && device->transport.status)
        CHECK(device->transport.status & VIRTIO_STATUS_NEEDS_RESET ||
              !(device->transport.status & VIRTIO_STATUS_FEATURES_OK));
    fd = fcntl(host.stop, F_DUPFD_CLOEXEC, 0);
    CHECK(fd >= 0 && (unsigned)fd < run.opened + MAX_FDS);
    close(fd);
}

/* The beginning and the end of a run. */

static void set_up(struct input *in)
{
    struct liar *liar = &run.liar;
    uint8_t dialect = input_u8(in), features = input_u8(in);
    uint32_t protocol = input_u32(in);
    uint8_t queues = input_u8(in), config = input_u8(in);

    liar->dialect = (enum liar_dialect)(dialect % 4);
    liar->protocol = (FRONTEND_PROTOCOL | VU_PF_STANDALONE | FRONTEND_SHM |
                      VU_PF_INFLIGHT_SHMFD) ^
                     protocol;
    liar->features = VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES |
                     VIRTIO_F_RING_RESET | VIRTIO_F_RING_PACKED;
    if (features & 1)
        liar->features ^= VIRTIO_F_RING_PACKED;
    if (features & 2)
        liar->features ^= VIRTIO_F_RING_RESET;
    liar->specs.id = 4;
    liar->specs.config_size = config ^ 20u;
    liar->specs.max_vqs = liar->queue_num = (queues & 3) ^ 2;
    liar->specs.min_vqs = 1;
    liar->slots = 8;
    for (unsigned i = 0; i < sizeof liar->config; i++)
        liar->config[i] = (uint8_t)(i * 3 + 1);
    run.small = features & 0x80;
}

static bool begin(struct input *in, bool *places)
{
    static const char *const returns[] = { "on", "on", "off", "2" };
    static const char *const probes[] = { "auto", "auto", "specs", "messages" };
    uint8_t flags = input_u8(in), more = input_u8(in);
    char spec[256];
    struct husk_err err;

    run.endless = (flags & 3) < 2;
    snprintf(spec, sizeof spec,
             "socket=%s,deadline=%d,reconnect=%s,probe=%s,wait=%d,inband=%s%s",
             life_path(), DEADLINE, returns[flags & 3], probes[flags >> 2 & 3],
             flags & 0x10 ? 1 : 0, flags & 0x20 ? "on" : "off",
             flags & 0x40 ? ",queue-size=8" : "");
    life_path_set((enum life_path)(more % LIFE_PATHS));
    *places = !(more & 0x80);
    CHECK(device_init(&run.device, run.loop, spec, 0, &host.mem, host.stop,
                      &events, &err) == 0);
    if (device_start(&run.device, &err) == 0)
        return true;
    CHECK(err.code < 0 && err.text[0]);
    return false;
}

/* The back-end is there again, as it was, and takes its time no more. */
static void heal(void)
{
    struct device *device = &run.device;
    unsigned n = 0;

    if (!run.placed || run.failed)
        return;
    if (run.held)
        hold();
    drain(host.stop);
    helper_stuck = false;
    run.small = false;
    run.acts = run.liar.lies = (struct input){ NULL, NULL };
    liar_hang_up(&run.liar);
    set_truth();
    life_path_set(LIFE_LISTENS);
    for (;;) {
        turn_loop_all(0);
        turn_back_end();
        if (turn_loop(0))
            continue;
        if (device->state == DEVICE_LOST || device->state == DEVICE_SERVING)
            break;
        if (++n == 300) {
            CHECK(!run.honest);
            return; /* it tries for ever: it knows another back-end */
        }
        pass_time();
    }
    CHECK(!run.rebooting);
    CHECK(device->state == DEVICE_SERVING || run.lost);
    if (!run.honest || !run.endless || run.liar.lied)
        return;
    CHECK_EQ(device->state, DEVICE_SERVING);
    walk(0, 0, 5, true);
    CHECK_EQ(read_word(VIRTIO_MMIO_STATUS), 0x0f);
    if (!(device->fe.acked & VU_PF_INBAND_NOTIFICATIONS))
        CHECK_EQ(run.liar.order.ring[0], ON);
}

static void clean_up(void)
{
    int fd;

    if (run.held)
        hold();
    fuzz_turn = NULL;
    device_silence(&run.device);
    CHECK_EQ(loop_active(run.loop), 0);
    bus_fini(&run.machine.mmio);
    device_fini(&run.device, fuzz_now);
    loop_free(run.loop);
    liar_hang_up(&run.liar);
    while ((fd = life_accept()) >= 0)
        close(fd);
    drain(host.stop);
    drain(host.call);
    life_cut(4 * LIFE_PAGE);
    CHECK_EQ(fuzz_open_fds(), run.opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size }, setup;
    bool places;

    make_host();
    memset(&run, 0, sizeof run);
    run.opened = fuzz_open_fds();
    fuzz_now = SECOND;
    helper_stuck = false;
    run.honest = true;
    run.loop = loop_new();
    run.liar.fd = run.liar.channel = -1;
    run.liar.asks = true;
    run.liar.attached = life_file(LIFE_EVENT);
    run.liar.stop_fd = host.stop;
    setup = input_cut(&in, 16);
    set_up(&setup);
    run.first = run.liar;
    run.acts = input_cut(&in, input_u16(&in) % 1024);
    run.liar.lies = in;

    fuzz_turn = turn_meanwhile;
    if (begin(&setup, &places)) {
        if (places)
            turn_all();
        for (unsigned i = 0;
             i < MAX_STEPS && input_left(&run.acts) && !run.failed; i++) {
            act(&run.acts);
            check_step();
        }
        heal();
    }
    clean_up();
    return 0;
}
