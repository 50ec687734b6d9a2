/*
 * What a back-end asks of a device, by messages: notifications in-band, shared
 * memory, and what breaks the protocol. And the device's place on a bus.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/virtio.h"
#include "tests/unit/life.h"

#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define PAGE     4096u

static struct life life;

Test(life_request, inband, .timeout = 20)
{
    static const struct vu_vring_state ring = { 0, 0 };

    life_init(&life, "inband=on,reconnect=on");
    life_drive(&life, FEATURES);
    cr_assert_eq(model_count(&life.model, VU_SET_VRING_KICK), 0);
    cr_assert_eq(model_count(&life.model, VU_VRING_KICK), 1);
    life_write(&life, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    cr_assert_eq(model_count(&life.model, VU_VRING_KICK), 2);
    model_ask(&life.model, VU_BACKEND_VRING_CALL, &ring, sizeof ring, -1);
    life_run(&life);
    cr_assert_eq(model_result(&life.model), 0);
    cr_assert(life_rung(life.call_fd));
    life_hang_up(&life);
    life_write(&life, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    life_come_back(&life);
    cr_assert_eq(model_count(&life.model, VU_VRING_KICK), 1);
    model_ask(&life.model, VU_BACKEND_VRING_ERR, &ring, sizeof ring, -1);
    life_run(&life);
    cr_assert(life_read(&life, VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
    cr_assert_eq(life_said(&life, "an error on a ring"), 1);
    life_fini(&life);
}

/* A call before the device has its place has nowhere to go. */
Test(life_request, inband_early, .timeout = 20)
{
    static const struct vu_vring_state ring = { 0, 0 };

    life_init(&life, "inband=on");
    life_know(&life);
    model_ask(&life.model, VU_BACKEND_VRING_CALL, &ring, sizeof ring, -1);
    model_ask(&life.model, VU_BACKEND_VRING_ERR, &ring, sizeof ring, -1);
    life_run(&life);
    life_expect(&life, DEVICE_KNOWN);
    life_fini(&life);
}

/* The channel ends with what breaks the protocol; the device goes on. */
Test(life_request, broken_channel, .timeout = 20)
{
    static const struct vu_header reply = { VU_BACKEND_CONFIG_CHANGE_MSG,
                                            VU_VERSION | VU_REPLY, 0 };

    life_init(&life, "");
    life_drive(&life, FEATURES);
    cr_assert_eq(send(life.model.backend_req, &reply, sizeof reply, 0),
                 (ssize_t)sizeof reply);
    life_run(&life);
    cr_assert_eq(life_said(&life, "the back-end's request 2 has flags"), 1);
    cr_assert_not(ev_is_active(&life.device.requests.on_channel));
    life_expect(&life, DEVICE_SERVING);
    life_fini(&life);
    /* a back-end may close it */
    life_init(&life, "");
    life_drive(&life, FEATURES);
    close(life.model.backend_req);
    life.model.backend_req = -1;
    life_run(&life);
    cr_assert_eq(life.n_lines, 0);
    life_expect(&life, DEVICE_SERVING);
    life_fini(&life);
}

static int set_slot(void *ctx, uint32_t slot, gpa_t base, uint64_t size,
                    void *host)
{
    (void)ctx;
    (void)slot;
    (void)base;
    (void)size;
    (void)host;
    return 0;
}

static struct machine machine;

/* A device with four pages of shared memory, on a bus without a KVM. */
static int begin_shm(const char *pairs)
{
    const struct shm_slots slots = { set_slot, NULL };
    int fd;

    memset(&machine, 0, sizeof machine);
    machine.kvm_fd = machine.vm_fd = -1;
    life_init(&life, pairs);
    fd = memfd_create("shared", MFD_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, 4 * PAGE), 0);
    life.model.protocol |= VU_PF_SHMEM;
    life.model.shm.n_regions = 1;
    life.model.shm.size[3] = 4 * PAGE;
    life_place(&life);
    cr_assert_eq(life.device.shm.n, 1);
    cr_assert_eq(device_attach(&life.device, &machine, &life.err), 0, "%s",
                 life.err.text);
    cr_assert_eq(shm_attach(&life.device.shm, &slots, 0), 0);
    life_go(&life, FEATURES);
    return fd;
}

static void end_shm(int fd)
{
    bus_fini(&machine.mmio);
    close(fd);
    life_fini(&life);
}

static int ask_map(uint32_t request, int fd)
{
    struct vu_map map = { .shmid = 3, .size = PAGE, .flags = VU_MAP_WRITABLE };

    model_ask(&life.model, request, &map, sizeof map, fd);
    life_run(&life);
    return model_result(&life.model);
}

static ev_timer *shm_timer(void)
{
    return &life.device.requests.on_shm;
}

Test(life_request, map_and_unmap, .timeout = 20)
{
    int fd = begin_shm("");

    cr_assert_eq(ask_map(VU_BACKEND_SHMEM_MAP, fd), 0);
    cr_assert_eq(shm_mappings(&life.device.shm), 1);
    cr_assert(ev_is_active(shm_timer()));
    ev_invoke(life.loop, shm_timer(), EV_TIMER);
    cr_assert(ev_is_active(shm_timer()));
    cr_assert_neq(ask_map(VU_BACKEND_SHMEM_MAP, fd), 0, "mapped twice");
    cr_assert_eq(ask_map(VU_BACKEND_SHMEM_UNMAP, -1), 0);
    cr_assert_eq(shm_mappings(&life.device.shm), 0);
    ev_invoke(life.loop, shm_timer(), EV_TIMER);
    cr_assert_not(ev_is_active(shm_timer()), "it looks at nothing");
    /* a reset unmaps */
    cr_assert_eq(ask_map(VU_BACKEND_SHMEM_MAP, fd), 0);
    life_write(&life, VIRTIO_MMIO_STATUS, 0);
    cr_assert_eq(shm_mappings(&life.device.shm), 0);
    end_shm(fd);
}

