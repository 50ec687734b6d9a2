/*
 * The requests of a front-end by number: name, size of the payload, and the
 * protocol feature that allows each. After QEMU's docs/interop/vhost-user.rst
 * and the STANDALONE and PROBE proposals. Requests that are named but not
 * known belong to features that are never acknowledged.
 */
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SHAPE(number, text, lo, hi, needs, answer)                             \
    [number] = { .name = text,                                                 \
                 .min = lo,                                                    \
                 .max = hi,                                                    \
                 .feature = needs,                                             \
                 .replies = answer,                                            \
                 .known = true }
#define NAME(number, text) [number] = { .name = text }

static const struct wire_shape shapes[WIRE_REQUESTS] = {
    SHAPE(1, "GET_FEATURES", 0, 0, NO_FEATURE, true),
    SHAPE(2, "SET_FEATURES", 8, 8, NO_FEATURE, false),
    SHAPE(3, "SET_OWNER", 0, 0, NO_FEATURE, false),
    NAME(4, "RESET_OWNER"),
    SHAPE(5, "SET_MEM_TABLE", 8 + 32, 8 + 8 * 32, NO_FEATURE, false),
    NAME(6, "SET_LOG_BASE"),
    NAME(7, "SET_LOG_FD"),
    SHAPE(8, "SET_VRING_NUM", 8, 8, NO_FEATURE, false),
    SHAPE(9, "SET_VRING_ADDR", 40, 40, NO_FEATURE, false),
    SHAPE(10, "SET_VRING_BASE", 8, 8, NO_FEATURE, false),
    SHAPE(11, "GET_VRING_BASE", 8, 8, NO_FEATURE, true),
    SHAPE(12, "SET_VRING_KICK", 8, 8, NO_FEATURE, false),
    SHAPE(13, "SET_VRING_CALL", 8, 8, NO_FEATURE, false),
    SHAPE(14, "SET_VRING_ERR", 8, 8, NO_FEATURE, false),
    SHAPE(15, "GET_PROTOCOL_FEATURES", 0, 0, NO_FEATURE, true),
    SHAPE(16, "SET_PROTOCOL_FEATURES", 8, 8, NO_FEATURE, false),
    SHAPE(17, "GET_QUEUE_NUM", 0, 0, PF_MQ, true),
    SHAPE(18, "SET_VRING_ENABLE", 8, 8, NO_FEATURE, false),
    NAME(19, "SEND_RARP"),
    NAME(20, "NET_SET_MTU"),
    SHAPE(21, "SET_BACKEND_REQ_FD", 0, 0, PF_BACKEND_REQ, false),
    NAME(22, "IOTLB_MSG"),
    NAME(23, "SET_VRING_ENDIAN"),
    SHAPE(24, "GET_CONFIG", 12, 12 + 256, PF_CONFIG, true),
    SHAPE(25, "SET_CONFIG", 12, 12 + 256, PF_CONFIG, false),
    NAME(26, "CREATE_CRYPTO_SESSION"),
    NAME(27, "CLOSE_CRYPTO_SESSION"),
    NAME(28, "POSTCOPY_ADVISE"),
    NAME(29, "POSTCOPY_LISTEN"),
    NAME(30, "POSTCOPY_END"),
    SHAPE(31, "GET_INFLIGHT_FD", 20, 24, PF_INFLIGHT, true),
    SHAPE(32, "SET_INFLIGHT_FD", 20, 24, PF_INFLIGHT, false),
    NAME(33, "GPU_SET_SOCKET"),
    SHAPE(34, "RESET_DEVICE", 0, 0, PF_RESET_DEVICE, false),
    SHAPE(35, "VRING_KICK", 8, 8, PF_INBAND, false),
    SHAPE(36, "GET_MAX_MEM_SLOTS", 0, 0, PF_MEM_SLOTS, true),
    SHAPE(37, "ADD_MEM_REG", 40, 40, PF_MEM_SLOTS, false),
    NAME(38, "REM_MEM_REG"),
    SHAPE(39, "SET_STATUS", 8, 8, PF_STATUS, false),
    SHAPE(40, "GET_STATUS", 0, 0, PF_STATUS, true),
    SHAPE(41, "GET_BACKEND_SPECS", 0, 0, PF_PROBE, true),
    SHAPE(42, "GET_CONFIG_SIZE", 0, 0, PF_PROBE, true),
    SHAPE(43, "GET_MIN_VQ", 0, 0, PF_PROBE, true),
    SHAPE(44, "GET_SHMEM_CONFIG", 0, 0, PF_SHMEM, true),
    NAME(45, "GET_VRING_BASE_SKIP_DRAIN"),
};

const struct wire_shape *wire_shape(uint32_t request)
{
    if (request >= WIRE_REQUESTS || !shapes[request].known)
        return NULL;
    return &shapes[request];
}

const char *wire_name(uint32_t request)
{
    if (request >= WIRE_REQUESTS || !shapes[request].name)
        return "?";
    return shapes[request].name;
}

uint32_t wire_number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 0);

    if (end != text && !*end)
        return value <= UINT32_MAX ? (uint32_t)value : 0;
    if (!strcasecmp(text, "GET_DEVICE_ID"))
        return WIRE_PROBE;
    for (uint32_t i = 1; i < WIRE_REQUESTS; i++)
        if (shapes[i].name && !strcasecmp(text, shapes[i].name))
            return i;
    return 0;
}
