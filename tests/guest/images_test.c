/*
 * Kernel and initrds: what was given is what boots, at each boot, and a file
 * that is none or that changes ends the run in time with a message.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(images, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    FILE *in = fopen(from, "re"), *out = fopen(to, "we");
    size_t size;

    cr_assert(in && out);
    size = fread(bytes, 1, sizeof bytes, in);
    cr_assert(size > 0 && size < sizeof bytes);
    CHECK_EQ(fwrite(bytes, 1, size, out), size);
    fclose(in);
    fclose(out);
}

/* While the guest waits in its second boot another kernel takes the path. */
Test(images, replaced_between_boots)
{
    struct run run = { .hold_in = true };
    const char *kernel = place("kernel");

    copy_file(guest("reboot"), kernel);
    start_husk(&run, "--on-reset", "again", "-d",
               fmt("%s --config-size=4", exec_spec("husk-loop")), "-a",
               "hold boots=4", kernel);
    cr_assert(run_until(&run, "reboot: boot 2 of 4\nholding\n"), "'%s'; '%s'",
              run.out, run.err);
    copy_file(guest("hello"), place("other"));
    CHECK_EQ(rename(place("other"), kernel), 0);
    run_type(&run, "x");
    cr_assert(run_until(&run, "reboot: boot 4 of 4\nholding\n"), "'%s'; '%s'",
              run.out, run.err);
    run_type(&run, "x");
    run_end(&run);
    check_quiet_end(&run, 0, "pass");
    run_free(&run);
}

/* The line names the file and says what it is. */
static void check_refused(const char *prefix, const char *path,
                          const char *type, const char *const *args)
{
    struct run run = { .limit = 20 };

    run_husk_argv(&run, args);
    check_end(&run, 125, "error");
    check_line(&run, fmt("%s%s is %s, not a regular file", prefix, path, type));
    run_free(&run);
}

Test(images, fifo_or_device_is_refused)
{
    const char *fifo = place("fifo"), *hello = guest("hello");

    CHECK_EQ(mkfifo(fifo, 0600), 0);
    check_refused("kernel ", fifo, "a FIFO or pipe", ARGS(fifo));
    check_refused("initrd ", fifo, "a FIFO or pipe", ARGS("-i", fifo, hello));
    check_refused("config=@", fifo, "a FIFO or pipe",
                  ARGS("-d", fmt("socket=/x,config=@%s", fifo), hello));
    check_refused("kernel ", "/dev/ptmx", "a character device",
                  ARGS("/dev/ptmx"));
    check_refused("initrd ", place("."), "a directory",
                  ARGS("-i", place("."), hello));
}

#define INITRD_SIZE (32u << 20)

/* Cuts the initrd short and lets it grow again, over and over. */
static atomic_bool end_cuts;

static void *cut(void *path)
{
    while (!atomic_load(&end_cuts))
        if (truncate(path, 4096) < 0 || truncate(path, INITRD_SIZE) < 0)
            break;
    return NULL;
}

Test(images, initrd_cut_short_while_it_is_read)
{
    const char *initrd = place("initrd");
    pthread_t thread;

    copy_file(guest("hello"), initrd);
    CHECK_EQ(truncate(initrd, INITRD_SIZE), 0);
    CHECK_EQ(pthread_create(&thread, NULL, cut, (void *)(uintptr_t)initrd), 0);
    for (unsigned i = 0; i < 10; i++) {
        struct run run = { 0 };

        run_husk(&run, "-i", initrd, guest("hello"));
        if (run.status == 0) {
            check_quiet_end(&run, 0, "pass");
        } else {
            check_end(&run, 125, "error");
            check_line(&run, fmt("initrd %s was written to while", initrd));
        }
        run_free(&run);
    }
    atomic_store(&end_cuts, true);
    pthread_join(thread, NULL);
}
