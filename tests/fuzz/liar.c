/*
 * See liar.h. Each answer takes one byte of the input, 0 for the truth, and
 * what parameters that lie needs. Lies are those that back-ends have told
 * elsewhere: wrong header fields, sizes, descriptors, cuts, silence, and plain
 * bytes.
 */
#include "tests/fuzz/liar.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio.h"

#define MAX_FDS 253u

void liar_connect(struct liar *liar, int fd)
{
    liar->fd = fd;
    liar->order = (struct order){ .features = liar->features };
    liar->fds = 0;
    liar->n_in = liar->n_held = 0;
    liar->sent = liar->end = 0;
    liar->mark = liar->n_marks = 0;
    liar->drip = 0;
    liar->silent = liar->closing = liar->deaf = false;
    liar->status = 0;
    liar->flagrant = liar->shifted = false;
}

/* The only socket that a front-end hands over. */
static bool is_channel(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void keep_channel(struct liar *liar, int fd)
{
    if (liar->channel >= 0)
        close(liar->channel);
    liar->channel = fd;
}

void liar_hang_up(struct liar *liar)
{
    if (liar->fd >= 0)
        close(liar->fd);
    liar->fd = -1;
    if (liar->asks)
        keep_channel(liar, -1);
}

static void emit(struct liar *liar, const void *bytes, size_t size,
                 unsigned n_fds)
{
    if (liar->silent || liar->closing)
        return;
    if (size > sizeof liar->out - liar->end || size == 0 ||
        (n_fds && liar->n_marks == LIAR_MAX_MARKS)) {
        liar->closing = true;
        return;
    }
    if (n_fds) {
        liar->marks[liar->n_marks].at = liar->end;
        liar->marks[liar->n_marks++].n_fds = n_fds;
    }
    memcpy(liar->out + liar->end, bytes, size);
    liar->end += size;
}

/* One answer on its way out. */
struct answer {
    struct vu_header header;
    uint8_t payload[VU_MAX_PAYLOAD + 64];
    size_t size; /* of the payload that goes out */
    unsigned n_fds;
};

static void put(struct answer *answer, const void *payload, size_t size)
{
    memcpy(answer->payload, payload, size);
    answer->header.size = (uint32_t)size;
    answer->size = size;
}

static void put_u64(struct answer *answer, uint64_t value)
{
    put(answer, &value, sizeof value);
}

static void put_config(const struct liar *liar, struct answer *answer,
                       const uint8_t *payload)
{
    struct vu_config head;

    memcpy(&head, payload, sizeof head);
    memcpy(answer->payload + sizeof head, liar->config + head.offset,
           head.size);
    memcpy(answer->payload, &head, sizeof head);
    answer->size = sizeof head + head.size;
    answer->header.size = (uint32_t)answer->size;
}

/* The truth; false: there is no answer to this. */
static bool tell(const struct liar *liar, const struct vu_header *header,
                 const uint8_t *payload, struct answer *answer)
{
    struct vu_inflight area = { .mmap_size = 4096 };
    struct vu_shm_config shm = { .n_regions = 2 };
    struct vu_vring_state state;

    answer->header =
        (struct vu_header){ header->request, VU_VERSION | VU_REPLY, 0 };
    switch (header->request) {
    case VU_GET_FEATURES:
        put_u64(answer, liar->features);
        break;
    case VU_GET_PROTOCOL_FEATURES:
        put_u64(answer, liar->protocol);
        break;
    case VU_GET_QUEUE_NUM:
        put_u64(answer, liar->queue_num);
        break;
    case VU_GET_MAX_MEM_SLOTS:
        put_u64(answer, liar->slots);
        break;
    case VU_GET_STATUS:
        put_u64(answer, liar->status);
        break;
    case VU_GET_CONFIG:
        put_config(liar, answer, payload);
        break;
    case VU_GET_VRING_BASE:
        memcpy(&state, payload, sizeof state);
        state.num = 5;
        put(answer, &state, sizeof state);
        break;
    case VU_GET_INFLIGHT_FD:
        memcpy(&area.num_queues, payload + 16, 2);
        memcpy(&area.queue_size, payload + 18, 2);
        put(answer, &area, 20);
        answer->n_fds = 1;
        break;
    case VU_GET_SHMEM_CONFIG:
        shm.size[1] = 0x2000;
        shm.size[255] = 0x1000;
        put(answer, &shm, sizeof shm);
        break;
    case VU_GET_BACKEND_SPECS:
        if (liar->dialect == LIAR_IGNORES)
            return false;
        if (liar->dialect == LIAR_SPECS)
            put(answer, &liar->specs, sizeof liar->specs);
        else if (liar->dialect == LIAR_MESSAGES)
            put(answer, &liar->specs.id, 4);
        break;
    case VU_GET_CONFIG_SIZE:
        put(answer, &liar->specs.config_size, 4);
        break;
    case VU_GET_MIN_VQ:
        put(answer, &liar->specs.min_vqs, 4);
        break;
    default:
        if (!(header->flags & VU_NEED_REPLY))
            return false;
        put_u64(answer, 0);
        break;
    }
    return true;
}

static void send_answer(struct liar *liar, const struct answer *answer)
{
    uint8_t bytes[sizeof answer->header + sizeof answer->payload];

    memcpy(bytes, &answer->header, sizeof answer->header);
    memcpy(bytes + sizeof answer->header, answer->payload, answer->size);
    emit(liar, bytes, sizeof answer->header + answer->size, answer->n_fds);
}

static void send_bytes(struct liar *liar)
{
    uint8_t bytes[256];
    size_t size = 1u + input_u8(&liar->lies);

    if (size > sizeof bytes)
        size = sizeof bytes;
    input_bytes(&liar->lies, bytes, size);
    emit(liar, bytes, size, 0);
}

/* An answer that nobody asked for. */
static void send_extra(struct liar *liar)
{
    struct answer extra = { .header = { input_u8(&liar->lies),
                                        VU_VERSION | VU_REPLY, 0 } };

    put_u64(&extra, input_u8(&liar->lies));
    extra.size = extra.header.size = input_u8(&liar->lies) % 25;
    send_answer(liar, &extra);
}

/* Only the first bytes of it, and then the end. */
static void send_cut(struct liar *liar, const struct answer *answer)
{
    size_t before = liar->end;
    size_t left = input_u8(&liar->lies);

    send_answer(liar, answer);
    if (liar->end - before > left)
        liar->end = before + left;
    while (liar->n_marks && liar->marks[liar->n_marks - 1].at >= liar->end)
        liar->n_marks--;
    liar->closing = true;
}

static void hold(struct liar *liar, const struct answer *answer)
{
    if (liar->n_held || answer->n_fds) {
        send_answer(liar, answer);
        return;
    }
    memcpy(liar->held, &answer->header, sizeof answer->header);
    memcpy(liar->held + sizeof answer->header, answer->payload, answer->size);
    liar->n_held = sizeof answer->header + answer->size;
}

static void resize(struct liar *liar, struct answer *answer)
{
    size_t size = input_u16(&liar->lies) % (sizeof answer->payload + 1);
    uint8_t fill = input_u8(&liar->lies);

    for (size_t i = answer->size; i < size; i++)
        answer->payload[i] = fill;
    answer->size = size;
    answer->header.size = (uint32_t)size;
}

static void overwrite(struct liar *liar, struct answer *answer, size_t width)
{
    size_t at = input_u8(&liar->lies);

    if (at + width <= answer->size)
        input_bytes(&liar->lies, answer->payload + at, width);
}

/* Bend the answer, or what becomes of it; true: it is still to be sent. */
static bool bend(struct liar *liar, uint8_t lie, struct answer *answer)
{
    static const uint8_t counts[] = { 1, 2, 8, 9, 253, 0, 7, 64 };
    uint64_t one = 1;

    switch (lie) {
    case 1:
        answer->header.request = input_u8(&liar->lies);
        break;
    case 2:
        answer->header.flags ^= input_u8(&liar->lies);
        break;
    case 3:
        answer->header.size = input_u32(&liar->lies);
        break;
    case 4:
        resize(liar, answer);
        break;
    case 5:
        overwrite(liar, answer, 1);
        break;
    case 6:
        overwrite(liar, answer, 4);
        break;
    case 7:
        overwrite(liar, answer, 8);
        break;
    case 8:
        answer->n_fds = counts[input_u8(&liar->lies) % sizeof counts];
        break;
    case 9:
        send_cut(liar, answer);
        return false;
    case 10:
        liar->closing = true;
        return false;
    case 11:
        liar->silent = true;
        return false;
    case 12:
        liar->drip = input_u8(&liar->lies) % 16;
        break;
    case 13:
        send_answer(liar, answer);
        break;
    case 14:
        send_extra(liar);
        break;
    case 15:
        send_bytes(liar);
        break;
    case 16:
        hold(liar, answer);
        return false;
    case 17:
        return false;
    case 18:
        CHECK(write(liar->stop_fd, &one, sizeof one) > 0);
        break;
    case 19:
        shutdown(liar->fd, SHUT_WR);
        break;
    case 20:
        send_bytes(liar);
        return false;
    case 21:
        liar->config[input_u8(&liar->lies)] ^= input_u8(&liar->lies);
        break;
    case 22:
        liar->deaf = true;
        break;
    case 23:
        memset(answer->payload, input_u8(&liar->lies), answer->size);
        break;
    }
    return true;
}

/* Bytes of payload that such an answer must have, or 0 where that depends. */
static size_t fixed_size(uint32_t request)
{
    switch (request) {
    case VU_GET_BACKEND_SPECS: /* the size tells the dialect */
    case VU_GET_SHMEM_CONFIG:
    case VU_GET_CONFIG:
    case VU_GET_INFLIGHT_FD:
        return 0;
    case VU_GET_CONFIG_SIZE:
    case VU_GET_MIN_VQ:
        return 4;
    default:
        return 8;
    }
}

/* Whether a front-end must not take this for an answer, whatever it says. */
static bool is_flagrant(const struct answer *truth, const struct answer *answer)
{
    uint32_t request = truth->header.request;
    size_t size = fixed_size(request), same = 0;

    if ((answer->header.flags & VU_VERSION_MASK) != VU_VERSION ||
        !(answer->header.flags & VU_REPLY) || answer->n_fds != truth->n_fds)
        return true;
    if (request == VU_GET_BACKEND_SPECS)
        return false;
    if (answer->header.request != request)
        return true;
    if (size && answer->size != size)
        return true;
    if (request == VU_GET_VRING_BASE) /* of this ring */
        same = 4;
    /* as sent: a config space's offset and size */
    if (request == VU_GET_CONFIG)
        same = 8;
    return same && (answer->size != truth->size ||
                    memcmp(answer->payload, truth->payload, same) != 0);
}

/* A lie after which the front-end may be one answer ahead or behind. */
static bool shifts(uint8_t lie)
{
    return lie == 3 || (lie >= 13 && lie <= 17) || lie == 20;
}

static void answer_request(struct liar *liar, const struct vu_header *header,
                           const uint8_t *payload)
{
    struct answer answer = { .n_fds = 0 }, truth;
    bool send;
    uint8_t lie;

    if (header->request == VU_SET_STATUS)
        memcpy(&liar->status, payload, sizeof liar->status);
    if (!tell(liar, header, payload, &answer))
        return;
    lie = input_u8(&liar->lies);
    if (lie) {
        liar->lied = true;
        liar->order.features |= VHOST_F_PROTOCOL_FEATURES; /* or so it said */
    }
    truth = answer;
    liar->shifted |= shifts(lie);
    send = bend(liar, lie, &answer);
    if (send && !liar->shifted)
        liar->flagrant |= is_flagrant(&truth, &answer);
    if (send)
        send_answer(liar, &answer);
    if (send && liar->n_held) {
        emit(liar, liar->held, liar->n_held, 0);
        liar->n_held = 0;
    }
}

/* The whole requests that are there. */
static void take_requests(struct liar *liar)
{
    size_t at = 0;

    while (liar->n_in - at >= VU_HEADER_SIZE) {
        struct vu_header header;
        size_t size;

        memcpy(&header, liar->in + at, sizeof header);
        CHECK(header.size <= VU_MAX_PAYLOAD);
        size = sizeof header + header.size;
        if (liar->n_in - at < size)
            break;
        order_check(&liar->order, &header, liar->in + at + sizeof header);
        answer_request(liar, &header, liar->in + at + sizeof header);
        at += size;
    }
    memmove(liar->in, liar->in + at, liar->n_in - at);
    liar->n_in -= at;
    if (liar->n_in == 0)
        CHECK_EQ(liar->fds, liar->order.fds);
}

static void take_fds(struct liar *liar, struct msghdr *msg)
{
    struct cmsghdr *cmsg;

    for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof fd, sizeof fd);
            if (liar->asks && is_channel(fd))
                keep_channel(liar, fd);
            else
                close(fd);
        }
        liar->fds += (unsigned)n;
    }
}

