/*
 * The front-end against a model of a back-end in a thread of its own: what goes
 * over the wire, in which order, and what becomes of answers that are wrong,
 * late or never come.
 */
#include "devices/frontend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/deadline.h"
#include "devices/virtio.h"
#include "tests/unit/rig.h"

#define SECONDS  UINT64_C(1000000000)
#define MS       UINT64_C(1000000)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Test(frontend, status, .timeout = 10)
{
    static const uint32_t order[] = { VU_SET_STATUS, VU_SET_STATUS };
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS);
    cr_assert_eq(frontend_status(&rig.fe, 1, rig_soon()), 0);
    cr_assert_eq(frontend_status(&rig.fe, 3, rig_soon()), 0);
    rig_pause(&rig);
    rig_expect(&rig, order, 2);
    cr_assert_eq(rig.model.log[0].value, 1);
    cr_assert_eq(rig.model.log[1].value, 3);
    cr_assert_eq(rig.model.log[0].size, 8);
    rig_fini(&rig);

    rig_init(&rig, 0);
    cr_assert_eq(frontend_status(&rig.fe, 1, rig_soon()), 0);
    rig_pause(&rig);
    cr_assert_eq(rig.model.n_log, 0, "a status that nobody understands");
    rig_fini(&rig);
}

Test(frontend, features, .timeout = 10)
{
    static const uint32_t order[] = { VU_SET_FEATURES, VU_SET_STATUS,
                                      VU_GET_STATUS };
    uint64_t want = VIRTIO_F_VERSION_1 | 1;
    struct rig rig;
    bool accepted;

    for (unsigned bit30 = 0; bit30 < 2; bit30++) {
        for (unsigned refused = 0; refused < 2; refused++) {
            rig_init(&rig, VU_PF_STATUS);
            if (!bit30)
                rig.is.features &= ~VHOST_F_PROTOCOL_FEATURES;
            rig.model.status_refused = refused ? VIRTIO_STATUS_FEATURES_OK : 0;
            accepted = refused;
            cr_assert_eq(
                frontend_features(&rig.fe, want, 0x0b, &accepted, rig_soon()),
                0);
            cr_assert_eq(accepted, !refused);
            rig_pause(&rig);
            rig_expect(&rig, order, 3);
            cr_assert_eq(rig.model.accepted,
                         want | (bit30 ? VHOST_F_PROTOCOL_FEATURES : 0));
            cr_assert_eq(rig.model.log[1].value, 0x0b);
            rig_fini(&rig);
        }
    }
    rig_init(&rig, 0);
    accepted = false;
    cr_assert_eq(frontend_features(&rig.fe, want, 0x0b, &accepted, rig_soon()),
                 0);
    cr_assert(accepted);
    rig_pause(&rig);
    rig_expect(&rig, order, 1);
    rig_fini(&rig);
}

/* Every message of one ring, and what it says. */
static void expect_ring(struct rig *rig, unsigned at, unsigned index,
                        uint32_t base)
{
    static const uint32_t order[] = {
        VU_SET_VRING_NUM,    VU_SET_VRING_ADDR, VU_SET_VRING_BASE,
        VU_SET_VRING_ERR,    VU_SET_VRING_CALL, VU_SET_VRING_KICK,
        VU_SET_VRING_ENABLE,
    };
    const struct model_entry *entry = &rig->model.log[at];
    const struct vring *ring = &rig->rings.ring[index];
    struct vu_vring_state state;
    struct vu_vring_addr addr;

    for (unsigned i = 0; i < COUNT(order); i++) {
        cr_assert_eq(entry[i].request, order[i], "message %u is %u, not %u",
                     at + i, entry[i].request, order[i]);
        cr_assert_not(entry[i].kicked, "kicked before message %u", at + i);
    }
    memcpy(&state, entry[0].payload, sizeof state);
    cr_assert_eq(state.index, index);
    cr_assert_eq(state.num, ring->num);
    memcpy(&addr, entry[1].payload, sizeof addr);
    cr_assert_eq(addr.index, index);
    cr_assert_eq(addr.flags, 0);
    cr_assert_eq(addr.log, 0);
    cr_assert_eq(addr.desc, (uintptr_t)mem_at(&rig->mem, ring->desc, 1));
    cr_assert_eq(addr.avail, (uintptr_t)mem_at(&rig->mem, ring->driver, 1));
    cr_assert_eq(addr.used, (uintptr_t)mem_at(&rig->mem, ring->device, 1));
    memcpy(&state, entry[2].payload, sizeof state);
    cr_assert_eq(state.index, index);
    cr_assert_eq(state.num, base, "base 0x%x", state.num);
    for (unsigned i = 3; i < 6; i++) {
        cr_assert_eq(entry[i].value, index);
        cr_assert_eq(entry[i].n_fds, 1);
        cr_assert_eq(entry[i].size, 8);
    }
    cr_assert_eq(entry[5].stale, 0, "a kick from before");
    memcpy(&state, entry[6].payload, sizeof state);
    cr_assert_eq(state.index, index);
    cr_assert_eq(state.num, 1);
}

