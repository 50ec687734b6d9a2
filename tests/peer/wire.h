/*
 * The vhost-user wire as the test back-end knows it. These definitions are
 * written from the specification alone and share nothing with the front-end
 * under test: a number that is wrong on one side shows as a disagreement.
 */
#ifndef PEER_WIRE_H
#define PEER_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define BIT(n) (UINT64_C(1) << (n))

enum {
    WIRE_GET_FEATURES = 1,
    WIRE_SET_FEATURES = 2,
    WIRE_SET_OWNER = 3,
    WIRE_SET_MEM_TABLE = 5,
    WIRE_SET_VRING_NUM = 8,
    WIRE_SET_VRING_ADDR = 9,
    WIRE_SET_VRING_BASE = 10,
    WIRE_GET_VRING_BASE = 11,
    WIRE_SET_VRING_KICK = 12,
    WIRE_SET_VRING_CALL = 13,
    WIRE_SET_VRING_ERR = 14,
    WIRE_GET_PROTOCOL_FEATURES = 15,
    WIRE_SET_PROTOCOL_FEATURES = 16,
    WIRE_GET_QUEUE_NUM = 17,
    WIRE_SET_VRING_ENABLE = 18,
    WIRE_SET_BACKEND_REQ_FD = 21,
    WIRE_GET_CONFIG = 24,
    WIRE_SET_CONFIG = 25,
    WIRE_GET_INFLIGHT_FD = 31,
    WIRE_SET_INFLIGHT_FD = 32,
    WIRE_RESET_DEVICE = 34,
    WIRE_VRING_KICK = 35,
    WIRE_GET_MAX_MEM_SLOTS = 36,
    WIRE_ADD_MEM_REG = 37,
    WIRE_SET_STATUS = 39,
    WIRE_GET_STATUS = 40,
    WIRE_PROBE = 41, /* GET_BACKEND_SPECS or GET_DEVICE_ID */
    WIRE_GET_CONFIG_SIZE = 42,
    WIRE_GET_MIN_VQ = 43,
    WIRE_GET_SHMEM_CONFIG = 44,
    WIRE_REQUESTS = 64, /* above every number that has a name */
};

/* back-end requests */
enum {
    WIRE_BACKEND_CONFIG_CHANGE = 2,
    WIRE_BACKEND_VRING_CALL = 4,
    WIRE_BACKEND_VRING_ERR = 5,
    WIRE_BACKEND_SHMEM_MAP = 9,
    WIRE_BACKEND_SHMEM_UNMAP = 10,
};

/* header flags */
enum {
    WIRE_VERSION_MASK = 3,
    WIRE_VERSION = 1,
    WIRE_REPLY = 4,
    WIRE_NEED_REPLY = 8,
};

/* protocol features, as bit numbers */
enum {
    PF_MQ = 0,
    PF_REPLY_ACK = 3,
    PF_BACKEND_REQ = 5,
    PF_CONFIG = 9,
    PF_BACKEND_SEND_FD = 10,
    PF_INFLIGHT = 12,
    PF_RESET_DEVICE = 13,
    PF_INBAND = 14,
    PF_MEM_SLOTS = 15,
    PF_STATUS = 16,
    PF_PROBE = 18,
    PF_SHMEM = 22,
};

/* device features, as bit numbers */
enum {
    F_LOG_ALL = 26,
    F_INDIRECT = 28,
    F_EVENT_IDX = 29,
    F_PROTOCOL = 30,
    F_VERSION_1 = 32,
    F_ACCESS_PLATFORM = 33,
    F_PACKED = 34,
    F_SR_IOV = 37,
    F_NOTIFICATION_DATA = 38,
    F_NOTIF_CONFIG_DATA = 39,
    F_RING_RESET = 40,
    F_ADMIN_VQ = 41,
};

/* VIRTIO 2.1 */
enum {
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
};

struct wire_header {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
};

struct wire_state {
    uint32_t index;
    uint32_t num;
};

struct wire_addr {
    uint32_t index;
    uint32_t flags;
    uint64_t desc;
    uint64_t used;
    uint64_t avail;
    uint64_t log;
};

struct wire_region {
    uint64_t guest;
    uint64_t size;
    uint64_t user;
    uint64_t offset;
};

struct wire_map { /* SHMEM_MAP and SHMEM_UNMAP */
    uint8_t shmid;
    uint8_t padding[7];
    uint64_t fd_offset;
    uint64_t shm_offset;
    uint64_t size;
    uint64_t flags; /* 1: writable */
};

struct wire_config {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
};

struct wire_inflight {
    uint64_t size;
    uint64_t offset;
    uint16_t queues;
    uint16_t queue_size;
    uint32_t padding; /* the specification has none, C compilers do */
};

#define WIRE_HEADER      12u
#define WIRE_MAX_PAYLOAD 4096u
#define WIRE_MAX_CONFIG  256u
#define WIRE_TABLE_MAX   8u
#define WIRE_INFLIGHT    20u /* bytes of struct wire_inflight that are sent */
#define WIRE_RING_NO_FD  0x100u
#define WIRE_SHMEM_REPLY (8u + 256u * 8u)
#define WIRE_MAX_RINGS   256u
#define WIRE_MAX_RING    32768u
#define WIRE_PACKED_BASE 0x80008000u

/* The shape that a request has to have. */
struct wire_shape {
    const char *name;
    uint16_t min, max; /* bytes of payload */
    uint8_t feature;   /* protocol feature it needs, or NO_FEATURE */
    bool replies;      /* whether it has a reply of its own */
    bool known;
};

#define NO_FEATURE 0xffu

/* NULL for a request that no front-end of this contract may send. */
const struct wire_shape *wire_shape(uint32_t request);

/* Never NULL; "?" for a number without a name. */
const char *wire_name(uint32_t request);

/* A request by name or number; 0 if text is neither. */
uint32_t wire_number(const char *text);

#endif
