/*
 * The channel on which a back-end asks, with shared memory behind it: requests
 * in any order, shape and number of pieces, with descriptors of files that are
 * too short, shrink, or are none. What is mapped where is compared with a list
 * of its own, every answer with what that list says, and mapped bytes with the
 * file's.
 *
 * Input: what was negotiated, then steps.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/channel.h"
#include "devices/shm.h"
#include "tests/fuzz/fuzz.h"

#define PAGE      4096u
#define MAX_STEPS 120u
#define MAX_MAPS  64u
#define MAX_DUE   64u
#define MAX_FDS   253u

enum { FILE_LONG, FILE_SHORT, FILE_READ_ONLY, FILE_EVENT, FILE_PIPE, FILES };

#define LONG  (16 * PAGE)
#define SHORT (2 * PAGE + 100)

static const uint64_t sizes[3] = { 8 * PAGE, 1 * PAGE, 3 * PAGE };
static const uint8_t ids[3] = { 0, 7, 255 };

static struct {
    bool made;
    int file[FILES];
} host;

struct mapped {
    bool used;
    unsigned region, file;
    uint64_t offset, size, file_offset;
    bool writable;
};

static struct run {
    struct channel channel;
    struct shm shm;
    int fd; /* the back-end's end */
    uint64_t acked;
    struct mapped mapped[MAX_MAPS];
    unsigned config_changes, calls, ring_errors;
    unsigned want_changes, want_calls, want_errors;
    int refuse;            /* what call() returns */
    bool over;             /* the channel is to end, or has */
    bool small;            /* few answers fit the socket */
    bool choked;           /* more were due than fit: the channel has ended */
    uint64_t due[MAX_DUE]; /* answers, and to what */
    uint32_t due_to[MAX_DUE];
    unsigned n_due, n_got;
    uint64_t long_size; /* of the file that shrinks */
    unsigned opened;    /* descriptors, before */
} run;

