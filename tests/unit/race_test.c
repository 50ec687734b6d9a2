/*
 * Registers that several vCPUs write at a time. What one of them does without
 * the device's lock, it does with what another one may be changing. The build
 * with ThreadSanitizer looks at every access; the assertions here hold in any.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/spy.h"

#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define ROUNDS   2000

struct notifier {
    struct spy *spy;
    atomic_bool stop;
    pthread_t thread;
};

static void *notify(void *ctx)
{
    struct notifier *notifier = ctx;
    struct spy *spy = notifier->spy;
    uint32_t value;

    /* at least once round, in whatever order the threads run */
    do {
        for (uint32_t i = 0; i < SPY_VQS; i++)
            spy_write(spy, VIRTIO_MMIO_QUEUE_NOTIFY, i);
        for (uint32_t at = 0; at < VIRTIO_MMIO_CONFIG + SPY_CONFIG; at += 4)
            transport_read(&spy->t, at, &value, sizeof value);
    } while (!atomic_load(&notifier->stop));
    return NULL;
}

static void begin(struct notifier *notifier, struct spy *spy)
{
    notifier->spy = spy;
    atomic_init(&notifier->stop, false);
    cr_assert_eq(pthread_create(&notifier->thread, NULL, notify, notifier), 0);
}

static void end(struct notifier *notifier)
{
    atomic_store(&notifier->stop, true);
    pthread_join(notifier->thread, NULL);
}

/* Descriptor 0 becomes one that remembers whether it was written to. */
static int watch_stdin(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    cr_assert_geq(fd, 0);
    cr_assert_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    close(fd);
    return STDIN_FILENO;
}

static void expect_untouched(int fd)
{
    uint64_t count = 0;

    cr_assert_eq(eventfd_write(fd, 1), 0); /* so that the read returns */
    cr_assert_eq(read(fd, &count, sizeof count), (ssize_t)sizeof count);
    cr_assert_eq(count, 1, "a guest's kicks went to descriptor %d", fd);
}

/* The driver of one vCPU resets single queues while another one kicks them. */
Test(race, kicks_while_queues_are_reset, .timeout = 60)
{
    struct notifier notifier;
    struct spy spy;
    int fd = watch_stdin();

    spy_init(&spy);
    spy_go(&spy, 0x0b, FEATURES);
    for (uint32_t i = 0; i < SPY_VQS; i++)
        spy_ready(&spy, i, 8);
    spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    begin(&notifier, &spy);
    for (unsigned n = 0; n < ROUNDS; n++) {
        for (uint32_t i = 0; i < SPY_VQS; i++) {
            spy_write(&spy, VIRTIO_MMIO_QUEUE_SEL, i);
            spy_write(&spy, VIRTIO_MMIO_QUEUE_RESET, 1);
        }
        for (uint32_t i = 0; i < SPY_VQS; i++)
            spy_ready(&spy, i, 8);
    }
    end(&notifier);
    cr_assert_eq(spy.n_ring_stop, ROUNDS * SPY_VQS);
    cr_assert_eq(spy.n_ring_start, ROUNDS * SPY_VQS);
    expect_untouched(fd);
    spy_fini(&spy);
}

/* The same with resets of the whole device, a reboot among them. */
Test(race, kicks_while_the_device_is_reset, .timeout = 60)
{
    struct notifier notifier;
    struct spy spy;
    int fd = watch_stdin();

    spy_init(&spy);
    begin(&notifier, &spy);
    for (unsigned n = 0; n < ROUNDS; n++) {
        spy_go(&spy, 0x0b, FEATURES);
        for (uint32_t i = 0; i < SPY_VQS; i++)
            spy_ready(&spy, i, 8);
        spy_write(&spy, VIRTIO_MMIO_STATUS, 0x0f);
    }
    end(&notifier);
    cr_assert_eq(spy.n_start, ROUNDS);
    expect_untouched(fd);
    spy_fini(&spy);
}
