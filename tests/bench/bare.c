/*
 * The front-end's side of vhost-user as far as one queue needs it, after QEMU's
 * docs/interop/vhost-user.rst. Believes the back-end: it is husk's own.
 */
#include "tests/bench/bare.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/vhost_user.h"
#include "tests/bench/bench.h"

#define BASE       UINT64_C(0x100000)
#define MEM_SIZE   (8u << 20)
#define BUFFERS    (1u << 20) /* in the memory, behind the ring */
#define QUEUE      256u
#define STRIDE     8192u
#define PATIENCE   10000 /* ms */
#define F_PROTOCOL (UINT64_C(1) << 30)
#define F_PACKED   (UINT64_C(1) << 34)
#define DRIVER_OK  0xfu

static int tell(struct bare *bare, uint32_t request, const void *payload,
                uint32_t size, int fd)
{
    struct vu_header header = { request, VU_VERSION, size };
    struct iovec parts[2] = { { &header, sizeof header },
                              { (void *)(uintptr_t)payload, size } };
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof fd)];
    } control;
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        control.head.cmsg_len = CMSG_LEN(sizeof fd);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
    }
    return sendmsg(bare->fd, &message, MSG_NOSIGNAL) ==
                   (ssize_t)(sizeof header + size)
               ? 0
               : -EPIPE;
}

static int tell_number(struct bare *bare, uint32_t request, uint64_t value,
                       int fd)
{
    return tell(bare, request, &value, sizeof value, fd);
}

static int tell_ring(struct bare *bare, uint32_t request, uint32_t value)
{
    struct vu_vring_state state = { 0, value };

    return tell(bare, request, &state, sizeof state, -1);
}

static int ask(struct bare *bare, uint32_t request, uint64_t *value)
{
    struct vu_header header;
    int rc = tell(bare, request, NULL, 0, -1);

    if (rc < 0)
        return rc;
    if (recv(bare->fd, &header, sizeof header, MSG_WAITALL) != sizeof header ||
        header.request != request || header.size != sizeof *value ||
        recv(bare->fd, value, sizeof *value, MSG_WAITALL) != sizeof *value)
        return -EPROTO;
    return 0;
}

static int connect_to(struct bare *bare, const char *socket_path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    strncpy(address.sun_path, socket_path, sizeof address.sun_path - 1);
    bare->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bare->fd < 0 ||
        connect(bare->fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    return 0;
}

static int share_memory(struct bare *bare)
{
    struct vu_mem_table table = { .n_regions = 1 };
    const size_t used =
        offsetof(struct vu_mem_table, region) + sizeof table.region[0];

    bare->memfd = memfd_create("bare", MFD_CLOEXEC);
    if (bare->memfd < 0 || ftruncate(bare->memfd, MEM_SIZE) < 0)
        return -errno;
    bare->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                     bare->memfd, 0);
    if (bare->mem == MAP_FAILED) {
        bare->mem = NULL;
        return -errno;
    }
    table.region[0] = (struct vu_mem_region){
        .guest_addr = BASE,
        .size = MEM_SIZE,
        .user_addr = (uintptr_t)bare->mem,
    };
    return tell(bare, VU_SET_MEM_TABLE, &table, (uint32_t)used, bare->memfd);
}

static int start_ring(struct bare *bare, uint64_t features)
{
    struct driver *d = &bare->driver;
    struct vu_vring_addr addr = { .index = 0 };
    uintptr_t offset = (uintptr_t)bare->mem - BASE;
    int rc;

    driver_init(d, bare->mem, BASE, BASE, QUEUE, features);
    addr.desc = d->desc + offset;
    addr.avail = d->avail + offset;
    addr.used = d->used + offset;
    bare->kick = eventfd(0, EFD_CLOEXEC);
    bare->call = eventfd(0, EFD_CLOEXEC);
    if (bare->kick < 0 || bare->call < 0)
        return -errno;
    if ((rc = tell_ring(bare, VU_SET_VRING_NUM, QUEUE)) < 0 ||
        (rc = tell(bare, VU_SET_VRING_ADDR, &addr, sizeof addr, -1)) < 0 ||
        (rc = tell_ring(bare, VU_SET_VRING_BASE,
                        features & F_PACKED ? 0x80008000 : 0)) < 0 ||
        (rc = tell_number(bare, VU_SET_VRING_CALL, 0, bare->call)) < 0 ||
        (rc = tell_number(bare, VU_SET_VRING_KICK, 0, bare->kick)) < 0)
        return rc;
    return tell_ring(bare, VU_SET_VRING_ENABLE, 1);
}

