/*
 * Starting back-ends, husk's side. PR_SET_PDEATHSIG alone would not do: it
 * fires when the thread that forked ends, and does not reach what a back-end
 * starts itself. So a keeper is forked, which has one end of a socket whose
 * other end only husk has; see keeper.h.
 */
#include "vmm/link/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/deadline.h"
#include "vmm/link/keeper.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"
#include "vmm/link/words.h"

#define LAST_WAIT UINT64_C(1000000000) /* ns for what was killed to be gone */

void child_init(struct child *child)
{
    memset(child, 0, sizeof *child);
    child->control = child->output = child->socket = child->listener = -1;
}

static int make_folder(struct child *child, int *fd, struct husk_err *err)
{
    strcpy(child->folder, "/tmp/husk-XXXXXX");
    if (!mkdtemp(child->folder)) {
        int code = errno;

        child->folder[0] = 0;
        return fail(err, -code, "making a private folder in /tmp: %s",
                    strerror(code));
    }
    snprintf(child->path, sizeof child->path, "%s/socket", child->folder);
    *fd = open(child->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return fail(err, -errno, "opening %s: %s", child->folder,
                    strerror(errno));
    return 0;
}

static int make_listener(struct child *child, struct husk_err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    child->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, child->path);
    if (child->listener < 0 ||
        bind(child->listener, (struct sockaddr *)&address, sizeof address) <
            0 ||
        listen(child->listener, 8) < 0)
        return fail(err, -errno, "listening on %s: %s", child->path,
                    strerror(errno));
    return 0;
}

/* What the back-end finds under the number KEEPER_PASSED, and the words that
 * say so.
 */
static int make_link(struct child *child, const struct spec *spec,
                     struct keeper_plan *plan, char ***argv,
                     struct husk_err *err)
{
    static const char *const marks[] = { "{fd}", "{listen}", "{socket}" };
    char number[8];
    int pair[2], rc;

    snprintf(number, sizeof number, "%d", KEEPER_PASSED);
    switch (spec->link) {
    case SPEC_CONNECTED:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return fail(err, -errno, "socketpair: %s", strerror(errno));
        child->socket = pair[0];
        plan->passed = pair[1];
        break;
    case SPEC_LISTENING:
        if ((rc = make_folder(child, &plan->folder_fd, err)) < 0 ||
            (rc = make_listener(child, err)) < 0)
            return rc;
        plan->passed = child->listener;
        break;
    case SPEC_PATH:
        if ((rc = make_folder(child, &plan->folder_fd, err)) < 0)
            return rc;
        break;
    }
    *argv = words_replace(spec->argv, marks[spec->link],
                          spec->link == SPEC_PATH ? child->path : number);
    return *argv ? 0 : fail(err, -ENOMEM, "out of memory");
}

/* Fork the keeper. plan.output and plan.control are the far ends. */
static int fork_keeper(struct child *child, const struct keeper_plan *plan,
                       struct husk_err *err)
{
    sigset_t all, before;

    /* no handler of this program's may run in the keeper */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child->keeper = fork();
    if (child->keeper == 0)
        keeper_run(plan);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (child->keeper < 0) {
        child->keeper = 0;
        return fail(err, -errno, "fork: %s", strerror(errno));
    }
    return 0;
}

int child_start(struct child *child, const struct spec *spec,
                struct husk_err *err)
{
    struct keeper_plan plan = { .passed = -1, .null = -1, .folder_fd = -1 };
    char **argv = NULL;
    int control[2] = { -1, -1 }, output[2] = { -1, -1 }, rc;

