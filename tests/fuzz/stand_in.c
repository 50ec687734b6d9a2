/*
 * See stand_in.h. The functions have the names and the contracts of those that
 * they replace; a watcher that breaks one of libev's rules ends the run.
 */
#include "tests/fuzz/stand_in.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/doorbell.h"
#include "devices/helper.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/machine.h"

#define MAX_WATCHERS 16u
#define MAX_RINGERS  8u

struct ev_loop {
    ev_io *io[MAX_WATCHERS];
    int fd[MAX_WATCHERS]; /* as it was when the watcher was started */
    unsigned n_io;
    ev_timer *timer[MAX_WATCHERS];
    unsigned n_timers;
    /* to be called in this round */
    ev_watcher *pending[2 * MAX_WATCHERS];
    int events[2 * MAX_WATCHERS];
    unsigned n_pending;
};

static double now_seconds(void)
{
    return (double)fuzz_now / 1e9;
}

struct ev_loop *loop_new(void)
{
    struct ev_loop *loop = calloc(1, sizeof *loop);

    CHECK(loop != NULL);
    return loop;
}

void loop_free(struct ev_loop *loop)
{
    CHECK_EQ(loop_active(loop), 0);
    free(loop);
}

unsigned loop_active(const struct ev_loop *loop)
{
    return loop->n_io + loop->n_timers;
}

static void clear_pending(struct ev_loop *loop, const void *watcher)
{
    for (unsigned i = 0; i < loop->n_pending; i++)
        if ((void *)loop->pending[i] == watcher)
            loop->pending[i] = NULL;
}

static void add_pending(struct ev_loop *loop, void *watcher, int events)
{
    loop->pending[loop->n_pending] = watcher;
    loop->events[loop->n_pending++] = events;
}

void ev_io_start(struct ev_loop *loop, ev_io *watcher)
{
    if (watcher->active)
        return;
    CHECK(fcntl(watcher->fd, F_GETFD) >= 0);
    CHECK(watcher->events & (EV_READ | EV_WRITE));
    CHECK(loop->n_io < MAX_WATCHERS);
    watcher->active = 1;
    loop->fd[loop->n_io] = watcher->fd;
    loop->io[loop->n_io++] = watcher;
}

void ev_io_stop(struct ev_loop *loop, ev_io *watcher)
{
    unsigned i = 0;

    clear_pending(loop, watcher);
    if (!watcher->active)
        return;
    while (i < loop->n_io && loop->io[i] != watcher)
        i++;
    CHECK(i < loop->n_io);
    CHECK_EQ(loop->fd[i], watcher->fd); /* not set while it was active */
    watcher->active = 0;
    loop->n_io--;
    loop->io[i] = loop->io[loop->n_io];
    loop->fd[i] = loop->fd[loop->n_io];
}

void ev_timer_start(struct ev_loop *loop, ev_timer *watcher)
{
    if (watcher->active)
        return;
    CHECK(watcher->repeat >= 0);
    CHECK(loop->n_timers < MAX_WATCHERS);
    watcher->at += now_seconds();
    watcher->active = 1;
    loop->timer[loop->n_timers++] = watcher;
}

void ev_timer_stop(struct ev_loop *loop, ev_timer *watcher)
{
    unsigned i = 0;

    clear_pending(loop, watcher);
    if (!watcher->active)
        return;
    while (i < loop->n_timers && loop->timer[i] != watcher)
        i++;
    CHECK(i < loop->n_timers);
    watcher->active = 0;
    loop->timer[i] = loop->timer[--loop->n_timers];
}

void ev_timer_again(struct ev_loop *loop, ev_timer *watcher)
{
    ev_timer_stop(loop, watcher);
    watcher->at = watcher->repeat;
    if (watcher->repeat > 0)
        ev_timer_start(loop, watcher);
}

void ev_now_update(struct ev_loop *loop)
{
    (void)loop;
}

