/*
 * Mappings of shared memory: asked for once the device runs, of files with the
 * pattern, taken back, cut short, and asked for again after a reset.
 */
#include "front.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define PATTERN UINT64_C(0x6879646500000000)

static void live(struct front *f, const char *args)
{
    int pair[2];

    front_begin(f, args);
    front_hello(f);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    front_send_fd(f, WIRE_SET_BACKEND_REQ_FD, WIRE_VERSION, NULL, 0, pair[1]);
    close(pair[1]);
    f->channel = pair[0];
    front_features_ok(f);
    front_memory(f);
    front_ring(f, 0);
    front_driver_ok(f);
}

/* The next request of that number; the descriptor that came with it, or -1. */
static int take(struct front *f, uint32_t request, struct wire_map *map)
{
    struct pollfd ready = { .fd = f->channel, .events = POLLIN };
    struct wire_header h;
    struct iovec iov[2] = { { &h, sizeof h }, { map, sizeof *map } };
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = { .msg_iov = iov,
                          .msg_iovlen = 2,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof control.bytes };
    int fd = -1;

    cr_assert_eq(poll(&ready, 1, 100000), 1, "no request %u", request);
    cr_assert_eq(recvmsg(f->channel, &msg, MSG_CMSG_CLOEXEC),
                 (ssize_t)(sizeof h + sizeof *map));
    cr_expect_eq(h.request, request);
    cr_expect_eq(h.flags, (uint32_t)(WIRE_VERSION | WIRE_NEED_REPLY));
    cr_expect_eq(h.size, 40);
    if (CMSG_FIRSTHDR(&msg))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return fd;
}

static void answer(struct front *f, uint32_t request, uint64_t value)
{
    struct wire_header h = { request, WIRE_VERSION | WIRE_REPLY, 8 };
    uint8_t out[20];

    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, &value, sizeof value);
    cr_assert_eq(write(f->channel, out, sizeof out), (ssize_t)sizeof out);
}

#define ARGS "--protocol=41a229 --shmem=0,65536 "

Test(shm, files_are_mapped_and_unmapped, .timeout = 20)
{
    struct front f;
    struct wire_map map;
    uint64_t word;
    int fd;

    live(&f, ARGS "--shm-map=1:4096:8192:rw --shm-map=1:0x8000:4096 "
                  "--shm-unmap=1");
    fd = take(&f, WIRE_BACKEND_SHMEM_MAP, &map);
    cr_assert_geq(fd, 0);
    cr_expect_eq(map.shmid, 1);
    cr_expect_eq(map.fd_offset, 0);
    cr_expect_eq(map.shm_offset, 4096);
    cr_expect_eq(map.size, 8192);
    cr_expect_eq(map.flags, 1);
    cr_assert_eq(pread(fd, &word, sizeof word, 8184), 8);
    cr_expect_eq(word, PATTERN ^ (4096 + 8184));
    close(fd);
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 0);
    close(take(&f, WIRE_BACKEND_SHMEM_MAP, &map));
    cr_expect_eq(map.shm_offset, 0x8000);
    cr_expect_eq(map.flags, 0);
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 0);
    cr_expect_eq(take(&f, WIRE_BACKEND_SHMEM_UNMAP, &map), -1);
    cr_expect_eq(map.shm_offset, 4096);
    answer(&f, WIRE_BACKEND_SHMEM_UNMAP, 0);
    cr_expect_eq(take(&f, WIRE_BACKEND_SHMEM_UNMAP, &map), -1);
    cr_expect_eq(map.shm_offset, 0x8000);
    answer(&f, WIRE_BACKEND_SHMEM_UNMAP, 0);
    front_finish(&f, 0, NULL);
}

Test(shm, a_file_is_cut_short, .timeout = 20)
{
    struct front f;
    struct wire_map map;
    struct stat st;
    int fd;

    live(&f, ARGS "--shm-map=1:0:4096 --shm-truncate=1");
    fd = take(&f, WIRE_BACKEND_SHMEM_MAP, &map);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_expect_eq(st.st_size, 4096);
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 0);
    for (unsigned i = 0; i < 200 && st.st_size; i++) {
        usleep(10000);
        fstat(fd, &st);
    }
    cr_expect_eq(st.st_size, 0);
    close(fd);
    front_finish(&f, 0, NULL);
}

Test(shm, answers_are_judged, .timeout = 20)
{
    struct front f;
    struct wire_map map;

    live(&f, ARGS "--shm-map=1:0:4096");
    close(take(&f, WIRE_BACKEND_SHMEM_MAP, &map));
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 1);
    front_finish(&f, 3, "back-end request 9 was answered with 1");
    live(&f, ARGS "--shm-map=1:0:4096:refused");
    close(take(&f, WIRE_BACKEND_SHMEM_MAP, &map));
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 0);
    front_finish(&f, 3, "which has to be refused, was answered with 0");
    live(&f, ARGS "--shm-map=1:0:4096:refused");
    close(take(&f, WIRE_BACKEND_SHMEM_MAP, &map));
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 1);
    front_finish(&f, 0, NULL);
}

Test(shm, a_new_life_maps_anew, .timeout = 20)
{
    struct front f;
    struct wire_map map;
    uint64_t value;

    live(&f, ARGS "--shm-map=1:0:4096");
    close(take(&f, WIRE_BACKEND_SHMEM_MAP, &map));
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 0);
    front_stop(&f, 0);
    front_u64(&f, WIRE_SET_STATUS, 0);
    front_send(&f, WIRE_RESET_DEVICE, WIRE_VERSION | WIRE_NEED_REPLY, NULL, 0);
    front_receive(&f, WIRE_RESET_DEVICE, &value, sizeof value);
    cr_assert_eq(read(f.kick[0], &value, sizeof value), 8);
    front_features_ok(&f);
    front_ring(&f, 0);
    front_driver_ok(&f);
    close(take(&f, WIRE_BACKEND_SHMEM_MAP, &map));
    answer(&f, WIRE_BACKEND_SHMEM_MAP, 0);
    front_finish(&f, 0, NULL);
}

Test(shm, options_that_make_no_sense, .timeout = 20)
{
    static const char *const wrong[] = { "1",       "1:2",     "1:2:",
                                         "256:0:1", "1:2:3:x", "1:2:3:" };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char args[64];
        struct front f;

        snprintf(args, sizeof args, "--shm-map=%s", wrong[i]);
        front_begin(&f, args);
        front_finish(&f, 2, "husk-peer: not ");
    }
}