/* DRIVER_OK: memory, rings in order, status, a fence, and then the kicks. */
Test(frontend, driver_ok, .timeout = 20)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        for (unsigned ack = 0; ack < 2; ack++) {
            uint64_t one = 5;
            struct rig rig;
            unsigned n;

            rig_init(&rig, VU_PF_STATUS | (ack ? VU_PF_REPLY_ACK : 0));
            if (packed)
                rig.rings.driver_features = VIRTIO_F_RING_PACKED;
            rig.rings.ring[1].ready = false;
            /* from before a reset: not for this ring */
            cr_assert_eq(
                write(vring_kick_fd(&rig.rings.given[0]), &one, sizeof one), 8);
            cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
            rig_pause(&rig);
            n = rig.model.n_log;
            cr_assert_eq(n, 1 + 7 + 7 + 2);
            cr_assert_eq(rig.model.log[0].request, VU_SET_MEM_TABLE);
            expect_ring(&rig, 1, 0, packed ? 0x80008000 : 0);
            expect_ring(&rig, 8, 2, packed ? 0x80008000 : 0);
            cr_assert_eq(rig.model.log[n - 2].request, VU_SET_STATUS);
            cr_assert_eq(rig.model.log[n - 2].value, 0x0f);
            cr_assert_eq(rig.model.log[n - 1].request, VU_GET_STATUS);
            for (unsigned i = 0; i < n; i++) {
                bool setup = i < n - 2;

                cr_assert_eq(rig.model.log[i].reply_asked, ack && setup,
                             "message %u", i);
                cr_assert_not(rig.model.log[i].kicked);
            }
            cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[0])), 1);
            cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[1])), 0);
            cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[2])), 1);
            cr_assert(rig.rings.given[0].started &&
                      !rig.rings.given[1].started &&
                      rig.rings.given[2].started);
            rig_fini(&rig);
        }
    }
}

/* Without STATUS the fence is another; the kicks still come last. */
Test(frontend, driver_ok_without_status, .timeout = 20)
{
    for (unsigned ack = 0; ack < 2; ack++) {
        for (unsigned bit30 = 0; bit30 < 2; bit30++) {
            struct rig rig;
            unsigned want = 1 + RINGS * (bit30 ? 7 : 6) + !ack;

            rig_init(&rig, ack ? VU_PF_REPLY_ACK : 0);
            if (!bit30)
                rig.is.features &= ~VHOST_F_PROTOCOL_FEATURES;
            cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
            rig_pause(&rig);
            cr_assert_eq(rig.model.n_log, want, "%u messages, not %u",
                         rig.model.n_log, want);
            cr_assert_eq(model_count(&rig.model, VU_SET_STATUS), 0);
            cr_assert_eq(model_count(&rig.model, VU_GET_STATUS), 0);
            cr_assert_eq(model_count(&rig.model, VU_SET_VRING_ENABLE),
                         bit30 ? RINGS : 0);
            if (!ack)
                cr_assert_eq(rig.model.log[want - 1].request, VU_GET_FEATURES);
            for (unsigned i = 0; i < want; i++)
                cr_assert_not(rig.model.log[i].kicked);
            for (unsigned i = 0; i < RINGS; i++)
                cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])),
                             1);
            rig_fini(&rig);
        }
    }
}

/* The memory table: all regions, the memfd with each, once a connection. */
Test(frontend, memory_table, .timeout = 20)
{
    struct vu_mem_table table;
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS);
    cr_assert_eq(rig.mem.n_regions, 2);
    cr_assert_eq(rig_start(&rig), 0);
    cr_assert_eq(rig_reset(&rig), 0);
    for (unsigned i = 0; i < RINGS; i++)
        rig.rings.ring[i].ready = true;
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    cr_assert_eq(model_count(&rig.model, VU_SET_MEM_TABLE), 1);
    cr_assert_eq(rig.model.log[0].request, VU_SET_MEM_TABLE);
    cr_assert_eq(rig.model.log[0].n_fds, 2);
    cr_assert_eq(rig.model.log[0].size, 8 + 2 * 32);
    memset(&table, 0, sizeof table);
    memcpy(&table, rig.model.log[0].payload, sizeof rig.model.log[0].payload);
    cr_assert_eq(table.n_regions, 2);
    cr_assert_eq(table.region[0].guest_addr, 0);
    cr_assert_eq(table.region[0].size, 32 << 10);
    cr_assert_eq(table.region[0].mmap_offset, 0);
    cr_assert_eq(table.region[0].user_addr, (uintptr_t)mem_at(&rig.mem, 0, 1));
    cr_assert_eq(table.region[1].guest_addr, 1 << 20);
    cr_assert_eq(table.region[1].size, 32 << 10);
    cr_assert_eq(table.region[1].user_addr,
                 (uintptr_t)mem_at(&rig.mem, 1 << 20, 1));
    /* a new connection knows nothing */
    rig_again(&rig, VU_PF_STATUS);
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    cr_assert_eq(model_count(&rig.model, VU_SET_MEM_TABLE), 1);
    rig_fini(&rig);
}

