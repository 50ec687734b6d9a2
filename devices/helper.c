/* One device's calls that may never return. See helper.h. */
#include "devices/helper.h"

#include <errno.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/doorbell.h"
#include "devices/foreign.h"

#define STACK_SIZE (64u << 10)
#define IDLE       20000000 /* ns without work, after which the thread ends */
#define TOO_MANY   256      /* descriptors that wait to be closed */

struct queue {
    int *fd;
    unsigned n, room;
};

struct helper {
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t work;
    struct queue rings, closes;
    bool running; /* there is a thread */
    bool busy;    /* which is in a call */
    bool freed;   /* the thread owns it */
};

int helper_new(struct helper **out)
{
    struct helper *helper = calloc(1, sizeof *helper);

    *out = helper;
    if (!helper)
        return -ENOMEM;
    pthread_mutex_init(&helper->lock, NULL);
    pthread_cond_init(&helper->work, NULL);
    return 0;
}

static void destroy(struct helper *helper)
{
    pthread_cond_destroy(&helper->work);
    pthread_mutex_destroy(&helper->lock);
    free(helper->rings.fd);
    free(helper->closes.fd);
    free(helper);
}

/* Without memory for it nothing is done: a descriptor stays open. */
static void add(struct queue *queue, int fd)
{
    if (queue->n == queue->room) {
        unsigned room = queue->room ? 2 * queue->room : 16;
        int *grown = realloc(queue->fd, room * sizeof *grown);

        if (!grown)
            return;
        queue->fd = grown;
        queue->room = room;
    }
    queue->fd[queue->n++] = fd;
}

static bool take_out(struct queue *queue, int fd)
{
    for (unsigned i = 0; i < queue->n; i++)
        if (queue->fd[i] == fd) {
            queue->fd[i] = queue->fd[--queue->n];
            return true;
        }
    return false;
}

/* False when there was nothing to do for a while. Under the lock. */
static bool await_work(struct helper *helper)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += IDLE;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!helper->rings.n && !helper->closes.n && !helper->freed)
        if (pthread_cond_clockwait(&helper->work, &helper->lock,
                                   CLOCK_MONOTONIC, &until) == ETIMEDOUT)
            return helper->rings.n || helper->closes.n;
    return helper->rings.n || helper->closes.n;
}

static void *thread(void *arg)
{
    struct helper *helper = arg;
    bool freed;

    prctl(PR_SET_NAME, "helper");
    pthread_mutex_lock(&helper->lock);
    while (await_work(helper)) {
        bool ring = helper->rings.n > 0;
        struct queue *queue = ring ? &helper->rings : &helper->closes;
        int fd = queue->fd[--queue->n];

        helper->busy = true;
        pthread_mutex_unlock(&helper->lock);
        if (ring)
            doorbell_ring(fd);
        else
            close(fd);
        pthread_mutex_lock(&helper->lock);
        helper->busy = false;
    }
    helper->running = false;
    freed = helper->freed;
    pthread_mutex_unlock(&helper->lock);
    if (freed)
        destroy(helper);
    return NULL;
}

/* See that the thread does what there is. If none can be had the next call
 * tries again. Under the lock. */
static void wake(struct helper *helper)
{
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_t id;

    if (helper->running) {
        pthread_cond_signal(&helper->work);
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    helper->running = pthread_create(&id, &attr, thread, helper) == 0;
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void helper_free(struct helper *helper)
{
    bool running;

    if (!helper)
        return;
    pthread_mutex_lock(&helper->lock);
    helper->freed = true;
    if (helper->running || helper->closes.n)
        wake(helper);
    running = helper->running;
    pthread_mutex_unlock(&helper->lock);
    if (!running)
        destroy(helper);
}

static void close_aside(struct helper *helper, int fd)
{
    pthread_mutex_lock(&helper->lock);
    add(&helper->closes, fd);
    wake(helper);
    pthread_mutex_unlock(&helper->lock);
}

void helper_close(struct helper *helper, int fd)
{
    struct foreign_file file;

    if (!helper || foreign_file(fd, &file) == 0)
        close(fd);
    else
        close_aside(helper, fd);
}

void helper_hang_up(struct helper *helper, int fd)
{
    int unread = 0;

    /* after this nothing more can be sent to it */
    shutdown(fd, SHUT_RDWR);
    if (helper && (ioctl(fd, SIOCINQ, &unread) < 0 || unread))
        close_aside(helper, fd);
    else
        close(fd);
}

void helper_ring(struct helper *helper, int fd)
{
    if (!helper) {
        doorbell_ring(fd);
        return;
    }
    pthread_mutex_lock(&helper->lock);
    take_out(&helper->rings, fd); /* once is enough */
    add(&helper->rings, fd);
    wake(helper);
    pthread_mutex_unlock(&helper->lock);
}

void helper_retire(struct helper *helper, int fd)
{
    bool busy = false;

    if (helper) {
        pthread_mutex_lock(&helper->lock);
        take_out(&helper->rings, fd);
        /* the call may be about this one: its number must not be used again
         * before that has begun */
        busy = helper->busy;
        if (busy)
            add(&helper->closes, fd);
        pthread_mutex_unlock(&helper->lock);
    }
    if (!busy)
        close(fd);
}

bool helper_is_stuck(struct helper *helper)
{
    bool stuck = false;

    if (helper) {
        pthread_mutex_lock(&helper->lock);
        stuck = helper->closes.n > TOO_MANY;
        pthread_mutex_unlock(&helper->lock);
    }
    return stuck;
}