static void receive(struct liar *liar)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
        struct cmsghdr align;
    } control;

    for (;;) {
        struct iovec iov = { liar->in + liar->n_in,
                             sizeof liar->in - liar->n_in };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
        ssize_t n = recvmsg(liar->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n <= 0)
            break;
        take_fds(liar, &msg);
        liar->n_in += (size_t)n;
        take_requests(liar);
    }
}

static ssize_t send_with(struct liar *liar, size_t size, unsigned n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { liar->out + liar->sent, size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof control);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        for (unsigned i = 0; i < n_fds; i++)
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &liar->attached,
                   sizeof(int));
    }
    return sendmsg(liar->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void flush(struct liar *liar)
{
    size_t budget = liar->drip ? liar->drip : LIAR_MAX_OUT;

    while (liar->sent < liar->end && budget) {
        size_t until = liar->end;
        unsigned n_fds = 0;
        ssize_t n;

        if (liar->mark < liar->n_marks) {
            if (liar->marks[liar->mark].at == liar->sent)
                n_fds = liar->marks[liar->mark].n_fds;
            else
                until = liar->marks[liar->mark].at;
        }
        if (n_fds && liar->mark + 1 < liar->n_marks)
            until = liar->marks[liar->mark + 1].at;
        if (until - liar->sent > budget)
            until = liar->sent + budget;
        n = send_with(liar, until - liar->sent, n_fds);
        if (n <= 0)
            return;
        if (n_fds)
            liar->mark++;
        liar->sent += (size_t)n;
        budget -= (size_t)n;
    }
    if (liar->sent < liar->end)
        return;
    liar->sent = liar->end = 0;
    liar->mark = liar->n_marks = 0;
}

void liar_turn(struct liar *liar)
{
    if (liar->fd < 0)
        return;
    if (!liar->deaf)
        receive(liar);
    flush(liar);
    if (liar->closing && liar->sent == liar->end)
        liar_hang_up(liar);
}