static void make_host(void)
{
    char path[64];
    int pair[2];

    if (host.made)
        return;
    host.made = true;
    for (unsigned i = FILE_LONG; i <= FILE_SHORT; i++) {
        uint8_t bytes[LONG];

        host.file[i] = memfd_create("fuzz", MFD_CLOEXEC);
        for (unsigned k = 0; k < LONG; k++)
            bytes[k] = (uint8_t)(k / PAGE * 16 + i + 1);
        CHECK(write(host.file[i], bytes, i == FILE_LONG ? LONG : SHORT) > 0);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", host.file[FILE_LONG]);
    host.file[FILE_READ_ONLY] = open(path, O_RDONLY | O_CLOEXEC);
    host.file[FILE_EVENT] = eventfd(0, EFD_CLOEXEC);
    CHECK(pipe2(pair, O_CLOEXEC) == 0);
    host.file[FILE_PIPE] = pair[0];
    for (unsigned i = 0; i < FILES; i++)
        CHECK(host.file[i] >= 0);
}

static int config_changed(void *ctx)
{
    CHECK(ctx == &run);
    run.config_changes++;
    return 0;
}

static int call(void *ctx)
{
    CHECK(ctx == &run);
    run.calls++;
    return run.refuse;
}

static int ring_error(void *ctx)
{
    CHECK(ctx == &run);
    run.ring_errors++;
    return 0;
}

static int map(void *ctx, const struct vu_map *map, int fd)
{
    CHECK(ctx == &run && fd >= 0);
    return shm_map(&run.shm, map, fd);
}

static int unmap(void *ctx, const struct vu_map *map)
{
    CHECK(ctx == &run);
    return shm_unmap(&run.shm, map);
}

static const struct channel_ops ops = {
    .config_changed = config_changed,
    .call = call,
    .ring_error = ring_error,
    .map = map,
    .unmap = unmap,
};

static uint64_t file_size(unsigned file)
{
    return file == FILE_SHORT ? SHORT : run.long_size;
}

static int region_of(const struct vu_map *map)
{
    for (int i = 0; i < 3; i++)
        if (ids[i] == map->shmid && map->size && map->size % PAGE == 0 &&
            map->shm_offset % PAGE == 0 && map->shm_offset < sizes[i] &&
            map->size <= sizes[i] - map->shm_offset)
            return i;
    return -1;
}

/* Whether such a mapping must be granted; if so it is written down. */
static bool may_map(const struct vu_map *map, unsigned file)
{
    int region = region_of(map);
    struct mapped *slot = NULL;

    if (region < 0 || map->flags > 1 || map->fd_offset % PAGE ||
        map->fd_offset > INT64_MAX - map->size || file >= FILE_EVENT ||
        map->fd_offset + map->size > file_size(file) ||
        (file == FILE_READ_ONLY && map->flags))
        return false;
    for (unsigned i = 0; i < MAX_MAPS; i++) {
        struct mapped *m = &run.mapped[i];

        if (!m->used)
            slot = m;
        else if (m->region == (unsigned)region &&
                 map->shm_offset < m->offset + m->size &&
                 m->offset < map->shm_offset + map->size)
            return false;
    }
    CHECK(slot != NULL); /* there are not so many pages */
    *slot = (struct mapped){ .used = true,
                             .region = (unsigned)region,
                             .file = file,
                             .offset = map->shm_offset,
                             .size = map->size,
                             .file_offset = map->fd_offset,
                             .writable = map->flags };
    return true;
}

static bool may_unmap(const struct vu_map *map)
{
    int region = region_of(map);

    for (unsigned i = 0; i < MAX_MAPS && region >= 0; i++) {
        struct mapped *m = &run.mapped[i];

        if (m->used && m->region == (unsigned)region &&
            m->offset == map->shm_offset && m->size == map->size) {
            m->used = false;
            return true;
        }
    }
    return false;
}

/* The answer that a whole request must get. file: what one descriptor is. */
static bool is_granted(const struct vu_header *header, const uint8_t *payload,
                       unsigned n_fds, unsigned file)
{
    bool inband = run.acked & VU_PF_INBAND_NOTIFICATIONS;
    bool shm = run.acked & VU_PF_SHMEM;
    struct vu_map wanted;

    switch (header->request) {
    case VU_BACKEND_CONFIG_CHANGE_MSG:
        if (header->size || n_fds)
            return false;
        run.want_changes++;
        return true;
    case VU_BACKEND_VRING_CALL:
    case VU_BACKEND_VRING_ERR:
        if (!inband || header->size != 8 || n_fds)
            return false;
        if (header->request == VU_BACKEND_VRING_ERR) {
            run.want_errors++;
            return true;
        }
        run.want_calls++;
        return run.refuse == 0;
    case VU_BACKEND_SHMEM_MAP:
        if (!shm || header->size != sizeof wanted || n_fds != 1)
            return false;
        memcpy(&wanted, payload, sizeof wanted);
        return may_map(&wanted, file);
    case VU_BACKEND_SHMEM_UNMAP:
        if (!shm || header->size != sizeof wanted || n_fds)
            return false;
        memcpy(&wanted, payload, sizeof wanted);
        return may_unmap(&wanted);
    }
    return false;
}

/* What the front-end must make of a message that has gone out whole. */
static void expect(const struct vu_header *header, const uint8_t *payload,
                   unsigned n_fds, unsigned file)
{
    bool granted;

    if (run.over)
        return;
    if (header->size > VU_MAX_PAYLOAD || (header->flags & 3) != 1 ||
        header->flags & VU_REPLY) {
        run.over = true;
        return;
    }
    granted = is_granted(header, payload, n_fds, file);
    if (!(header->flags & VU_NEED_REPLY))
        return;
    CHECK(run.n_due < MAX_DUE);
    run.due_to[run.n_due] = header->request;
    run.due[run.n_due++] = granted ? 0 : 1;
}

/* The answers so far are those that are due, in order. */
static void take_answers(bool all)
{
    struct {
        struct vu_header header;
        uint64_t value;
    } __attribute__((packed)) answer;

    while (run.n_got < run.n_due && recv(run.fd, &answer, sizeof answer,
                                         MSG_DONTWAIT) == sizeof answer) {
        CHECK_EQ(answer.header.request, run.due_to[run.n_got]);
        CHECK_EQ(answer.header.flags, VU_VERSION | VU_REPLY);
        CHECK_EQ(answer.header.size, sizeof answer.value);
        CHECK_EQ(answer.value, run.due[run.n_got]);
        run.n_got++;
    }
    if (all) {
        CHECK_EQ(run.n_got, run.n_due);
        CHECK(recv(run.fd, &answer, 1, MSG_DONTWAIT | MSG_PEEK) <= 0);
        run.n_got = run.n_due = 0;
    }
}

static bool is_readable(int fd)
{
    char byte;

    return fd >= 0 && recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
}

/* The loop's turns, until nothing is left to be read. */
static void serve(void)
{
    struct husk_err err = { 0 };

    while (is_readable(run.channel.wire.fd)) {
        int rc = channel_step(&run.channel, &err);

        if (rc == 0)
            continue;
        /* as the device does: nobody listens any more */
        CHECK(rc == -EPIPE || (err.code < 0 && err.text[0]));
        if (run.small && rc == -EPROTO && !run.over)
            run.over = run.choked = true;
        CHECK(run.over);
        if (!run.choked)
            take_answers(true);
        channel_fini(&run.channel);
    }
}

static void check_mapped(void)
{
    unsigned count[3] = { 0 };
    bool broken = false;

    for (unsigned i = 0; i < MAX_MAPS; i++) {
        const struct mapped *m = &run.mapped[i];
        const struct shm_region *region;
        const uint8_t *bytes;

        if (!m->used)
            continue;
        count[m->region]++;
        region = shm_find(&run.shm, ids[m->region]);
        bytes = region->map + m->offset;
        if (m->file_offset + m->size > file_size(m->file)) {
            broken = true; /* its pages would fault */
            continue;
        }
        for (uint64_t at = 0; at < m->size; at += PAGE) {
            uint64_t page = (m->file_offset + at) / PAGE;
            uint8_t first = m->file == FILE_SHORT ? 2 : 1;

            /* zeros where the file shrank and grew */
            if (bytes[at])
                CHECK_EQ(bytes[at], (uint8_t)(page * 16 + first));
        }
    }
    CHECK_EQ(shm_is_broken(&run.shm), broken);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(shm_find(&run.shm, ids[i])->n_mappings, count[i]);
    CHECK_EQ(run.config_changes, run.want_changes);
    CHECK_EQ(run.calls, run.want_calls);
    CHECK_EQ(run.ring_errors, run.want_errors);
}

static bool send_bytes(const uint8_t *bytes, size_t size, unsigned n_fds,
                       unsigned file)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
        struct cmsghdr align;
    } control;
    union {
        const uint8_t *in;
        void *out;
    } at = { .in = bytes };
    struct iovec iov = { at.out, size };
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
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &host.file[file],
                   sizeof(int));
    }
    return sendmsg(run.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

/* In one piece, or cut at a byte with the front-end's turn between. */
static void send_message(struct input *in, const struct vu_header *header,
                         const uint8_t *payload, unsigned n_fds, unsigned file)
{
    uint8_t bytes[sizeof *header + VU_MAX_PAYLOAD];
    size_t size = header->size > VU_MAX_PAYLOAD ? 0 : header->size, cut;

    memcpy(bytes, header, sizeof *header);
    memcpy(bytes + sizeof *header, payload, size);
    size += sizeof *header;
    cut = input_u8(in);
    if (run.over)
        return;
    if (cut == 0 || cut >= size)
        cut = size;
    if (!send_bytes(bytes, cut, n_fds, file))
        return;
    if (cut < size) {
        serve();
        if (!send_bytes(bytes + cut, size - cut, 0, 0))
            return;
    }
    expect(header, payload, n_fds, file);
}

static uint64_t pick_pages(struct input *in)
{
    uint8_t pick = input_u8(in);

    if (pick < 32)
        return (uint64_t)pick * PAGE;
    return pick < 64    ? pick
           : pick < 96  ? UINT64_MAX - PAGE + 1
           : pick < 128 ? INT64_MAX - PAGE + 1
                        : input_u64(in);
}

static void send_map(struct input *in, uint32_t request)
{
    static const uint8_t counts[] = { 1, 0, 2, 8, 9, 253 };
    uint8_t bend = input_u8(in), file = input_u8(in);
    struct vu_map wanted = { .shmid = ids[bend % 3] };
    struct vu_header header = { request, VU_VERSION | VU_NEED_REPLY,
                                sizeof wanted };
    unsigned n_fds = request == VU_BACKEND_SHMEM_MAP;

    if (bend & 0x80)
        header.flags &= ~VU_NEED_REPLY;
    if (bend & 0x40)
        n_fds = counts[input_u8(in) % sizeof counts];
    if (bend & 0x20)
        wanted.shmid = input_u8(in);
    if (bend & 0x10)
        wanted.flags = input_u64(in);
    else
        wanted.flags = bend >> 3 & 1;
    wanted.shm_offset = pick_pages(in);
    wanted.size = pick_pages(in);
    wanted.fd_offset = pick_pages(in);
    send_message(in, &header, (const uint8_t *)&wanted, n_fds, file % FILES);
}

static void send_small(struct input *in)
{
    static const uint8_t requests[] = { 2, 4, 5, 0, 1, 3, 9, 10, 6 };
    uint8_t pick = input_u8(in), payload[256];
    struct vu_header header = { requests[pick % sizeof requests],
                                VU_VERSION | VU_NEED_REPLY, 0 };
    uint8_t bend = input_u8(in);

    header.size = header.request == 4 || header.request == 5 ? 8 : 0;
    if (bend & 1)
        header.flags = input_u32(in);
    if (bend & 2)
        header.size = input_u8(in);
    if (bend & 4)
        header.flags &= ~VU_NEED_REPLY;
    run.refuse = bend & 8 ? -EIO : 0;
    memset(payload, pick, sizeof payload);
    send_message(in, &header, payload, bend & 16 ? input_u8(in) % 12 : 0,
                 FILE_LONG);
    serve(); /* the answer is as call() was told when it came */
}

static void send_large(struct input *in)
{
    static const uint8_t payload[VU_MAX_PAYLOAD];
    struct vu_header header = { input_u8(in), VU_VERSION | VU_NEED_REPLY,
                                input_u32(in) };

    if (header.size > VU_MAX_PAYLOAD + 16)
        header.size |= 0x10000;
    send_message(in, &header, payload, 0, 0);
}

/* More than a turn takes, in one go. */
static void send_flood(struct input *in)
{
    struct vu_header header = { VU_BACKEND_CONFIG_CHANGE_MSG,
                                VU_VERSION | VU_NEED_REPLY, 0 };
    unsigned n = input_u8(in) % 40;

    for (unsigned i = 0; i < n && !run.over; i++)
        if (send_bytes((const uint8_t *)&header, sizeof header, 0, 0))
            expect(&header, NULL, 0, 0);
    serve();
    if (!run.choked)
        take_answers(true);
}

/* Both names of the long file see it; the pages that it loses are zeros. */
static void resize_file(struct input *in)
{
    serve(); /* requests that are under way meet the size that they expect */
    run.long_size = input_u8(in) % 17 * PAGE;
    CHECK(ftruncate(host.file[FILE_LONG], (off_t)run.long_size) == 0);
}

static void clear(void)
{
    serve();
    shm_clear(&run.shm);
    for (unsigned i = 0; i < MAX_MAPS; i++)
        run.mapped[i].used = false;
}

/* The guest's own look at what is mapped, where it may write. */
static void write_through(void)
{
    for (unsigned i = 0; i < MAX_MAPS; i++) {
        const struct mapped *m = &run.mapped[i];
        uint8_t *bytes;

        if (!m->used || !m->writable ||
            m->file_offset + m->size > file_size(m->file))
            continue;
        bytes = shm_find(&run.shm, ids[m->region])->map + m->offset;
        bytes[0] = bytes[0];
        bytes[m->size - 1] = 0;
    }
}

static void step(struct input *in)
{
    switch (input_u8(in) % 8) {
    case 0:
    case 1:
        send_map(in, VU_BACKEND_SHMEM_MAP);
        break;
    case 2:
        send_map(in, VU_BACKEND_SHMEM_UNMAP);
        break;
    case 3:
        send_small(in);
        break;
    case 4:
        send_large(in);
        break;
    case 5:
        resize_file(in);
        break;
    case 6:
        send_flood(in);
        break;
    case 7:
        if (input_u8(in) & 1)
            clear();
        else
            write_through();
        break;
    }
}

static void set_up(struct input *in)
{
    struct vu_shm_config config = { .n_regions = 3 };
    uint8_t flags = input_u8(in);
    struct husk_err err;
    int size = 1;

    for (int i = 0; i < 3; i++)
        config.size[ids[i]] = sizes[i];
    CHECK(shm_init(&run.shm, &config, &err) == 0);
    CHECK_EQ(channel_init(&run.channel, &ops, &run), 0);
    run.acked = VU_PF_BACKEND_REQ | VU_PF_REPLY_ACK | VU_PF_SHMEM |
                VU_PF_INBAND_NOTIFICATIONS;
    if (flags & 1)
        run.acked &= ~VU_PF_SHMEM;
    if (flags & 2)
        run.acked &= ~VU_PF_INBAND_NOTIFICATIONS;
    run.channel.acked = run.acked;
    run.fd = dup(run.channel.far);
    close(run.channel.far);
    run.channel.far = -1;
    run.small = flags & 4;
    if (run.small)
        CHECK(setsockopt(run.channel.wire.fd, SOL_SOCKET, SO_SNDBUF, &size,
                         sizeof size) == 0);
    run.long_size = LONG;
    CHECK(ftruncate(host.file[FILE_LONG], LONG) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size };

    make_host();
    memset(&run, 0, sizeof run);
    run.opened = fuzz_open_fds();
    set_up(&in);
    for (unsigned i = 0; i < MAX_STEPS && input_left(&in); i++) {
        step(&in);
        serve();
        if (run.choked)
            break;
        take_answers(true);
        check_mapped();
    }
    close(run.fd); /* it hangs up */
    run.over = true;
    run.fd = -1;
    serve();
    channel_fini(&run.channel);
    shm_fini(&run.shm);
    CHECK_EQ(fuzz_open_fds(), run.opened);
    return 0;
}