int bare_open(struct bare *bare, const char *socket, uint64_t features)
{
    const uint64_t wanted = VU_PF_STATUS | VU_PF_CONFIG;
    uint64_t offered, protocol;
    int rc;

    *bare = (struct bare){ .fd = -1, .memfd = -1, .kick = -1, .call = -1 };
    if ((rc = connect_to(bare, socket)) < 0 ||
        (rc = ask(bare, VU_GET_FEATURES, &offered)) < 0 ||
        (rc = ask(bare, VU_GET_PROTOCOL_FEATURES, &protocol)) < 0)
        return rc;
    if ((features & ~offered) || !(protocol & VU_PF_STATUS))
        return -ENOTSUP;
    if ((rc = tell_number(bare, VU_SET_PROTOCOL_FEATURES, protocol & wanted,
                          -1)) < 0 ||
        (rc = tell(bare, VU_SET_OWNER, NULL, 0, -1)) < 0 ||
        (rc = tell_number(bare, VU_SET_FEATURES, features | F_PROTOCOL, -1)) <
            0 ||
        (rc = share_memory(bare)) < 0 || (rc = start_ring(bare, features)) < 0)
        return rc;
    return tell_number(bare, VU_SET_STATUS, DRIVER_OK, -1);
}

void bare_close(struct bare *bare)
{
    const int fds[] = { bare->fd, bare->memfd, bare->kick, bare->call };

    for (unsigned i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (bare->mem)
        munmap(bare->mem, MEM_SIZE);
}

struct flow {
    struct bare *bare;
    const void *head;
    uint32_t size, in;
    unsigned buffer_of[QUEUE]; /* by the driver's id */
};

static bool add(struct flow *flow, unsigned buffer)
{
    uint64_t at = BASE + BUFFERS + (uint64_t)buffer * STRIDE;
    const struct buffer parts[] = { { at, flow->size, false },
                                    { at + flow->size, flow->in, true } };
    uint8_t *bytes = driver_at(&flow->bare->driver, at);
    int id;

    memcpy(bytes, flow->head, flow->size);
    bytes[flow->size + flow->in - 1] = 0xff;
    id = driver_add(&flow->bare->driver, parts, 2);
    if (id >= 0)
        flow->buffer_of[id] = buffer;
    return id >= 0;
}

static bool wait_call(struct bare *bare)
{
    struct pollfd polled = { .fd = bare->call, .events = POLLIN };
    uint64_t count;

    return poll(&polled, 1, PATIENCE) == 1 &&
           read(bare->call, &count, sizeof count) == sizeof count;
}

static bool kick(struct bare *bare)
{
    const uint64_t one = 1;

    return !driver_must_kick(&bare->driver) ||
           write(bare->kick, &one, sizeof one) == sizeof one;
}

/* Whatever has come; a request for each, while there are any to do. */
static bool take(struct flow *flow, unsigned *sent, unsigned *got,
                 unsigned count)
{
    uint32_t len;
    int id;

    while ((id = driver_get(&flow->bare->driver, &len)) >= 0) {
        unsigned buffer = flow->buffer_of[id];
        const uint8_t *bytes = driver_at(
            &flow->bare->driver, BASE + BUFFERS + (uint64_t)buffer * STRIDE);

        if (bytes[flow->size + flow->in - 1] != 0)
            return false;
        ++*got;
        if (*sent < count && !add(flow, buffer))
            return false;
        *sent += *sent < count;
    }
    return true;
}

double bare_flow(struct bare *bare, unsigned count, unsigned depth,
                 const void *head, uint32_t size, uint32_t in)
{
    struct flow flow = { .bare = bare, .head = head, .size = size, .in = in };
    unsigned sent = 0, got = 0;
    double began = seconds();

    driver_listen(&bare->driver, 1);
    while (sent < depth && sent < count && add(&flow, sent))
        sent++;
    if (!kick(bare))
        return -1;
    while (got < count) {
        if (!driver_listen(&bare->driver, 1) && !wait_call(bare))
            return -1;
        if (!take(&flow, &sent, &got, count) || !kick(bare))
            return -1;
    }
    return seconds() - began;
}
