/*
 * See life_host.h. The path is a symbolic link to one of several sockets in a
 * folder of this process's own, which is removed at its end.
 */
#include "tests/fuzz/life_host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define MAX_FDS 253u

static const char *const names[LIFE_PATHS] = { "listens", "absent", "refuses",
                                               "busy" };

static struct {
    bool made;
    pid_t maker;
    char folder[32], path[64];
    enum life_path now;
    int listener;
    int file[LIFE_FILES];
} host;

static void put_address(struct sockaddr_un *address, const char *name)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof address->sun_path, "%s/%s", host.folder,
             name);
}

static void remove_folder(void)
{
    struct sockaddr_un address;

    if (host.maker != getpid())
        return;
    unlink(host.path);
    for (unsigned i = 0; i < LIFE_PATHS; i++) {
        put_address(&address, names[i]);
        unlink(address.sun_path);
    }
    rmdir(host.folder);
}

static int make_socket(enum life_path path)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    put_address(&address, names[path]);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void make_paths(void)
{
    struct sockaddr_un address;
    int fd;

    strcpy(host.folder, "/tmp/husk-life-XXXXXX");
    CHECK(mkdtemp(host.folder) != NULL);
    host.maker = getpid();
    atexit(remove_folder);
    host.listener = make_socket(LIFE_LISTENS);
    CHECK(listen(host.listener, 16) == 0);
    make_socket(LIFE_REFUSES);
    CHECK(listen(make_socket(LIFE_BUSY), 0) == 0);
    put_address(&address, names[LIFE_BUSY]);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    snprintf(host.path, sizeof host.path, "%s/s", host.folder);
    CHECK(symlink(names[LIFE_LISTENS], host.path) == 0);
}

static int make_memory(unsigned flags, unsigned pages)
{
    int fd = memfd_create("life", flags | MFD_CLOEXEC);

    CHECK(fd >= 0 && ftruncate(fd, pages * LIFE_PAGE) == 0);
    return fd;
}

static int make_huge(void)
{
    int fd = memfd_create("life", MFD_CLOEXEC | MFD_HUGETLB);

    if (fd >= 0 && ftruncate(fd, 2 << 20) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return make_memory(0, 4);
}

static void make_files(void)
{
    int *file = host.file, pair[2];
    char path[64];

    file[LIFE_MEMORY] = make_memory(0, 4);
    file[LIFE_SEALED] = make_memory(MFD_ALLOW_SEALING, 2);
    CHECK(fcntl(file[LIFE_SEALED], F_ADD_SEALS,
                F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file[LIFE_MEMORY]);
    file[LIFE_READ_ONLY] = open(path, O_RDONLY | O_CLOEXEC);
    file[LIFE_EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(pipe2(pair, O_CLOEXEC) == 0);
    file[LIFE_PIPE] = pair[0];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    file[LIFE_SOCKET] = pair[0];
    file[LIFE_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
    file[LIFE_PROC] = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    file[LIFE_TERMINAL] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (file[LIFE_TERMINAL] < 0) /* no pseudo-terminals here */
        file[LIFE_TERMINAL] = open("/dev/null", O_RDWR | O_CLOEXEC);
    file[LIFE_FOLDER] = open(host.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file[LIFE_EPOLL] = epoll_create1(EPOLL_CLOEXEC);
    file[LIFE_HUGE] = make_huge();
    for (unsigned i = 0; i < LIFE_FILES; i++)
        CHECK(file[i] >= 0);
}

void life_host_init(void)
{
    if (host.made)
        return;
    host.made = true;
    make_paths();
    make_files();
}

const char *life_path(void)
{
    return host.path;
}

void life_path_set(enum life_path path)
{
    if (path == host.now)
        return;
    host.now = path;
    CHECK(unlink(host.path) == 0);
    CHECK(symlink(names[path], host.path) == 0);
}

int life_accept(void)
{
    return accept4(host.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int life_file(enum life_file file)
{
    return host.file[file];
}

void life_cut(uint64_t size)
{
    CHECK(ftruncate(host.file[LIFE_MEMORY], (off_t)size) == 0);
}

void life_ask(int channel, const struct vu_header *header, const void *payload,
              unsigned bytes, int fd, unsigned n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
        struct cmsghdr align;
    } control;
    uint8_t message[sizeof *header + 256];
    struct iovec iov = { message, sizeof *header + header->size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (iov.iov_len > sizeof message)
        iov.iov_len = sizeof message;
    memset(message, 0, sizeof message);
    memcpy(message, header, sizeof *header);
    if (payload)
        memcpy(message + sizeof *header, payload, iov.iov_len - sizeof *header);
    if (bytes && bytes < iov.iov_len)
        iov.iov_len = bytes;
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
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof fd);
    }
    sendmsg(channel, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void life_drain(int channel)
{
    uint8_t bytes[4096];

    while (recv(channel, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
}