Test(frontend, memory_slots, .timeout = 20)
{
    struct vu_mem_reg reg;
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS | VU_PF_CONFIGURE_MEM_SLOTS | VU_PF_REPLY_ACK);
    cr_assert_eq(rig_start(&rig), 0);
    cr_assert_eq(rig_reset(&rig), 0);
    for (unsigned i = 0; i < RINGS; i++)
        rig.rings.ring[i].ready = true;
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    cr_assert_eq(model_count(&rig.model, VU_SET_MEM_TABLE), 0);
    cr_assert_eq(model_count(&rig.model, VU_ADD_MEM_REG), 2);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(rig.model.log[i].request, VU_ADD_MEM_REG);
        cr_assert_eq(rig.model.log[i].n_fds, 1);
        cr_assert_eq(rig.model.log[i].size, sizeof reg);
        cr_assert(rig.model.log[i].reply_asked);
        memcpy(&reg, rig.model.log[i].payload, sizeof reg);
        cr_assert_eq(reg.region.guest_addr, rig.mem.region[i].base);
        cr_assert_eq(reg.region.size, rig.mem.region[i].size);
        cr_assert_eq(reg.region.mmap_offset, rig.mem.region[i].offset);
    }
    rig_fini(&rig);
}

/* As many as there are regions, which are two here; and none before that. */
Test(frontend, too_few_memory_slots, .timeout = 20)
{
    for (unsigned slots = 0; slots < 3; slots++) {
        struct mem none = { .fd = -1 };
        struct rig rig;
        int rc;

        rig_init(&rig, VU_PF_STATUS | VU_PF_CONFIGURE_MEM_SLOTS);
        rig.fe.max_slots = slots;
        cr_assert_eq(frontend_check_slots(&rig.fe, &none), 0);
        rc = slots == 0 ? frontend_check_slots(&rig.fe, &rig.mem)
                        : rig_start(&rig);
        cr_assert_eq(rc, slots < 2 ? -EPROTO : 0, "%u slots: %d", slots, rc);
        if (rc < 0)
            cr_assert_str_eq(rig.fe.err.text,
                             slots ? "virtio7: the back-end takes 1 memory "
                                     "slots, 2 are needed"
                                   : "virtio7: the back-end takes 0 memory "
                                     "slots, 2 are needed");
        rig_pause(&rig);
        cr_assert_eq(model_count(&rig.model, VU_ADD_MEM_REG), rc ? 0 : 2);
        rig_fini(&rig);
    }
}

/* A ring that is started before any other: memory goes first, and once. */
Test(frontend, memory_before_a_single_ring, .timeout = 20)
{
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS);
    cr_assert_eq(frontend_ring_start(&rig.fe, &rig.rings, 1, rig_soon()), 0);
    cr_assert_eq(frontend_ring_start(&rig.fe, &rig.rings, 2, rig_soon()), 0);
    rig_pause(&rig);
    cr_assert_eq(rig.model.log[0].request, VU_SET_MEM_TABLE);
    cr_assert_eq(model_count(&rig.model, VU_SET_MEM_TABLE), 1);
    cr_assert_eq(model_count(&rig.model, VU_SET_VRING_ADDR), 2);
    rig_fini(&rig);
}

/* Reset: what was started is stopped, the status goes to 0, the connection
 * stays. */