/* A file that is cut short costs the back-end its connection. */
Test(life_request, cut_short, .timeout = 20)
{
    int fd = begin_shm("reconnect=on");

    cr_assert_eq(ask_map(VU_BACKEND_SHMEM_MAP, fd), 0);
    cr_assert_eq(ftruncate(fd, 0), 0);
    ev_invoke(life.loop, shm_timer(), EV_TIMER);
    life_run(&life);
    cr_assert_not(ev_is_active(shm_timer()));
    cr_assert_eq(shm_mappings(&life.device.shm), 0);
    life_expect(&life, DEVICE_PAUSING);
    cr_assert_eq(life_said(&life, "was cut short: connecting again"), 1);
    life_come_back(&life);
    end_shm(fd);
}

/* The same, found by the guest's access, or by a fault. */
Test(life_request, cut_short_in_an_access, .timeout = 20)
{
    gpa_t base;
    uint64_t value = 1;
    int fd = begin_shm("");

    base = life.device.shm.regions[0].base;
    cr_assert_eq(ask_map(VU_BACKEND_SHMEM_MAP, fd), 0);
    bus_write(&machine.mmio, base + 8, &value, 8);
    cr_assert_eq(pread(fd, &value, 8, 8), 8);
    cr_assert_eq(value, 1);
    bus_read(&machine.mmio, base + 8, &value, 8);
    cr_assert_eq(value, 1);
    cr_assert_not(device_faulted(&life.device, 0x1000, false));
    cr_assert_not(device_check_shm(&life.device));
    cr_assert_eq(ftruncate(fd, 0), 0);
    bus_read(&machine.mmio, base + 8, &value, 8);
    life_run(&life);
    life_expect(&life, DEVICE_LOST);
    cr_assert_eq(life_said(&life, "was cut short"), 1);
    end_shm(fd);
    fd = begin_shm("");
    base = life.device.shm.regions[0].base;
    cr_assert_eq(ask_map(VU_BACKEND_SHMEM_MAP, fd), 0);
    cr_assert_eq(ftruncate(fd, 0), 0);
    cr_assert(device_faulted(&life.device, base, true));
    life_run(&life);
    life_expect(&life, DEVICE_LOST);
    end_shm(fd);
}

/* More shared memory than shm= allows, and what is no whole page. */
Test(life_request, impossible_shm, .timeout = 20)
{
    static const struct {
        const char *pairs, *text;
        uint64_t size;
        int code;
    } rows[] = {
        { "shm=4K", "shm= allows 4096", 2 * PAGE, -ENOMEM },
        { "", "not whole pages", PAGE + 1, -EPROTO },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        life_init(&life, rows[i].pairs);
        life.model.protocol |= VU_PF_SHMEM;
        life.model.shm.n_regions = 1;
        life.model.shm.size[3] = rows[i].size;
        life_listen(&life);
        life_start(&life);
        life_expect(&life, DEVICE_LOST);
        cr_assert_eq(life.n_failed, 1);
        life_expect_failed(&life, rows[i].code, rows[i].text);
        life_fini(&life);
    }
}

/* Registers by the bus; and no two devices at one place. */
Test(life_request, bus, .timeout = 20)
{
    uint32_t value = 0x01;
    int fd = begin_shm("");

    cr_assert_eq(device_attach(&life.device, &machine, &life.err), -EEXIST);
    life_expect_failed(&life, -EEXIST, "no place on the bus");
    bus_read(&machine.mmio, LIFE_BASE, &value, 4);
    cr_assert_eq(value, VIRTIO_MMIO_MAGIC_VALUE);
    value = 1;
    bus_write(&machine.mmio, LIFE_BASE + VIRTIO_MMIO_QUEUE_SEL, &value, 4);
    cr_assert_eq(life.device.transport.queue_sel, 1);
    bus_fini(&machine.mmio);
    cr_assert_eq(bus_add(&machine.mmio, life.device.shm.regions[0].base, PAGE,
                         NULL, NULL),
                 0);
    cr_assert_eq(device_attach(&life.device, &machine, &life.err), -EEXIST);
    life_expect_failed(&life, -EEXIST, "for shared memory");
    end_shm(fd);
}

/* Too few memory slots for this guest, or a connection that is lost. */
Test(life_request, memory_slots, .timeout = 20)
{
    struct husk_err err;

    life_init(&life, "");
    life.model.protocol |= VU_PF_CONFIGURE_MEM_SLOTS;
    life_place(&life);
    cr_assert_eq(device_check(&life.device, &life.mem, &err), 0);
    life.device.fe.max_slots = 0;
    cr_assert_eq(device_check(&life.device, &life.mem, &err), -EPROTO);
    cr_assert_not_null(strstr(err.text, "0 memory slots, 1 are needed"));
    life_fini(&life);
    life_init(&life, "");
    life.model.protocol |= VU_PF_CONFIGURE_MEM_SLOTS;
    life.model.max_slots = 0;
    life_know(&life);
    cr_assert_eq(device_place(&life.device, &life.window, &life.mem, 5,
                              life.call_fd, -1, &err),
                 -EPROTO);
    life_fini(&life);
}

/* Kicks for which KVM has no room are reported once. */
Test(life_request, refused_kicks, .timeout = 20)
{
    life_init(&life, "");
    life_drive(&life, FEATURES);
    for (unsigned i = 0; i < 3; i++) {
        life.device.transport.kicks_refused = 1;
        life_write_config(&life, 0, (uint8_t)i);
    }
    cr_assert_eq(life_said(&life, "no room for more kick descriptors"), 1);
    life_fini(&life);
}
