/*
 * See order.h. A table of requests, after vhost-user's specification and the
 * two probe dialects; order as back-ends rely on it: owner first, memory before
 * rings, a ring's size and addresses before its kick, and that before ENABLE.
 */
#include "tests/fuzz/order.h"

#include <string.h>

#include "devices/virtio.h"
#include "tests/fuzz/fuzz.h"

#define ANY 0xffffu /* judged by hand */

enum { HAS_NUM = 1, HAS_ADDR = 2, HAS_BASE = 4, HAS_KICK = 8, IS_ON = 16 };

static const struct rule {
    uint8_t request;
    uint16_t size;
    uint8_t n_fds;
    bool question;
    uint64_t needs; /* protocol features */
} rules[] = {
    { VU_GET_FEATURES, 0, 0, true, 0 },
    { VU_SET_FEATURES, 8, 0, false, 0 },
    { VU_SET_OWNER, 0, 0, false, 0 },
    { VU_SET_MEM_TABLE, ANY, ANY & 0xff, false, 0 },
    { VU_SET_VRING_NUM, 8, 0, false, 0 },
    { VU_SET_VRING_ADDR, 40, 0, false, 0 },
    { VU_SET_VRING_BASE, 8, 0, false, 0 },
    { VU_GET_VRING_BASE, 8, 0, true, 0 },
    { VU_SET_VRING_KICK, 8, 1, false, 0 },
    { VU_SET_VRING_CALL, 8, 1, false, 0 },
    { VU_SET_VRING_ERR, 8, 1, false, 0 },
    { VU_GET_PROTOCOL_FEATURES, 0, 0, true, 0 },
    { VU_SET_PROTOCOL_FEATURES, 8, 0, false, 0 },
    { VU_GET_QUEUE_NUM, 0, 0, true, VU_PF_MQ },
    { VU_SET_VRING_ENABLE, 8, 0, false, 0 },
    { VU_SET_BACKEND_REQ_FD, 0, 1, false, VU_PF_BACKEND_REQ },
    { VU_GET_CONFIG, ANY, 0, true, VU_PF_CONFIG },
    { VU_SET_CONFIG, ANY, 0, false, VU_PF_CONFIG },
    { VU_GET_INFLIGHT_FD, sizeof(struct vu_inflight), 0, true,
      VU_PF_INFLIGHT_SHMFD },
    { VU_SET_INFLIGHT_FD, sizeof(struct vu_inflight), 1, false,
      VU_PF_INFLIGHT_SHMFD },
    { VU_RESET_DEVICE, 0, 0, false, VU_PF_RESET_DEVICE },
    { VU_VRING_KICK, 8, 0, false, VU_PF_INBAND_NOTIFICATIONS },
    { VU_GET_MAX_MEM_SLOTS, 0, 0, true, VU_PF_CONFIGURE_MEM_SLOTS },
    { VU_ADD_MEM_REG, sizeof(struct vu_mem_reg), 1, false,
      VU_PF_CONFIGURE_MEM_SLOTS },
    { VU_SET_STATUS, 8, 0, false, VU_PF_STATUS },
    { VU_GET_STATUS, 0, 0, true, VU_PF_STATUS },
    { VU_GET_BACKEND_SPECS, 0, 0, true, VU_PF_STANDALONE },
    { VU_GET_CONFIG_SIZE, 0, 0, true, VU_PF_STANDALONE },
    { VU_GET_MIN_VQ, 0, 0, true, VU_PF_STANDALONE },
    { VU_GET_SHMEM_CONFIG, 0, 0, true, VU_PF_SHMEM },
};

static const struct rule *find(uint32_t request)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].request == request)
            return &rules[i];
    return NULL;
}

static void add_region(struct order *order, const struct vu_mem_region *region)
{
    CHECK(order->regions < VU_MAX_MEM_REGIONS);
    CHECK(region->size > 0);
    for (unsigned i = 0; i < order->regions; i++)
        CHECK(region->guest_addr != order->region[i].guest_addr);
    order->region[order->regions++] = *region;
}

static void check_user_addr(const struct order *order, uint64_t addr)
{
    for (unsigned i = 0; i < order->regions; i++)
        if (addr - order->region[i].user_addr < order->region[i].size)
            return;
    CHECK(!"a ring's address lies in the memory table");
}