Test(frontend, reset, .timeout = 20)
{
    static const uint32_t order[] = {
        VU_SET_VRING_ENABLE, VU_GET_VRING_BASE, VU_SET_VRING_ENABLE,
        VU_GET_VRING_BASE,   VU_SET_STATUS,     VU_RESET_DEVICE,
    };
    struct vu_vring_state state;
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS | VU_PF_RESET_DEVICE);
    rig.rings.ring[0].ready = false;
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    rig_go_on(&rig);
    cr_assert_eq(rig_reset(&rig), 0, "%s", rig.fe.err.text);
    rig_pause(&rig);
    rig_expect(&rig, order, 6);
    for (unsigned i = 0; i < 2; i++) {
        memcpy(&state, rig.model.log[2 * i].payload, sizeof state);
        cr_assert_eq(state.index, i + 1);
        cr_assert_eq(state.num, 0);
        memcpy(&state, rig.model.log[2 * i + 1].payload, sizeof state);
        cr_assert_eq(state.index, i + 1);
    }
    cr_assert_eq(rig.model.log[4].value, 0);
    for (unsigned i = 0; i < RINGS; i++)
        cr_assert_not(rig.rings.given[i].started);
    /* again, with nothing to stop */
    rig_go_on(&rig);
    cr_assert_eq(rig_reset(&rig), 0);
    cr_assert_eq(frontend_status(&rig.fe, 1, rig_soon()), 0);
    rig_pause(&rig);
    cr_assert_eq(rig.model.n_log, 3);
    rig_fini(&rig);

    rig_init(&rig, 0);
    rig.is.features &= ~VHOST_F_PROTOCOL_FEATURES;
    cr_assert_eq(rig_start(&rig), 0);
    rig_pause(&rig);
    rig_go_on(&rig);
    cr_assert_eq(rig_reset(&rig), 0, "%s", rig.fe.err.text);
    rig_pause(&rig);
    cr_assert_eq(rig.model.n_log, RINGS);
    cr_assert_eq(model_count(&rig.model, VU_GET_VRING_BASE), RINGS);
    rig_fini(&rig);
}

Test(frontend, one_ring, .timeout = 20)
{
    static const uint32_t stop[] = { VU_SET_VRING_ENABLE, VU_GET_VRING_BASE };
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS);
    cr_assert_eq(rig_start(&rig), 0);
    for (unsigned i = 0; i < RINGS; i++)
        cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])), 1);
    rig_pause(&rig);
    rig_go_on(&rig);
    cr_assert_eq(frontend_ring_stop(&rig.fe, &rig.rings, 1, rig_soon()), 0);
    rig_pause(&rig);
    rig_expect(&rig, stop, 2);
    cr_assert_not(rig.rings.given[1].started);
    /* where the back-end stopped is kept until it has the ring again */
    cr_assert(rig.rings.given[1].has_base);
    cr_assert_eq(rig.rings.given[1].base, 7);
    cr_assert_not(rig.rings.given[0].has_base || rig.rings.given[2].has_base);
    rig_go_on(&rig);
    cr_assert_eq(frontend_ring_start(&rig.fe, &rig.rings, 1, rig_soon()), 0);
    cr_assert_not(rig.rings.given[1].has_base);
    rig_pause(&rig);
    cr_assert_eq(rig.model.n_log, 8);
    expect_ring(&rig, 0, 1, 0);
    cr_assert_eq(rig.model.log[7].request, VU_GET_STATUS);
    cr_assert_not(rig.model.log[7].kicked);
    cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[0])), 0);
    cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[1])), 1);
    cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[2])), 0);
    rig_fini(&rig);
}

/* A refusal names what was refused, and the number that was tried. */
Test(frontend, refused, .timeout = 20)
{
    static const struct {
        uint32_t request;
        const char *says[2];
    } rows[] = {
        { VU_SET_VRING_NUM, { "queue of 8", "queue-size=" } },
        { VU_SET_VRING_ADDR, { "SET_VRING_ADDR", "22" } },
        { VU_SET_VRING_BASE, { "SET_VRING_BASE", "22" } },
        { VU_SET_VRING_ERR, { "SET_VRING_ERR", "22" } },
        { VU_SET_VRING_CALL, { "SET_VRING_CALL", "22" } },
        { VU_SET_VRING_KICK, { "SET_VRING_KICK", "22" } },
        { VU_SET_VRING_ENABLE, { "SET_VRING_ENABLE", "22" } },
        { VU_SET_MEM_TABLE, { "SET_MEM_TABLE", "22" } },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct rig rig;

        rig_init(&rig, VU_PF_STATUS | VU_PF_REPLY_ACK);
        rig.model.refuse = rows[i].request;
        cr_assert_eq(rig_start(&rig), -EREMOTEIO);
        for (unsigned k = 0; k < 2; k++)
            cr_assert_not_null(strstr(rig.fe.err.text, rows[i].says[k]), "%s",
                               rig.fe.err.text);
        cr_assert_eq(frontend_status(&rig.fe, 0, rig_soon()), -ENOTCONN);
        for (unsigned k = 0; k < RINGS; k++)
            cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[k])), 0);
        rig_fini(&rig);
    }
}

static void give_config(struct rig *rig, uint32_t size)
{
    rig->is.config_size = size;
    rig->fe.config = calloc(1, size);
    rig->fe.config_in = calloc(1, size);
    cr_assert(rig->fe.config && rig->fe.config_in);
}

