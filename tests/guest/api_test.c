/*
 * Each call of libhusk: its errors and their words, and its manners towards
 * the program that embeds it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/guest/embed.h"

TestSuite(api, .init = harness_init_kvm, .fini = embed_fini, .timeout = HANGS);

static int create(const struct husk_config *config, struct husk_err *err)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_vm *vm = (struct husk_vm *)(void *)loop;
    int rc = husk_vm_create(&vm, loop, config, err);

    if (rc < 0)
        cr_assert_null(vm);
    husk_vm_destroy(vm);
    ev_loop_destroy(loop);
    return rc;
}

#define CREATE(err, ...)                                                       \
    create(&(struct husk_config){ .size = sizeof(struct husk_config),          \
                                  __VA_ARGS__ },                               \
           err)

static void check_err(const struct husk_err *err, int code, const char *word)
{
    CHECK_EQ(err->code, code);
    cr_assert(strstr(err->text, word), "no '%s' in '%s'", word, err->text);
    cr_assert_null(strchr(err->text, '\n'));
}

Test(api, errors_of_create)
{
    static char longer[5000];
    struct husk_config small = { .size = 7 };
    struct husk_err err;

    memset(longer, 'x', sizeof longer - 1);
    CHECK_EQ(create(&small, &err), -EINVAL);
    check_err(&err, -EINVAL, "size is 7");
    CHECK_EQ(CREATE(&err, .memory = 4096), -EINVAL);
    check_err(&err, -EINVAL, "4096 bytes");
    CHECK_EQ(CREATE(&err, .memory = (16 << 20) + 1), -EINVAL);
    check_err(&err, -EINVAL, "whole pages");
    CHECK_EQ(CREATE(&err, .memory = UINT64_C(1) << 50), -EINVAL);
    check_err(&err, -EINVAL, "memory");
    CHECK_EQ(CREATE(&err, .cpus = 65), -EINVAL);
    check_err(&err, -EINVAL, "65 vCPUs");
    CHECK_EQ(CREATE(&err, .append = longer), -EINVAL);
    check_err(&err, -EINVAL, "4999");
    CHECK_EQ(CREATE(&err, .timeout = -1), -EINVAL);
    check_err(&err, -EINVAL, "-1");
    CHECK_EQ(CREATE(NULL, .cpus = 65), -EINVAL);
    CHECK_EQ(CREATE(NULL, .cpus = 64), 0);
}

Test(api, errors_of_the_other_calls)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_device info = { .size = sizeof info };
    struct husk_err err;
    struct seen seen;
    size_t size;
    void *blob;

    embed_make(&seen, loop, NULL, "", 1);
    CHECK_EQ(husk_vm_start(seen.vm, &err), -ENOENT);
    check_err(&err, -ENOENT, "kernel");
    husk_vm_destroy(seen.vm);

    embed_make(&seen, loop, guest("hello"), "spin", 1);
    CHECK_EQ(husk_vm_add_device(seen.vm, "socket=", &err), -EINVAL);
    check_err(&err, -EINVAL, "device 0");
    CHECK_EQ(husk_vm_device_tree(seen.vm, &blob, &size, &err), -EAGAIN);
    check_err(&err, -EAGAIN, "not known");
    CHECK_EQ(husk_vm_device(seen.vm, 0, &info), -ENOENT);
    cr_assert(husk_vm_set_console(seen.vm, 9999, &err) < 0);
    check_err(&err, -EBADF, "console");
    CHECK_EQ(husk_vm_console_input(seen.vm, "x", 1), -EAGAIN);
    for (unsigned i = 0; i < 32; i++)
        CHECK_EQ(husk_vm_add_device(seen.vm, exec_spec("husk-rng"), &err), 0);
    CHECK_EQ(husk_vm_add_device(seen.vm, "/x", &err), -ENOSPC);
    check_err(&err, -ENOSPC, "32");
    CHECK_EQ(husk_vm_device(seen.vm, 31, &info), 0);
    CHECK_STR(info.name, "virtio31");
    cr_assert(!info.known);
    CHECK_EQ(husk_vm_device(seen.vm, 32, &info), -ENOENT);
    husk_vm_destroy(seen.vm);

    embed_make(&seen, loop, guest("hello"), "spin", 1);
    embed_start(&seen);
    CHECK_EQ(husk_vm_start(seen.vm, &err), -EBUSY);
    CHECK_EQ(husk_vm_probe(seen.vm, &err), -EBUSY);
    CHECK_EQ(husk_vm_add_device(seen.vm, "/x", &err), -EBUSY);
    check_err(&err, -EBUSY, "before the start");
    CHECK_EQ(husk_vm_start(seen.vm, NULL), -EBUSY);
    husk_vm_stop(seen.vm);
    husk_vm_stop(seen.vm);
    embed_run(loop);
    CHECK_EQ(seen.ended, 1);
    CHECK_EQ(husk_vm_start(seen.vm, NULL), -EBUSY);
    CHECK_EQ(husk_vm_console_input(seen.vm, "x", 1), -EAGAIN);
    CHECK_EQ(husk_vm_device_tree(seen.vm, &blob, &size, &err), 0);
    cr_assert(size > 100);
    free(blob);
    husk_vm_destroy(seen.vm);
    ev_loop_destroy(loop);
}

/* The program's descriptors stay its own, in number and in flags. */
Test(api, console_is_borrowed)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct seen seen;
    int out[2], flags;
    char text[64] = "";

    cr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) == 0);
    flags = fcntl(out[1], F_GETFL);
    embed_make(&seen, loop, guest("hello"), "", 1);
    cr_assert(husk_vm_set_console(seen.vm, out[1], NULL) == 0);
    embed_start(&seen);
    embed_run(loop);
    husk_vm_destroy(seen.vm);
    CHECK_EQ(fcntl(out[1], F_GETFL), flags);
    CHECK_EQ(read(out[0], text, sizeof text - 1), 18);
    CHECK_STR(text, "hello from x86_64\n");
    close(out[0]);
    close(out[1]);
    ev_loop_destroy(loop);
}

/* No handler, mask, limit or working directory is changed. */
Test(api, manners)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct sigaction before[NSIG], after;
    sigset_t mask, then;

    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &before[i]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    embed_device_run(loop, false);
    for (int i = 1; i < NSIG; i++) {
        if (sigaction(i, NULL, &after) == 0)
            cr_assert(after.sa_handler == before[i].sa_handler, "signal %d", i);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &then);
    cr_assert(memcmp(&mask, &then, sizeof mask) == 0);
    ev_loop_destroy(loop);
}
