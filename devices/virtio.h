/*
 * Numbers of the VIRTIO 1.2 specification that more than one file needs: the
 * status bits (2.1), the feature bits that a transport owns (6) and the
 * virtio-mmio registers (4.2.2). No device type is among them, on purpose.
 */
#ifndef HUSK_DEVICES_VIRTIO_H
#define HUSK_DEVICES_VIRTIO_H

#include <stdint.h>

/* 2.1 device status */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER      0x02u
#define VIRTIO_STATUS_DRIVER_OK   0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED      0x80u

/* 6 reserved feature bits, as masks */
#define VIRTIO_F_NOTIFY_ON_EMPTY   (UINT64_C(1) << 24)
#define VIRTIO_F_INDIRECT_DESC     (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX         (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1         (UINT64_C(1) << 32)
#define VIRTIO_F_ACCESS_PLATFORM   (UINT64_C(1) << 33)
#define VIRTIO_F_RING_PACKED       (UINT64_C(1) << 34)
#define VIRTIO_F_IN_ORDER          (UINT64_C(1) << 35)
#define VIRTIO_F_ORDER_PLATFORM    (UINT64_C(1) << 36)
#define VIRTIO_F_SR_IOV            (UINT64_C(1) << 37)
#define VIRTIO_F_NOTIFICATION_DATA (UINT64_C(1) << 38)
#define VIRTIO_F_NOTIF_CONFIG_DATA (UINT64_C(1) << 39)
#define VIRTIO_F_RING_RESET        (UINT64_C(1) << 40)
#define VIRTIO_F_ADMIN_VQ          (UINT64_C(1) << 41)

/* vhost's own two, in numbers that VIRTIO leaves to the transport */
#define VHOST_F_LOG_ALL           (UINT64_C(1) << 26)
#define VHOST_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

/* 4.2.2 register offsets */
#define VIRTIO_MMIO_MAGIC            0x000u
#define VIRTIO_MMIO_VERSION          0x004u
#define VIRTIO_MMIO_DEVICE_ID        0x008u
#define VIRTIO_MMIO_VENDOR_ID        0x00cu
#define VIRTIO_MMIO_DEVICE_FEATURES  0x010u
#define VIRTIO_MMIO_DEVICE_FEAT_SEL  0x014u
#define VIRTIO_MMIO_DRIVER_FEATURES  0x020u
#define VIRTIO_MMIO_DRIVER_FEAT_SEL  0x024u
#define VIRTIO_MMIO_QUEUE_SEL        0x030u
#define VIRTIO_MMIO_QUEUE_NUM_MAX    0x034u
#define VIRTIO_MMIO_QUEUE_NUM        0x038u
#define VIRTIO_MMIO_QUEUE_READY      0x044u
#define VIRTIO_MMIO_QUEUE_NOTIFY     0x050u
#define VIRTIO_MMIO_INTERRUPT_STATUS 0x060u
#define VIRTIO_MMIO_INTERRUPT_ACK    0x064u
#define VIRTIO_MMIO_STATUS           0x070u
#define VIRTIO_MMIO_QUEUE_DESC       0x080u
#define VIRTIO_MMIO_QUEUE_DRIVER     0x090u
#define VIRTIO_MMIO_QUEUE_DEVICE     0x0a0u
#define VIRTIO_MMIO_SHM_SEL          0x0acu
#define VIRTIO_MMIO_SHM_LEN          0x0b0u
#define VIRTIO_MMIO_SHM_BASE         0x0b8u
#define VIRTIO_MMIO_QUEUE_RESET      0x0c0u
#define VIRTIO_MMIO_CONFIG_GEN       0x0fcu
#define VIRTIO_MMIO_CONFIG           0x100u

#define VIRTIO_MMIO_MAGIC_VALUE 0x74726976u /* "virt" */

/* 4.2.2 bits of InterruptStatus and InterruptACK */
#define VIRTIO_MMIO_INT_VRING  0x1u
#define VIRTIO_MMIO_INT_CONFIG 0x2u

#endif