Test(frontend, config_write, .timeout = 20)
{
    static const uint32_t order[] = { VU_SET_CONFIG, VU_GET_CONFIG,
                                      VU_GET_CONFIG };
    static const uint8_t bytes[4] = { 0xde, 0xad, 0xbe, 0xef };
    struct vu_config head;
    struct rig rig;

    rig_init(&rig, VU_PF_CONFIG);
    give_config(&rig, 300);
    cr_assert_eq(frontend_config_write(&rig.fe, 296, bytes, 4, rig_soon()), 0);
    rig_pause(&rig);
    rig_expect(&rig, order, 3);
    memcpy(&head, rig.model.log[0].payload, sizeof head);
    cr_assert_eq(head.offset, 296);
    cr_assert_eq(head.size, 4);
    cr_assert_eq(head.flags, 0);
    cr_assert_eq(rig.model.log[0].size, sizeof head + 4);
    cr_assert_arr_eq(rig.model.log[0].payload + sizeof head, bytes, 4);
    cr_assert_arr_eq(rig.fe.config, rig.model.config, 300);
    cr_assert_arr_eq(rig.fe.config + 296, bytes, 4);
    cr_assert_eq(rig.arrived, 1);
    rig_fini(&rig);

    rig_init(&rig, 0);
    give_config(&rig, 300);
    cr_assert_eq(frontend_config_write(&rig.fe, 0, bytes, 4, rig_soon()), 0);
    rig_pause(&rig);
    cr_assert_eq(rig.model.n_log, 0);
    cr_assert_eq(rig.arrived, 0);
    rig_fini(&rig);
}

/* It changes again while it is being read: read once more, shown once. */
Test(frontend, config_changes_meanwhile, .timeout = 20)
{
    struct rig rig;

    rig_init(&rig, VU_PF_CONFIG);
    rig_pause(&rig);
    give_config(&rig, 300);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(frontend_config_refresh(&rig.fe), 0);
    cr_assert_eq(frontend_pump(&rig.fe), -EAGAIN);
    cr_assert_eq(model_serve(&rig.model), 2);
    rig.model.config[1] ^= 0xff;
    cr_assert_eq(frontend_pump(&rig.fe), -EAGAIN);
    cr_assert_eq(rig.arrived, 0);
    cr_assert_eq(model_serve(&rig.model), 2);
    cr_assert_eq(frontend_pump(&rig.fe), 0);
    cr_assert_eq(rig.arrived, 1);
    cr_assert_arr_eq(rig.fe.config, rig.model.config, 300);
    rig_fini(&rig);
}

/* One message holds all of it, so that it is whole: shown each time. */
Test(frontend, short_config_changes_meanwhile, .timeout = 20)
{
    static const uint32_t sizes[] = { 1, 20, VU_MAX_CONFIG };

    for (unsigned i = 0; i < COUNT(sizes); i++) {
        struct rig rig;

        rig_init(&rig, VU_PF_CONFIG);
        rig_pause(&rig);
        give_config(&rig, sizes[i]);
        for (unsigned k = 0; k < 5; k++)
            cr_assert_eq(frontend_config_refresh(&rig.fe), 0);
        cr_assert_eq(frontend_pump(&rig.fe), -EAGAIN);
        cr_assert_eq(model_serve(&rig.model), 1);
        cr_assert_eq(frontend_pump(&rig.fe), -EAGAIN);
        cr_assert_eq(rig.arrived, 1, "%u bytes", sizes[i]);
        cr_assert_arr_eq(rig.fe.config, rig.model.config, sizes[i]);
        rig.model.config[0] ^= 0xff;
        cr_assert_eq(model_serve(&rig.model), 1);
        cr_assert_eq(frontend_pump(&rig.fe), 0);
        cr_assert_eq(rig.arrived, 2);
        cr_assert_arr_eq(rig.fe.config, rig.model.config, sizes[i]);
        rig_fini(&rig);
    }
}

static int refuse_call(struct frontend *fe,
                       const struct frontend_pending *pending,
                       const uint8_t *payload, size_t size)
{
    (void)fe;
    (void)payload;
    cr_assert(false, "request %u is passed over, %zu bytes", pending->request,
              size);
    return 0;
}

/* An optional answer is passed over for the one behind it alone. */
Test(frontend, optional_answer_is_the_last, .timeout = 20)
{
    struct frontend_pending optional = { .request = VU_GET_QUEUE_NUM,
                                         .optional = true,
                                         .min = 8,
                                         .max = 8,
                                         .done = refuse_call };
    struct rig rig;

    rig_init(&rig, VU_PF_MQ);
    cr_assert_eq(frontend_send(&rig.fe, VU_GET_FEATURES, NULL, 0, NULL, 0), 0);
    cr_assert_eq(frontend_expect(&rig.fe, optional), 0);
    cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), -EPROTO);
    cr_assert_not_null(strstr(rig.fe.err.text, "GET_QUEUE_NUM"), "%s",
                       rig.fe.err.text);
    rig_fini(&rig);
}

