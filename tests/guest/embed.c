/* A VM in the test's own process; see embed.h. */
#include "tests/guest/embed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Present where the sanitizers are: reports what is lost so far. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

void embed_fini(void)
{
    if (__lsan_do_recoverable_leak_check)
        CHECK_EQ(__lsan_do_recoverable_leak_check(), 0);
    harness_fini();
}

static void on_probed(void *ctx)
{
    struct seen *seen = ctx;

    seen->probed++;
    seen->thread = pthread_self();
    ev_break(seen->loop, EVBREAK_ALL);
}

void embed_ended(void *ctx, const struct husk_end *end)
{
    struct seen *seen = ctx;

    seen->ended++;
    seen->outcome = end->outcome;
    seen->status = end->status;
    snprintf(seen->text, sizeof seen->text, "%s", end->text ? end->text : "");
    seen->thread = pthread_self();
    if (seen->leave)
        ev_break(seen->loop, EVBREAK_ALL);
}

void embed_make(struct seen *seen, struct ev_loop *loop, const char *kernel,
                const char *append, unsigned cpus)
{
    struct husk_config config = {
        .size = sizeof config,
        .memory = 16 << 20,
        .cpus = cpus,
        .kernel = kernel,
        .append = append,
        .ctx = seen,
        .probed = on_probed,
        .ended = embed_ended,
    };
    struct husk_err err = { 0 };

    memset(seen, 0, sizeof *seen);
    seen->loop = loop;
    seen->leave = true;
    cr_assert(husk_vm_create(&seen->vm, loop, &config, &err) == 0, "%s",
              err.text);
}

void embed_add(struct seen *seen, const char *spec)
{
    struct husk_err err;

    cr_assert(husk_vm_add_device(seen->vm, spec, &err) == 0, "%s", err.text);
}

void embed_start(struct seen *seen)
{
    struct husk_err err;

    cr_assert(husk_vm_start(seen->vm, &err) == 0, "%s", err.text);
}

static void on_limit(struct ev_loop *loop, ev_timer *timer, int revents)
{
    (void)revents;
    *(bool *)timer->data = true;
    ev_break(loop, EVBREAK_ALL);
}

void embed_run(struct ev_loop *loop)
{
    bool late = false;
    ev_timer timer;

    ev_now_update(loop);
    ev_timer_init(&timer, on_limit, LIMIT, 0);
    timer.data = &late;
    ev_timer_start(loop, &timer);
    ev_run(loop, 0);
    ev_timer_stop(loop, &timer);
    cr_assert(!late, "nothing came within %d s", LIMIT);
}

/* The kernel ends a thread and takes a mapping back a moment after the join. */
void embed_check_holdings(const struct holdings *before)
{
    double until = now() + SOON;
    struct holdings h;

    do {
        h = holdings_of(0);
        if (h.fds == before->fds && h.threads == before->threads &&
            (h.maps <= before->maps + STACKS || sanitized()))
            return;
        nap(0.01);
    } while (now() < until);
    cr_assert_fail("descriptors %u, were %u; threads %u, were %u; mappings "
                   "%u, were %u",
                   h.fds, before->fds, h.threads, before->threads, h.maps,
                   before->maps);
}

void embed_device_run(struct ev_loop *loop, bool exits_on_read)
{
    struct husk_config config = {
        .size = sizeof config,
        .memory = 16 << 20,
        .kernel = guest("devices"),
        .append = "strict reset=3",
        .exits_on_read = exits_on_read,
        .ended = embed_ended,
    };
    struct seen seen = { .loop = loop, .leave = true };
    struct husk_device info = { .size = sizeof info };
    struct husk_stats stats = { .size = sizeof stats };

    config.ctx = &seen;
    cr_assert(husk_vm_create(&seen.vm, loop, &config, NULL) == 0);
    embed_add(&seen, exec_spec("husk-rng"));
    embed_add(&seen,
              fmt("%s --queues=3 --config-size=9", exec_spec("husk-loop")));
    embed_start(&seen);
    embed_run(loop);
    CHECK_EQ(seen.outcome, HUSK_PASS);
    CHECK_EQ(husk_vm_device(seen.vm, 1, &info), 0);
    CHECK_EQ(info.id, 63);
    CHECK_EQ(info.config_size, 9);
    CHECK_EQ(info.config[8], 8);
    CHECK_EQ(info.vqs, 3);
    CHECK_EQ(husk_vm_device(seen.vm, 2, &info), -ENOENT);
    husk_vm_stats(seen.vm, &stats);
    CHECK_EQ(stats.exits_mmio_read > 0, exits_on_read);
    husk_vm_destroy(seen.vm);
}
