/*
 * Whose a socket is. Each listener is a process of its own that takes another
 * user's identity before it calls listen(), which only root can do.
 */
#include "vmm/link/peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"
#include "tests/unit/folder.h"
#include "vmm/link/link.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OTHER    65534
#define THIRD    1234

static struct husk_err err;

Test(peer, rule, .timeout = 10)
{
    static const struct {
        struct peer_rule rule;
        uid_t peer, own;
        bool allowed;
    } rows[] = {
        { { .any = false }, 0, 0, true },
        { { .any = false }, 1000, 1000, true },
        { { .any = false }, 0, 1000, true },
        { { .any = false }, 1000, 0, false },
        { { .any = false }, 1001, 1000, false },
        { { .any = false }, UINT32_MAX, 1000, false },
        { { .has_uid = true, .uid = 1001 }, 1001, 1000, true },
        { { .has_uid = true, .uid = 1001 }, 1002, 1000, false },
        { { .has_uid = true, .uid = 1001 }, 1000, 1000, true },
        { { .has_uid = true, .uid = 1001 }, 0, 1000, true },
        { { .has_uid = true, .uid = 0 }, 1000, 0, false },
        { { .any = true }, 1001, 1000, true },
        { { .any = true }, 1001, 0, true },
    };

    for (unsigned i = 0; i < COUNT(rows); i++)
        cr_assert_eq(peer_is_allowed(&rows[i].rule, rows[i].peer, rows[i].own),
                     rows[i].allowed, "row %u", i);
}

/* A process of user uid that listens on path, until it is killed. */
static pid_t start_listener(const char *path, uid_t uid)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ready[2];
    char byte;
    pid_t pid;

    strcpy(address.sun_path, path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(pipe(ready), 0);
    pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        if (setresuid(uid, uid, uid) < 0 || listen(fd, 8) < 0 ||
            write(ready[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(fd);
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1, "no listener of user %u", uid);
    close(ready[0]);
    return pid;
}

static void stop_listener(pid_t pid, const char *path)
{
    kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
    unlink(path);
}

/* One connection, as a device makes it. */
static int try(struct link *link)
{
    unsigned opened = far_open_fds();
    int fd = -1, rc;

    err.text[0] = 0;
    link_begin(link, 0);
    rc = link_try(link, &fd, &err);
    if (rc == 0) {
        cr_assert_geq(fd, 0);
        close(fd);
    }
    cr_assert_eq(far_open_fds(), opened, "a descriptor is left");
    return rc;
}

static void check_refusal(const char *path, uid_t peer)
{
    char text[256];

    snprintf(text, sizeof text,
             "virtio0: user %u listens on %s, neither this user (%u) nor root: "
             "peer-uid=%u allows it",
             peer, path, geteuid(), peer);
    cr_assert_str_eq(err.text, text);
}

/* A link looks at each connection: who listens may change in between. */
Test(peer, link, .timeout = 20)
{
    static const struct link_ops ops = { 0 };
    struct ev_loop *loop = ev_loop_new(0);
    struct link link;
    struct lines lines = { .name = "virtio0" };
    struct folder folder;
    struct spec spec;
    char text[100];
    pid_t pid;

    folder_init(&folder);
    snprintf(text, sizeof text, "socket=%s", folder.file[0]);
    cr_assert_eq(spec_parse(&spec, text, 0, &err), 0, "%s", err.text);
    link_init(&link, loop, &spec, &lines, &ops, NULL);
    pid = start_listener(spec.socket, geteuid());
    cr_assert_eq(try(&link), 0, "%s", err.text);
    stop_listener(pid, spec.socket);
    if (geteuid() != 0)
        cr_skip("only root can listen as somebody else");
    pid = start_listener(spec.socket, OTHER);
    cr_assert_eq(try(&link), -EPERM, "%s", err.text);
    check_refusal(spec.socket, OTHER);
    spec.peer = (struct peer_rule){ .has_uid = true, .uid = THIRD };
    cr_assert_eq(try(&link), -EPERM);
    spec.peer.uid = OTHER;
    cr_assert_eq(try(&link), 0, "%s", err.text);
    spec.peer = (struct peer_rule){ .any = true };
    cr_assert_eq(try(&link), 0, "%s", err.text);
    spec.peer = (struct peer_rule){ .any = false };
    stop_listener(pid, spec.socket);
    pid = start_listener(spec.socket, 0);
    cr_assert_eq(try(&link), 0, "%s", err.text);
    stop_listener(pid, spec.socket);
    link_fini(&link, 0);
    spec_fini(&spec);
    folder_fini(&folder);
    ev_loop_destroy(loop);
}

/* The user of husk is not root: root's sockets are taken, others' are not. */
Test(peer, as_another_user, .timeout = 20)
{
    static const uid_t users[] = { OTHER, 0, THIRD };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct folder folder;

    if (geteuid() != 0)
        cr_skip("only root can listen as somebody else");
    folder_init(&folder);
    strcpy(address.sun_path, folder.file[0]);
    for (unsigned i = 0; i < COUNT(users); i++) {
        static const struct peer_rule rule = { .any = false };
        pid_t pid = start_listener(folder.file[0], users[i]);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address),
                     0);
        cr_assert_eq(seteuid(OTHER), 0);
        cr_assert_eq(peer_check(fd, &rule, "virtio0", folder.file[0], &err),
                     users[i] == THIRD ? -EPERM : 0, "user %u", users[i]);
        if (users[i] == THIRD)
            check_refusal(folder.file[0], THIRD);
        cr_assert_eq(seteuid(0), 0);
        close(fd);
        stop_listener(pid, folder.file[0]);
    }
    folder_fini(&folder);
}