static void bend_payload(struct model *m, struct model_reply *reply)
{
    memcpy(reply->payload, &m->arg, sizeof m->arg);
}

/* Answers whose numbers cannot be. */
Test(frontend, impossible_answers, .timeout = 20)
{
    static const uint64_t statuses[] = { 0x100, 0x10000000b, UINT64_C(1) << 63,
                                         UINT64_MAX };
    static const uint64_t rings[] = { 0, 2, 0x101, 0xffffffff };
    struct rig rig;
    bool accepted;

    for (unsigned i = 0; i < COUNT(statuses); i++) {
        rig_init(&rig, VU_PF_STATUS);
        rig.model.bend_request = VU_GET_STATUS;
        rig.model.bend = bend_payload;
        rig.model.arg = statuses[i];
        cr_assert_eq(frontend_features(&rig.fe, VIRTIO_F_VERSION_1, 0x0b,
                                       &accepted, rig_soon()),
                     -EPROTO);
        cr_assert_not_null(strstr(rig.fe.err.text, "GET_STATUS"));
        rig_fini(&rig);
    }
    for (unsigned i = 0; i < COUNT(rings); i++) {
        rig_init(&rig, VU_PF_STATUS);
        cr_assert_eq(rig_start(&rig), 0);
        rig_pause(&rig);
        rig.model.bend_request = VU_GET_VRING_BASE;
        rig.model.bend = bend_payload;
        rig.model.arg = rings[i];
        rig_go_on(&rig);
        cr_assert_eq(frontend_ring_stop(&rig.fe, &rig.rings, 1, rig_soon()),
                     -EPROTO);
        cr_assert_not_null(strstr(rig.fe.err.text, "GET_VRING_BASE"));
        rig_fini(&rig);
    }
}

static void resize(struct model_reply *reply, size_t size)
{
    reply->size = size;
    reply->header.size = (uint32_t)size;
}

static void bend_header(struct model *m, struct model_reply *reply)
{
    switch (m->arg % 8) {
    case 0:
        reply->header.request++;
        break;
    case 1:
        reply->header.flags &= ~VU_REPLY;
        break;
    case 2:
        reply->header.flags = VU_REPLY | 2;
        break;
    case 3:
        resize(reply, 7);
        break;
    case 4:
        resize(reply, 9);
        break;
    case 5:
        reply->header.size = 0xffffffff;
        break;
    case 6:
        reply->n_fds = 253;
        break;
    case 7:
        resize(reply, 0);
        break;
    }
}

/* Each answer of DRIVER_OK and reset, wrong in each way. */
Test(frontend, wrong_headers, .timeout = 40)
{
    static const uint32_t requests[] = {
        VU_SET_MEM_TABLE,    VU_SET_VRING_NUM, VU_SET_VRING_KICK,
        VU_SET_VRING_ENABLE, VU_GET_STATUS,    VU_GET_VRING_BASE,
        VU_RESET_DEVICE,
    };

    for (unsigned i = 0; i < COUNT(requests); i++) {
        for (unsigned k = 0; k < 8; k++) {
            struct rig rig;
            int rc;

            rig_init(&rig, VU_PF_STATUS | VU_PF_REPLY_ACK | VU_PF_RESET_DEVICE);
            rig.model.bend_request = requests[i];
            rig.model.bend = bend_header;
            rig.model.arg = k;
            rc = rig_start(&rig);
            if (rc == 0)
                rc = rig_reset(&rig);
            cr_assert_eq(rc, -EPROTO, "request %u, way %u: %d", requests[i], k,
                         rc);
            cr_assert(rig.fe.lost);
            cr_assert_eq(frontend_pump(&rig.fe), -ENOTCONN);
            rig_fini(&rig);
        }
    }
}

static void bend_cut(struct model *m, struct model_reply *reply)
{
    if (m->n_log == m->arg)
        reply->cut = m->n_log % 21;
}

