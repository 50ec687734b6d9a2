/* A back-end as a test wants it. See model.h. */
#include "tests/unit/model.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/virtio.h"
#include "tests/unit/far.h"

static void connect_model(struct model *m, int *near)
{
    *near = far_open(&m->fd);
    m->silent = false;
}

void model_prepare(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->features = VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES |
                  VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | 1;
    m->protocol = VU_PF_STANDALONE | VU_PF_CONFIG | VU_PF_STATUS | VU_PF_MQ |
                  VU_PF_REPLY_ACK | VU_PF_RESET_DEVICE;
    m->probe = MODEL_SPECS;
    m->id = 42;
    m->config_size = 20;
    m->min_vqs = 1;
    m->max_vqs = 2;
    m->queue_num = 2;
    m->max_slots = 8;
    for (unsigned i = 0; i < sizeof m->config; i++)
        m->config[i] = (uint8_t)(i * 7 + i / 256 + 1);
    for (unsigned i = 0; i < 256; i++)
        m->kick[i] = -1;
    m->stop = m->fd = m->backend_req = m->err = -1;
}

int model_init(struct model *m)
{
    int near;

    model_prepare(m);
    connect_model(m, &near);
    return near;
}

static void close_once(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void forget(struct model *m)
{
    for (unsigned i = 0; i < 256; i++)
        close_once(&m->kick[i]);
    close_once(&m->backend_req);
    close_once(&m->err);
}

void model_fini(struct model *m)
{
    model_stop(m);
    model_hang_up(m);
}

void model_hang_up(struct model *m)
{
    forget(m);
    close_once(&m->fd);
}

int model_again(struct model *m)
{
    int near;

    model_hang_up(m);
    m->n_log = 0;
    connect_model(m, &near);
    return near;
}

bool model_accept(struct model *m, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return false;
    model_hang_up(m);
    m->fd = fd;
    m->n_log = 0;
    m->silent = false;
    return true;
}

void model_ask(struct model *m, uint32_t request, const void *payload,
               size_t size, int fd)
{
    struct vu_header header = { request, VU_VERSION | VU_NEED_REPLY,
                                (uint32_t)size };
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr align;
    } control = { { 0 } };
    struct iovec iov[2] = { { &header, sizeof header },
                            { (void *)(uintptr_t)payload, size } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

    if (fd >= 0) {
        struct cmsghdr *cmsg;

        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
    }
    cr_assert_geq(m->backend_req, 0, "there is no channel");
    cr_assert_eq(sendmsg(m->backend_req, &msg, MSG_NOSIGNAL),
                 (ssize_t)(sizeof header + size));
}

int model_result(struct model *m)
{
    struct {
        struct vu_header header;
        uint8_t payload[8];
    } answer;
    uint64_t result;

    if (recv(m->backend_req, &answer, sizeof answer, MSG_DONTWAIT) !=
        VU_HEADER_SIZE + 8)
        return -1;
    memcpy(&result, answer.payload, sizeof result);
    return (int)result;
}

/* The descriptor of a message, as one of the model's own. */
static int take_fd(const struct far_message *message)
{
    int fd;

    cr_assert_eq(message->n_fds, 1);
    fd = fcntl(message->fds[0], F_DUPFD_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    return fd;
}

static void set_reply(struct model_reply *reply, const void *payload,
                      size_t size)
{
    memcpy(reply->payload, payload, size);
    reply->size = size;
    reply->never = false;
}

static void answer_probe(struct model *m, struct model_reply *reply)
{
    struct vu_specs specs = { m->id, m->config_size, m->min_vqs, m->max_vqs };

    switch (m->probe) {
    case MODEL_IGNORES:
        break;
    case MODEL_SPECS:
        set_reply(reply, &specs, sizeof specs);
        break;
    case MODEL_MESSAGES:
        set_reply(reply, &m->id, sizeof m->id);
        break;
    case MODEL_BYTES:
        memset(reply->payload, 0xee, sizeof reply->payload);
        memcpy(reply->payload, &specs, sizeof specs);
        reply->size = m->probe_size;
        reply->never = false;
        break;
    case MODEL_HANGS_UP:
        reply->never = false;
        reply->cut = 0;
        break;
    case MODEL_SILENT:
        m->silent = true;
        break;
    }
}

static void answer_config(struct model *m, const struct far_message *message,
                          struct model_reply *reply)
{
    struct vu_config head;

    memcpy(&head, message->payload, sizeof head);
    cr_assert_eq(message->header.size, sizeof head + head.size);
    cr_assert_leq(head.size, VU_MAX_CONFIG);
    cr_assert_leq(head.offset + head.size, sizeof m->config);
    cr_assert_eq(head.flags, 0);
    memcpy(reply->payload, &head, sizeof head);
    memcpy(reply->payload + sizeof head, m->config + head.offset, head.size);
    reply->size = sizeof head + head.size;
    reply->never = false;
}

/* SET_STATUS and the like leave their mark. */
static void obey(struct model *m, const struct far_message *message,
                 struct model_entry *entry)
{
    struct vu_config head;
    int fd;

    switch (message->header.request) {
    case VU_SET_FEATURES:
        m->accepted = entry->value;
        break;
    case VU_SET_PROTOCOL_FEATURES:
        m->protocol_accepted = entry->value;
        break;
    case VU_SET_STATUS:
        m->status = entry->value & ~m->status_refused;
        break;
    case VU_SET_CONFIG:
        memcpy(&head, message->payload, sizeof head);
        cr_assert_leq(head.offset + head.size, sizeof m->config);
        memcpy(m->config + head.offset, message->payload + sizeof head,
               head.size);
        break;
    case VU_SET_VRING_KICK:
        cr_assert_lt(entry->value, 256);
        fd = take_fd(message);
        if (read(fd, &entry->stale, sizeof entry->stale) < 0)
            entry->stale = 0;
        close_once(&m->kick[entry->value]);
        m->kick[entry->value] = fd;
        m->kicks++;
        break;
    case VU_SET_BACKEND_REQ_FD:
        close_once(&m->backend_req);
        m->backend_req = take_fd(message);
        break;
    case VU_SET_VRING_ERR:
        close_once(&m->err);
        m->err = take_fd(message);
        break;
    }
}

static void make_reply(struct model *m, const struct far_message *message,
                       struct model_reply *reply)
{
    struct vu_vring_state state;
    struct vu_inflight area;
    uint64_t ack = message->header.request == m->refuse ? 22 : 0;

    switch (message->header.request) {
    case VU_GET_FEATURES:
        set_reply(reply, &m->features, 8);
        break;
    case VU_GET_PROTOCOL_FEATURES:
        set_reply(reply, &m->protocol, 8);
        break;
    case VU_GET_QUEUE_NUM:
        set_reply(reply, &m->queue_num, 8);
        break;
    case VU_GET_MAX_MEM_SLOTS:
        set_reply(reply, &m->max_slots, 8);
        break;
    case VU_GET_STATUS:
        set_reply(reply, &m->status, 8);
        break;
    case VU_GET_BACKEND_SPECS:
        answer_probe(m, reply);
        break;
    case VU_GET_CONFIG_SIZE:
        set_reply(reply, &m->config_size, 4);
        break;
    case VU_GET_MIN_VQ:
        set_reply(reply, &m->min_vqs, 4);
        break;
    case VU_GET_SHMEM_CONFIG:
        set_reply(reply, &m->shm, sizeof m->shm);
        break;
    case VU_GET_CONFIG:
        answer_config(m, message, reply);
        break;
    case VU_GET_INFLIGHT_FD:
        memcpy(&area, message->payload, sizeof area);
        area.mmap_size = 4096;
        area.mmap_offset = 512;
        set_reply(reply, &area, sizeof area);
        reply->n_fds = 1;
        break;
    case VU_GET_VRING_BASE:
        memcpy(&state, message->payload, sizeof state);
        state.num = 7;
        set_reply(reply, &state, sizeof state);
        break;
    default:
        if (message->header.flags & VU_NEED_REPLY)
            set_reply(reply, &ack, sizeof ack);
        break;
    }
}

static bool any_kicked(const struct model *m)
{
    for (unsigned i = 0; i < 256; i++) {
        struct pollfd polled = { .fd = m->kick[i], .events = POLLIN };

        if (polled.fd >= 0 && poll(&polled, 1, 0) > 0)
            return true;
    }
    return false;
}

static void send_reply(struct model *m, const struct model_reply *reply)
{
    uint8_t bytes[VU_HEADER_SIZE + FAR_PAYLOAD];
    size_t size = sizeof reply->header + reply->size;

    memcpy(bytes, &reply->header, sizeof reply->header);
    memcpy(bytes + sizeof reply->header, reply->payload, reply->size);
    if (reply->cut < size)
        size = reply->cut;
    if (reply->drip) {
        for (size_t i = 0; i < size; i++) {
            usleep(reply->drip);
            far_raw(m->fd, bytes + i, 1, i ? 0 : reply->n_fds);
        }
    } else {
        far_raw(m->fd, bytes, size, reply->n_fds);
    }
    if (reply->cut != SIZE_MAX)
        close_once(&m->fd);
}

static void serve_one(struct model *m, struct far_message *message)
{
    struct model_reply reply = { .header = { message->header.request,
                                             VU_VERSION | VU_REPLY, 0 },
                                 .cut = SIZE_MAX,
                                 .never = true };
    struct model_entry *entry = &m->log[m->n_log];

    cr_assert_lt(m->n_log, MODEL_MAX_LOG);
    m->n_log++;
    *entry = (struct model_entry){ .request = message->header.request,
                                   .flags = message->header.flags,
                                   .size = message->header.size,
                                   .n_fds = message->n_fds };
    memcpy(entry->payload, message->payload, sizeof entry->payload);
    memcpy(&entry->value, message->payload, sizeof entry->value);
    entry->reply_asked = message->header.flags & VU_NEED_REPLY;
    entry->kicked = any_kicked(m);
    obey(m, message, entry);
    make_reply(m, message, &reply);
    reply.header.size = (uint32_t)reply.size;
    if (m->bend && (m->bend_any || m->bend_request == message->header.request))
        m->bend(m, &reply);
    if (!reply.never && !m->silent)
        send_reply(m, &reply);
}

unsigned model_serve(struct model *m)
{
    struct far_message message;
    unsigned n = 0;

    while (m->fd >= 0 && far_take(m->fd, &message)) {
        serve_one(m, &message);
        far_drop(&message);
        n++;
    }
    return n;
}

static void *serve_thread(void *ctx)
{
    struct model *m = ctx;
    struct pollfd polled[2] = { { .fd = m->fd, .events = POLLIN },
                                { .fd = m->stop, .events = POLLIN } };

    while (m->fd >= 0 && poll(polled, 2, -1) > 0) {
        if (!model_serve(m) && polled[0].revents)
            break; /* the front-end hung up */
        if (polled[1].revents)
            break;
    }
    return NULL;
}

void model_start(struct model *m)
{
    m->stop = eventfd(0, EFD_CLOEXEC);
    cr_assert_geq(m->stop, 0);
    cr_assert_eq(pthread_create(&m->thread, NULL, serve_thread, m), 0);
    m->threaded = true;
}

void model_stop(struct model *m)
{
    uint64_t one = 1;

    if (!m->threaded)
        return;
    cr_assert_eq(write(m->stop, &one, sizeof one), (ssize_t)sizeof one);
    pthread_join(m->thread, NULL);
    close(m->stop);
    m->stop = -1;
    m->threaded = false;
}

unsigned model_count(const struct model *m, uint32_t request)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->n_log; i++)
        n += m->log[i].request == request;
    return n;
}

const struct model_entry *model_last(const struct model *m, uint32_t request)
{
    for (unsigned i = m->n_log; i > 0; i--)
        if (m->log[i - 1].request == request)
            return &m->log[i - 1];
    return NULL;
}