    child->fate = CHILD_NOTHING;
    rc = make_link(child, spec, &plan, &argv, err);
    if (rc < 0)
        goto out;
    plan.environment = calloc(words_count(spec->env) + KEEPER_ENVIRONMENT + 1,
                              sizeof *plan.environment);
    if (!plan.environment) {
        rc = fail(err, -ENOMEM, "out of memory");
        goto out;
    }
    plan.null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (plan.null < 0 || pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0) {
        rc = fail(err, -errno, "starting %s: %s", spec->argv[0],
                  strerror(errno));
        goto out;
    }
    /* the back-end's writes may wait for husk, husk's reads never wait */
    fcntl(output[1], F_SETFL, 0);
    plan.argv = argv;
    plan.output = output[1];
    plan.control = control[1];
    plan.env = spec->env;
    plan.dir = spec->dir;
    plan.folder = child->folder;
    rc = fork_keeper(child, &plan, err);
    if (rc == 0) {
        child->control = control[0];
        child->output = output[0];
        control[0] = output[0] = -1;
    }
out:
    words_free(argv);
    free(plan.environment);
    sys_close(&plan.null);
    sys_close(&plan.folder_fd);
    for (int i = 0; i < 2; i++) {
        sys_close(&control[i]);
        sys_close(&output[i]);
    }
    if (plan.passed >= 0 && plan.passed != child->listener)
        close(plan.passed);
    sys_close(&child->listener);
    return rc;
}

enum child_news child_news(struct child *child, int *value)
{
    struct keeper_news news;
    ssize_t n;

    *value = 0;
    do {
        n = recv(child->control, &news, sizeof news, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n == sizeof news) {
        *value = news.value;
        if (child->fate == CHILD_NOTHING) {
            child->fate = (enum child_news)news.kind;
            child->fate_value = news.value;
        }
        return (enum child_news)news.kind;
    }
    if (n != 0)
        return CHILD_NOTHING;
    if (child->fate != CHILD_NOTHING)
        return CHILD_GONE;
    /* a keeper that was not killed reports the back-end's end first */
    return child->fate = CHILD_UNKEPT;
}

int child_take(struct child *child)
{
    int fd = child->socket;

    child->socket = -1;
    return fd;
}

void child_ask(struct child *child)
{
    char command = 'T';

    if (child->control >= 0)
        send(child->control, &command, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool child_is_gone(struct child *child)
{
    bool all = true;

    for (unsigned i = 0; i < CHILD_LEAVING; i++) {
        if (child->leaving[i] <= 0)
            continue;
        if (waitpid(child->leaving[i], NULL, WNOHANG) == 0)
            all = false;
        else
            child->leaving[i] = 0;
    }
    return all;
}

void child_drop(struct child *child)
{
    bool swept = child->keeper > 0 && child->fate != CHILD_UNKEPT;

    sys_close(&child->control); /* the keeper kills what is left */
    if (child->keeper > 0)
        kill(child->keeper, SIGCONT); /* a back-end may have stopped it */
    for (unsigned i = 0; i < CHILD_LEAVING && child->keeper > 0; i++) {
        if (child->leaving[i] == 0) {
            child->leaving[i] = child->keeper;
            child->keeper = 0;
        }
    }
    child_is_gone(child);
    /* so many that cannot die: this one must be waited for */
    while (child->keeper > 0 && waitpid(child->keeper, NULL, 0) < 0 &&
           errno == EINTR)
        ;
    child->keeper = 0;
    sys_close(&child->output);
    sys_close(&child->socket);
    sys_close(&child->listener);
    if (!swept && child->path[0])
        unlink(child->path);
    if (!swept && child->folder[0])
        rmdir(child->folder);
    child->path[0] = child->folder[0] = 0;
}

void child_end(struct child *child, uint64_t deadline)
{
    const struct timespec pause = { 0, 1000000 };
    int value;

    child_ask(child);
    while (child->control >= 0 && deadline_left(deadline) > 0) {
        struct pollfd polled = { .fd = child->control, .events = POLLIN };

        poll(&polled, 1, deadline_left(deadline));
        if (polled.revents && child_news(child, &value) == CHILD_GONE)
            break;
    }
    child_drop(child);
    deadline = deadline_now() + LAST_WAIT;
    while (!child_is_gone(child) && deadline_left(deadline) > 0)
        nanosleep(&pause, NULL);
}