/* It goes at each of the messages of a device's life. */
Test(frontend, hang_up_in_each_state, .timeout = 40)
{
    uint64_t protocol = VU_PF_STATUS | VU_PF_REPLY_ACK | VU_PF_RESET_DEVICE;
    unsigned lost = 0;

    for (unsigned at = 1; at < 60; at++) {
        bool accepted;
        struct rig rig;
        int rc;

        rig_init(&rig, protocol);
        rig.model.bend = bend_cut;
        rig.model.arg = at;
        /* whichever request is the one */
        rig_pause(&rig);
        rig.model.bend_any = true;
        rig_go_on(&rig);
        (void)((rc = frontend_status(&rig.fe, 1, rig_soon())) < 0 ||
               (rc = frontend_features(&rig.fe, VIRTIO_F_VERSION_1, 0x0b,
                                       &accepted, rig_soon())) < 0 ||
               (rc = rig_start(&rig)) < 0 || (rc = rig_reset(&rig)) < 0);
        if (rc < 0) {
            lost++;
            cr_assert_eq(rc, -EPIPE, "message %u: %d, %s", at, rc,
                         rig.fe.err.text);
            cr_assert_not_null(strstr(rig.fe.err.text, "hung up"), "%s",
                               rig.fe.err.text);
            cr_assert_eq(frontend_status(&rig.fe, 1, rig_soon()), -ENOTCONN);
            cr_assert_eq(rig_start(&rig), -ENOTCONN);
            cr_assert_eq(rig_reset(&rig), -ENOTCONN);
            cr_assert_eq(frontend_config_write(&rig.fe, 0, "x", 1, rig_soon()),
                         0);
            cr_assert_eq(frontend_send(&rig.fe, 1, NULL, 0, NULL, 0),
                         -ENOTCONN);
            cr_assert_eq(frontend_timeout(&rig.fe), -ENOTCONN);
            cr_assert_eq(rig.fe.err.code, -EPIPE, "the first reason stays");
        }
        rig_fini(&rig);
    }
    cr_assert_gt(lost, 30, "only %u of its messages were tried", lost);
}

/* A black hole: the deadline, once, and the request in the text. */
Test(frontend, missed_deadline, .timeout = 20)
{
    uint64_t before = deadline_now(), spent;
    struct rig rig;
    bool accepted;

    rig_init(&rig, VU_PF_STATUS);
    rig.model.silent = true;
    cr_assert_eq(frontend_features(&rig.fe, VIRTIO_F_VERSION_1, 0x0b, &accepted,
                                   before + 200 * MS),
                 -ETIMEDOUT);
    spent = deadline_now() - before;
    cr_assert_geq(spent, 200 * MS);
    cr_assert_not_null(strstr(rig.fe.err.text, "GET_STATUS"), "%s",
                       rig.fe.err.text);
    cr_assert_not_null(strstr(rig.fe.err.text, "deadline="), "%s",
                       rig.fe.err.text);
    /* a late answer would be taken for the next one's */
    cr_assert_eq(frontend_status(&rig.fe, 1, rig_soon()), -ENOTCONN);
    rig_fini(&rig);
}

static void bend_drip(struct model *m, struct model_reply *reply)
{
    reply->drip = (unsigned)m->arg;
}

Test(frontend, drip, .timeout = 20)
{
    uint64_t before, spent;
    struct rig rig;
    bool accepted;

    rig_init(&rig, VU_PF_STATUS);
    rig.model.bend_request = VU_GET_STATUS;
    rig.model.bend = bend_drip;
    rig.model.arg = 5000;
    cr_assert_eq(frontend_features(&rig.fe, VIRTIO_F_VERSION_1, 0x0b, &accepted,
                                   rig_soon()),
                 0);
    cr_assert(accepted);
    rig_fini(&rig);

    rig_init(&rig, VU_PF_STATUS);
    rig.model.bend_request = VU_GET_STATUS;
    rig.model.bend = bend_drip;
    rig.model.arg = 100000; /* 20 bytes: 2 s */
    before = deadline_now();
    cr_assert_eq(frontend_features(&rig.fe, VIRTIO_F_VERSION_1, 0x0b, &accepted,
                                   before + 200 * MS),
                 -ETIMEDOUT);
    spent = deadline_now() - before;
    cr_assert_geq(spent, 200 * MS);
    rig_fini(&rig);
}

static void bend_slow(struct model *m, struct model_reply *reply)
{
    (void)reply;
    usleep((useconds_t)m->arg);
}

/* Twenty answers, each in time and all of them together late. */
Test(frontend, requests_share_a_deadline, .timeout = 20)
{
    uint64_t before, spent;
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS | VU_PF_REPLY_ACK);
    rig_pause(&rig);
    rig.model.bend = bend_slow;
    rig.model.bend_any = true;
    rig.model.arg = 100000;
    rig_go_on(&rig);
    before = deadline_now();
    cr_assert_eq(frontend_start(&rig.fe, &rig.rings, 0x0f, before + 250 * MS),
                 -ETIMEDOUT);
    spent = deadline_now() - before;
    cr_assert_geq(spent, 250 * MS);
    for (unsigned i = 0; i < RINGS; i++)
        cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])), 0);
    rig_fini(&rig);
}

