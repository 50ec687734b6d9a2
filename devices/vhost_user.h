/*
 * The vhost-user wire: message numbers, protocol features and payloads, after
 * QEMU's docs/interop/vhost-user.rst, with the two probe dialects of the
 * STANDALONE and PROBE proposals. Native byte order. Front-end and bundled
 * back-ends share this file and nothing else.
 */
#ifndef HUSK_DEVICES_VHOST_USER_H
#define HUSK_DEVICES_VHOST_USER_H

#include <stdint.h>

/* header flags */
#define VU_VERSION      0x1u
#define VU_VERSION_MASK 0x3u
#define VU_REPLY        0x4u
#define VU_NEED_REPLY   0x8u

/* requests of the front-end */
enum vu_request {
    VU_GET_FEATURES = 1,
    VU_SET_FEATURES = 2,
    VU_SET_OWNER = 3,
    VU_RESET_OWNER = 4,
    VU_SET_MEM_TABLE = 5,
    VU_SET_LOG_BASE = 6,
    VU_SET_LOG_FD = 7,
    VU_SET_VRING_NUM = 8,
    VU_SET_VRING_ADDR = 9,
    VU_SET_VRING_BASE = 10,
    VU_GET_VRING_BASE = 11,
    VU_SET_VRING_KICK = 12,
    VU_SET_VRING_CALL = 13,
    VU_SET_VRING_ERR = 14,
    VU_GET_PROTOCOL_FEATURES = 15,
    VU_SET_PROTOCOL_FEATURES = 16,
    VU_GET_QUEUE_NUM = 17,
    VU_SET_VRING_ENABLE = 18,
    VU_SET_BACKEND_REQ_FD = 21,
    VU_GET_CONFIG = 24,
    VU_SET_CONFIG = 25,
    VU_GET_INFLIGHT_FD = 31,
    VU_SET_INFLIGHT_FD = 32,
    VU_RESET_DEVICE = 34,
    VU_VRING_KICK = 35,
    VU_GET_MAX_MEM_SLOTS = 36,
    VU_ADD_MEM_REG = 37,
    VU_REM_MEM_REG = 38,
    VU_SET_STATUS = 39,
    VU_GET_STATUS = 40,
    /* the probe; upstream has since given 41 to 43 to other requests */
    VU_GET_BACKEND_SPECS = 41, /* dialect "specs" */
    VU_GET_DEVICE_ID = 41,     /* dialect "messages" */
    VU_GET_CONFIG_SIZE = 42,
    VU_GET_MIN_VQ = 43,
    VU_GET_SHMEM_CONFIG = 44,
};

/* requests of the back-end, on the channel of SET_BACKEND_REQ_FD */
enum vu_backend_request {
    VU_BACKEND_IOTLB_MSG = 1,
    VU_BACKEND_CONFIG_CHANGE_MSG = 2,
    VU_BACKEND_VRING_HOST_NOTIFIER_MSG = 3,
    VU_BACKEND_VRING_CALL = 4,
    VU_BACKEND_VRING_ERR = 5,
    VU_BACKEND_SHMEM_MAP = 9,
    VU_BACKEND_SHMEM_UNMAP = 10,
};

/* protocol features, as masks */
#define VU_PF_MQ                   (UINT64_C(1) << 0)
#define VU_PF_LOG_SHMFD            (UINT64_C(1) << 1)
#define VU_PF_RARP                 (UINT64_C(1) << 2)
#define VU_PF_REPLY_ACK            (UINT64_C(1) << 3)
#define VU_PF_MTU                  (UINT64_C(1) << 4)
#define VU_PF_BACKEND_REQ          (UINT64_C(1) << 5)
#define VU_PF_CROSS_ENDIAN         (UINT64_C(1) << 6)
#define VU_PF_CRYPTO_SESSION       (UINT64_C(1) << 7)
#define VU_PF_PAGEFAULT            (UINT64_C(1) << 8)
#define VU_PF_CONFIG               (UINT64_C(1) << 9)
#define VU_PF_BACKEND_SEND_FD      (UINT64_C(1) << 10)
#define VU_PF_HOST_NOTIFIER        (UINT64_C(1) << 11)
#define VU_PF_INFLIGHT_SHMFD       (UINT64_C(1) << 12)
#define VU_PF_RESET_DEVICE         (UINT64_C(1) << 13)
#define VU_PF_INBAND_NOTIFICATIONS (UINT64_C(1) << 14)
#define VU_PF_CONFIGURE_MEM_SLOTS  (UINT64_C(1) << 15)
#define VU_PF_STATUS               (UINT64_C(1) << 16)
#define VU_PF_XEN_MMAP             (UINT64_C(1) << 17)
#define VU_PF_STANDALONE           (UINT64_C(1) << 18) /* or SHARED_OBJECT */
#define VU_PF_DEVICE_STATE         (UINT64_C(1) << 19)
#define VU_PF_GPA_ADDRESSES        (UINT64_C(1) << 21)
#define VU_PF_SHMEM                (UINT64_C(1) << 22)

struct vu_header {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* of the payload that follows */
};

#define VU_HEADER_SIZE     12u
#define VU_MAX_PAYLOAD     4096u /* of any reply; more is an error */
#define VU_MAX_MEM_REGIONS 8
#define VU_MAX_CONFIG      256u /* bytes of config space a message */

struct vu_mem_region {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t mmap_offset;
};

struct vu_mem_table { /* SET_MEM_TABLE, a descriptor a region */
    uint32_t n_regions;
    uint32_t padding;
    struct vu_mem_region region[VU_MAX_MEM_REGIONS];
};

struct vu_mem_reg { /* ADD_MEM_REG, REM_MEM_REG */
    uint64_t padding;
    struct vu_mem_region region;
};

struct vu_vring_state { /* SET_VRING_NUM, _BASE, _ENABLE, GET_VRING_BASE */
    uint32_t index;
    uint32_t num;
};

struct vu_vring_addr {
    uint32_t index;
    uint32_t flags;
    uint64_t desc;
    uint64_t used;
    uint64_t avail;
    uint64_t log;
};

/* SET_VRING_KICK, _CALL and _ERR: a u64 */
#define VU_VRING_INDEX_MASK 0xffu
#define VU_VRING_NO_FD      0x100u

struct vu_config { /* GET_CONFIG, SET_CONFIG; size bytes follow */
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
};

struct vu_specs { /* the answer of dialect "specs" */
    uint32_t id;
    uint32_t config_size;
    uint32_t min_vqs;
    uint32_t max_vqs;
};

#define VU_MAX_SHM 256u /* shared memory regions, by their id */

struct vu_shm_config {  /* the answer to GET_SHMEM_CONFIG */
    uint32_t n_regions; /* sizes that are not 0 */
    uint32_t padding;
    uint64_t size[VU_MAX_SHM];
};

#define VU_MAP_WRITABLE UINT64_C(1)

struct vu_map { /* SHMEM_MAP, with a descriptor, and SHMEM_UNMAP */
    uint8_t shmid;
    uint8_t padding[7];
    uint64_t fd_offset;
    uint64_t shm_offset;
    uint64_t size;
    uint64_t flags;
};

struct vu_inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t num_queues;
    uint16_t queue_size;
};

#endif