static void find_ready(struct ev_loop *loop)
{
    struct pollfd fds[MAX_WATCHERS];

    for (unsigned i = 0; i < loop->n_io; i++)
        fds[i] = (struct pollfd){
            .fd = loop->fd[i],
            .events = (short)((loop->io[i]->events & EV_READ ? POLLIN : 0) |
                              (loop->io[i]->events & EV_WRITE ? POLLOUT : 0)),
        };
    CHECK(poll(fds, loop->n_io, 0) >= 0);
    for (unsigned i = 0; i < loop->n_io; i++) {
        CHECK(!(fds[i].revents & POLLNVAL)); /* closed while it was watched */
        if (fds[i].revents)
            add_pending(loop, loop->io[i], EV_READ | EV_WRITE);
    }
}

static void find_over(struct ev_loop *loop)
{
    ev_timer *over[MAX_WATCHERS];
    unsigned n = 0;

    for (unsigned i = 0; i < loop->n_timers; i++)
        if (loop->timer[i]->at <= now_seconds())
            over[n++] = loop->timer[i];
    for (unsigned i = 0; i < n; i++) {
        if (over[i]->repeat > 0)
            ev_timer_again(loop, over[i]);
        else
            ev_timer_stop(loop, over[i]);
        add_pending(loop, over[i], EV_TIMER);
    }
}

unsigned loop_round(struct ev_loop *loop, unsigned order)
{
    unsigned n, called = 0;

    CHECK_EQ(loop->n_pending, 0);
    find_ready(loop);
    find_over(loop);
    n = loop->n_pending;
    for (unsigned i = 0; i < n; i++) {
        unsigned at = (i + order) % n;
        ev_watcher *watcher = loop->pending[at];

        if (!watcher)
            continue;
        loop->pending[at] = NULL;
        watcher->cb(loop, watcher, loop->events[at]);
        called++;
    }
    loop->n_pending = 0;
    return called;
}

bool loop_next(const struct ev_loop *loop, uint64_t *when)
{
    double at = 0;

    for (unsigned i = 0; i < loop->n_timers; i++)
        if (i == 0 || loop->timer[i]->at < at)
            at = loop->timer[i]->at;
    *when = (uint64_t)(at * 1e9) + 1000;
    if (*when < fuzz_now)
        *when = fuzz_now;
    return loop->n_timers > 0;
}

/* devices/helper.h */

bool helper_stuck;

struct helper {
    int rung[MAX_RINGERS]; /* and not retired */
    unsigned n;
};

int helper_new(struct helper **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void helper_free(struct helper *helper)
{
    if (helper)
        CHECK_EQ(helper->n, 0);
    free(helper);
}

void helper_close(struct helper *helper, int fd)
{
    (void)helper;
    CHECK(close(fd) == 0);
}

void helper_hang_up(struct helper *helper, int fd)
{
    helper_close(helper, fd);
}

void helper_ring(struct helper *helper, int fd)
{
    unsigned i = 0;

    CHECK(fcntl(fd, F_GETFD) >= 0);
    doorbell_ring(fd);
    while (helper && i < helper->n && helper->rung[i] != fd)
        i++;
    if (helper && i == helper->n) {
        CHECK(helper->n < MAX_RINGERS);
        helper->rung[helper->n++] = fd;
    }
}

void helper_retire(struct helper *helper, int fd)
{
    for (unsigned i = 0; helper && i < helper->n; i++)
        if (helper->rung[i] == fd)
            helper->rung[i] = helper->rung[--helper->n];
    helper_close(helper, fd);
}

bool helper_is_stuck(struct helper *helper)
{
    (void)helper;
    return helper_stuck;
}

/* Others hold it until the deadline. */
int pthread_mutex_clocklock(pthread_mutex_t *lock, clockid_t clock,
                            const struct timespec *until)
{
    (void)until;
    CHECK_EQ(clock, CLOCK_MONOTONIC);
    return pthread_mutex_trylock(lock) == 0 ? 0 : ETIMEDOUT;
}

uint32_t machine_reserve_slots(struct machine *machine, uint32_t n)
{
    (void)machine;
    CHECK(n > 0);
    return 0;
}

int machine_set_slot(struct machine *machine, uint32_t slot, gpa_t base,
                     uint64_t size, void *host)
{
    (void)machine;
    (void)slot;
    CHECK(base % 4096 == 0 && size % 4096 == 0);
    CHECK(size == 0 || host != NULL);
    return 0;
}