/* The run ends while it waits: at once, and nothing is broken. */
Test(frontend, stopped_while_waiting, .timeout = 20)
{
    uint64_t one = 1;
    struct rig rig;
    bool accepted;

    rig_init(&rig, VU_PF_STATUS);
    rig_pause(&rig);
    cr_assert_eq(write(rig.stop_fd, &one, sizeof one), 8);
    cr_assert_eq(frontend_features(&rig.fe, VIRTIO_F_VERSION_1, 0x0b, &accepted,
                                   rig_soon()),
                 -ECANCELED);
    cr_assert_not(rig.fe.lost);
    cr_assert_eq(frontend_events(&rig.fe), POLLIN);
    /* the answer comes after all, and the next one is not taken for it */
    rig_signals(rig.stop_fd);
    rig_go_on(&rig);
    cr_assert_eq(frontend_wait(&rig.fe, rig_soon()), 0);
    cr_assert_eq(rig.fe.device_status, 0x0b);
    cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
    cr_assert_eq(rig.fe.device_status, 0x0f);
    rig_fini(&rig);
}

/* Nobody reads: the deadline holds for sending too. */
Test(frontend, nobody_reads, .timeout = 20)
{
    uint64_t before, spent;
    struct rig rig;
    unsigned n = 0;

    rig_init(&rig, VU_PF_STATUS);
    rig_pause(&rig);
    while (frontend_status(&rig.fe, 1, deadline_now()) == 0)
        cr_assert_lt(n++, 1000000u);
    cr_assert_eq(rig.fe.err.code, -ETIMEDOUT, "%s", rig.fe.err.text);
    cr_assert_not_null(strstr(rig.fe.err.text, "took no request"), "%s",
                       rig.fe.err.text);
    rig_fini(&rig);

    rig_init(&rig, VU_PF_STATUS);
    rig_pause(&rig);
    while (frontend_send(&rig.fe, VU_SET_STATUS, "12345678", 8, NULL, 0) == 0 &&
           frontend_pump(&rig.fe) == 0)
        ;
    cr_assert_eq(frontend_events(&rig.fe), POLLOUT);
    before = deadline_now();
    cr_assert_eq(frontend_status(&rig.fe, 1, before + 100 * MS), -ETIMEDOUT);
    spent = deadline_now() - before;
    cr_assert_geq(spent, 100 * MS);
    rig_fini(&rig);
}

/* Start and reset over and over: no descriptor more, one memory table. */
Test(frontend, many_cycles, .timeout = 60)
{
    struct rig rig;
    unsigned before;

    rig_init(&rig, VU_PF_STATUS | VU_PF_RESET_DEVICE);
    before = 0;
    for (unsigned n = 0; n < 1000; n++) {
        for (unsigned i = 0; i < RINGS; i++)
            rig.rings.ring[i].ready = true;
        cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
        for (unsigned i = 0; i < RINGS; i++)
            cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])), 1);
        cr_assert_eq(rig_reset(&rig), 0, "%s", rig.fe.err.text);
        rig_pause(&rig);
        cr_assert_eq(model_count(&rig.model, VU_SET_MEM_TABLE), n == 0);
        if (n == 0)
            before = far_open_fds();
        cr_assert_eq(far_open_fds(), before, "cycle %u", n);
        rig_go_on(&rig);
    }
    rig_fini(&rig);
}

/* In-band: no descriptors for rings, and kicks are messages. */
Test(frontend, inband, .timeout = 20)
{
    struct rig rig;

    rig_init(&rig, VU_PF_STATUS | VU_PF_REPLY_ACK | VU_PF_INBAND_NOTIFICATIONS |
                       VU_PF_BACKEND_REQ);
    cr_assert_eq(rig_start(&rig), 0, "%s", rig.fe.err.text);
    cr_assert_eq(frontend_kick(&rig.fe, 2), 0);
    cr_assert_eq(frontend_pump(&rig.fe), 0);
    rig_pause(&rig);
    cr_assert_eq(model_count(&rig.model, VU_SET_VRING_KICK), 0);
    cr_assert_eq(model_count(&rig.model, VU_SET_VRING_CALL), 0);
    cr_assert_eq(model_count(&rig.model, VU_SET_VRING_ERR), 0);
    cr_assert_eq(model_count(&rig.model, VU_VRING_KICK), RINGS + 1);
    for (unsigned i = 0; i < RINGS; i++) {
        const struct model_entry *entry =
            &rig.model.log[rig.model.n_log - RINGS - 1 + i];

        cr_assert_eq(entry->request, VU_VRING_KICK, "message %u",
                     entry->request);
        cr_assert_eq(entry->value, i);
        cr_assert_eq(rig_signals(vring_kick_fd(&rig.rings.given[i])), 0);
    }
    rig_fini(&rig);
}
