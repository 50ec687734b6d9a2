/*
 * Names of requests, device types and feature bits, after VIRTIO 1.2 (section
 * 5 and 6) and QEMU's docs/interop/vhost-user.rst. For people only: nothing in
 * husk decides by a name, or by the type that it stands for.
 */
#include "devices/names.h"

#include <stddef.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const requests[] = {
    [1] = "GET_FEATURES",
    [2] = "SET_FEATURES",
    [3] = "SET_OWNER",
    [5] = "SET_MEM_TABLE",
    [8] = "SET_VRING_NUM",
    [9] = "SET_VRING_ADDR",
    [10] = "SET_VRING_BASE",
    [11] = "GET_VRING_BASE",
    [12] = "SET_VRING_KICK",
    [13] = "SET_VRING_CALL",
    [14] = "SET_VRING_ERR",
    [15] = "GET_PROTOCOL_FEATURES",
    [16] = "SET_PROTOCOL_FEATURES",
    [17] = "GET_QUEUE_NUM",
    [18] = "SET_VRING_ENABLE",
    [21] = "SET_BACKEND_REQ_FD",
    [24] = "GET_CONFIG",
    [25] = "SET_CONFIG",
    [31] = "GET_INFLIGHT_FD",
    [32] = "SET_INFLIGHT_FD",
    [34] = "RESET_DEVICE",
    [35] = "VRING_KICK",
    [36] = "GET_MAX_MEM_SLOTS",
    [37] = "ADD_MEM_REG",
    [38] = "REM_MEM_REG",
    [39] = "SET_STATUS",
    [40] = "GET_STATUS",
    [41] = "the probe (41)",
    [42] = "GET_CONFIG_SIZE",
    [43] = "GET_MIN_VQ",
    [44] = "GET_SHMEM_CONFIG",
};

static const char *const devices[] = {
    [1] = "network",
    [2] = "block",
    [3] = "console",
    [4] = "entropy",
    [5] = "balloon (traditional)",
    [6] = "io memory",
    [7] = "rpmsg",
    [8] = "SCSI host",
    [9] = "9P transport",
    [10] = "mac80211 wlan",
    [11] = "rproc serial",
    [12] = "CAIF",
    [13] = "balloon",
    [16] = "GPU",
    [17] = "timer",
    [18] = "input",
    [19] = "socket",
    [20] = "crypto",
    [21] = "signal distribution",
    [22] = "pstore",
    [23] = "IOMMU",
    [24] = "memory",
    [25] = "sound",
    [26] = "file system",
    [27] = "persistent memory",
    [28] = "RPMB",
    [29] = "mac80211 hwsim",
    [30] = "video encoder",
    [31] = "video decoder",
    [32] = "SCMI",
    [33] = "secure module",
    [34] = "I2C adapter",
    [35] = "watchdog",
    [36] = "CAN",
    [38] = "parameter server",
    [39] = "audio policy",
    [40] = "Bluetooth",
    [41] = "GPIO",
    [42] = "RDMA",
    [43] = "camera",
    [44] = "ISM",
    [45] = "SPI",
};

struct bit_name {
    uint32_t id;
    unsigned bit;
    const char *name;
};

static const struct bit_name features[] = {
    { 1, 0, "CSUM" },
    { 1, 1, "GUEST_CSUM" },
    { 1, 2, "CTRL_GUEST_OFFLOADS" },
    { 1, 3, "MTU" },
    { 1, 5, "MAC" },
    { 1, 7, "GUEST_TSO4" },
    { 1, 8, "GUEST_TSO6" },
    { 1, 9, "GUEST_ECN" },
    { 1, 10, "GUEST_UFO" },
    { 1, 11, "HOST_TSO4" },
    { 1, 12, "HOST_TSO6" },
    { 1, 13, "HOST_ECN" },
    { 1, 14, "HOST_UFO" },
    { 1, 15, "MRG_RXBUF" },
    { 1, 16, "STATUS" },
    { 1, 17, "CTRL_VQ" },
    { 1, 18, "CTRL_RX" },
    { 1, 19, "CTRL_VLAN" },
    { 1, 21, "GUEST_ANNOUNCE" },
    { 1, 22, "MQ" },
    { 1, 23, "CTRL_MAC_ADDR" },
    { 2, 1, "SIZE_MAX" },
    { 2, 2, "SEG_MAX" },
    { 2, 4, "GEOMETRY" },
    { 2, 5, "RO" },
    { 2, 6, "BLK_SIZE" },
    { 2, 9, "FLUSH" },
    { 2, 10, "TOPOLOGY" },
    { 2, 11, "CONFIG_WCE" },
    { 2, 12, "MQ" },
    { 2, 13, "DISCARD" },
    { 2, 14, "WRITE_ZEROES" },
    { 2, 15, "LIFETIME" },
    { 2, 16, "SECURE_ERASE" },
    { 3, 0, "SIZE" },
    { 3, 1, "MULTIPORT" },
    { 3, 2, "EMERG_WRITE" },
    { 19, 0, "STREAM" },
    { 19, 1, "SEQPACKET" },
    { 26, 0, "NOTIFICATION" },
};

/* 24 and up belong to the transport and mean the same for every type. */
static const char *const transport_features[] = {
    [24] = "NOTIFY_ON_EMPTY",   [26] = "LOG_ALL (vhost)",
    [27] = "ANY_LAYOUT",        [28] = "INDIRECT_DESC",
    [29] = "EVENT_IDX",         [30] = "PROTOCOL_FEATURES (vhost)",
    [32] = "VERSION_1",         [33] = "ACCESS_PLATFORM",
    [34] = "RING_PACKED",       [35] = "IN_ORDER",
    [36] = "ORDER_PLATFORM",    [37] = "SR_IOV",
    [38] = "NOTIFICATION_DATA", [39] = "NOTIF_CONFIG_DATA",
    [40] = "RING_RESET",        [41] = "ADMIN_VQ",
};

static const char *const protocol[] = {
    [0] = "MQ",
    [1] = "LOG_SHMFD",
    [2] = "RARP",
    [3] = "REPLY_ACK",
    [4] = "MTU",
    [5] = "BACKEND_REQ",
    [6] = "CROSS_ENDIAN",
    [7] = "CRYPTO_SESSION",
    [8] = "PAGEFAULT",
    [9] = "CONFIG",
    [10] = "BACKEND_SEND_FD",
    [11] = "HOST_NOTIFIER",
    [12] = "INFLIGHT_SHMFD",
    [13] = "RESET_DEVICE",
    [14] = "INBAND_NOTIFICATIONS",
    [15] = "CONFIGURE_MEM_SLOTS",
    [16] = "STATUS",
    [17] = "XEN_MMAP",
    [18] = "STANDALONE or SHARED_OBJECT",
    [19] = "DEVICE_STATE",
    [22] = "SHMEM",
};

const char *names_request(uint32_t request)
{
    const char *name = request < COUNT(requests) ? requests[request] : NULL;

    return name ? name : "a request";
}

const char *names_device(uint32_t id)
{
    return id < COUNT(devices) ? devices[id] : NULL;
}

const char *names_feature(uint32_t id, unsigned bit)
{
    for (size_t i = 0; i < COUNT(features); i++)
        if (features[i].id == id && features[i].bit == bit)
            return features[i].name;
    return bit < COUNT(transport_features) ? transport_features[bit] : NULL;
}

const char *names_protocol(unsigned bit)
{
    return bit < COUNT(protocol) ? protocol[bit] : NULL;
}