static void check_ring(struct order *order, uint32_t request,
                       const uint8_t *payload)
{
    bool inband = order->acked & VU_PF_INBAND_NOTIFICATIONS;
    uint8_t placed = HAS_NUM | HAS_ADDR | HAS_BASE;
    struct vu_vring_addr addr;
    uint32_t index, num;
    uint8_t *ring;

    memcpy(&index, payload, sizeof index);
    memcpy(&num, payload + 4, sizeof num);
    CHECK(index < 256);
    ring = &order->ring[index];
    switch (request) {
    case VU_SET_VRING_NUM:
        CHECK(order->regions > 0);
        CHECK(num > 0 && num <= 32768);
        CHECK(*ring == 0);
        *ring |= HAS_NUM;
        break;
    case VU_SET_VRING_ADDR:
        CHECK_EQ(*ring, HAS_NUM);
        memcpy(&addr, payload, sizeof addr);
        CHECK_EQ(addr.flags, 0);
        check_user_addr(order, addr.desc);
        check_user_addr(order, addr.avail);
        check_user_addr(order, addr.used);
        *ring |= HAS_ADDR;
        break;
    case VU_SET_VRING_BASE:
        CHECK_EQ(*ring, HAS_NUM | HAS_ADDR);
        *ring |= HAS_BASE;
        break;
    case VU_SET_VRING_CALL:
    case VU_SET_VRING_ERR:
        CHECK(!inband && num == 0);
        CHECK_EQ(*ring, placed);
        break;
    case VU_SET_VRING_KICK:
        CHECK(!inband && num == 0);
        CHECK_EQ(*ring, placed);
        *ring |= HAS_KICK;
        break;
    case VU_SET_VRING_ENABLE:
        CHECK(order->features & VHOST_F_PROTOCOL_FEATURES);
        CHECK(num <= 1);
        CHECK_EQ(*ring & ~IS_ON, inband ? placed : placed | HAS_KICK);
        *ring = (uint8_t)(num ? *ring | IS_ON : *ring & ~IS_ON);
        break;
    case VU_GET_VRING_BASE:
        CHECK(*ring && !(*ring & IS_ON));
        *ring = 0;
        break;
    case VU_VRING_KICK:
        CHECK(*ring);
        break;
    }
}

static void check_memory(struct order *order, const struct vu_header *header,
                         const uint8_t *payload)
{
    struct vu_mem_table table = { 0 };
    struct vu_mem_reg one;

    if (header->request == VU_ADD_MEM_REG) {
        memcpy(&one, payload, sizeof one);
        add_region(order, &one.region);
        return;
    }
    CHECK(header->size >= 8 && header->size <= sizeof table);
    memcpy(&table, payload, header->size);
    CHECK(order->regions == 0 && table.n_regions > 0);
    CHECK(table.n_regions <= VU_MAX_MEM_REGIONS);
    CHECK_EQ(header->size, 8 + table.n_regions * sizeof table.region[0]);
    for (unsigned i = 0; i < table.n_regions; i++)
        add_region(order, &table.region[i]);
    order->fds += table.n_regions;
}

static void check_config(const struct vu_header *header, const uint8_t *payload)
{
    struct vu_config head;

    CHECK(header->size > sizeof head);
    memcpy(&head, payload, sizeof head);
    CHECK_EQ(header->size, sizeof head + head.size);
    CHECK(head.size >= 1 && head.size <= VU_MAX_CONFIG);
    CHECK(head.offset <= 4096 && head.size <= 4096 - head.offset);
    CHECK_EQ(head.flags, 0);
}

void order_check(struct order *order, const struct vu_header *header,
                 const uint8_t *payload)
{
    const struct rule *rule = find(header->request);

    CHECK(rule != NULL);
    CHECK_EQ(header->flags & ~VU_NEED_REPLY, VU_VERSION);
    if (header->flags & VU_NEED_REPLY)
        CHECK(order->acked & VU_PF_REPLY_ACK && !rule->question);
    if (rule->size != ANY)
        CHECK_EQ(header->size, rule->size);
    CHECK_EQ(order->acked & rule->needs, rule->needs);
    CHECK(order->owner != (header->request == VU_SET_OWNER));
    if (rule->n_fds != (ANY & 0xff))
        order->fds += rule->n_fds;

    switch (header->request) {
    case VU_SET_OWNER:
        order->owner = true;
        break;
    case VU_SET_PROTOCOL_FEATURES:
        memcpy(&order->acked, payload, sizeof order->acked);
        break;
    case VU_SET_MEM_TABLE:
    case VU_ADD_MEM_REG:
        check_memory(order, header, payload);
        break;
    case VU_GET_CONFIG:
    case VU_SET_CONFIG:
        check_config(header, payload);
        break;
    case VU_SET_VRING_NUM:
    case VU_SET_VRING_ADDR:
    case VU_SET_VRING_BASE:
    case VU_GET_VRING_BASE:
    case VU_SET_VRING_KICK:
    case VU_SET_VRING_CALL:
    case VU_SET_VRING_ERR:
    case VU_SET_VRING_ENABLE:
    case VU_VRING_KICK:
        check_ring(order, header->request, payload);
        break;
    }
}
