/*
 * Starting back-ends. PR_SET_PDEATHSIG alone would not do: it fires when the
 * thread that forked ends, and does not reach what a back-end starts itself. So
 * a keeper forks the back-end, is the subreaper of all its descendants, and
 * holds one end of a socket whose other end only husk has: when that closes,
 * it kills them all and removes the private folder.
 *
 * Between fork and exec, and in the keeper, only async-signal-safe calls are
 * made: the program around the library may have other threads.
 */
#include "vmm/link/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/deadline.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"
#include "vmm/link/words.h"

#define PASSED    3 /* descriptor number of the back-end's socket */
#define LAST_WAIT UINT64_C(1000000000) /* ns for what was killed to be gone */
#define CONTROL   4 /* of the keeper's, also in the back-end until exec */

struct news {
    int kind, value;
};

/* All that the keeper needs, prepared before the fork. */
struct plan {
    char *const *argv;
    int passed; /* descriptor for PASSED, or -1 */
    int output, null, control;
    const char *path, *folder;
};

void child_init(struct child *child)
{
    memset(child, 0, sizeof *child);
    child->control = child->output = child->socket = child->listener = -1;
}

/* The library's ban on _exit() is about the embedder's process, not this one.
 */
static void leave(int status)
{
    for (;;)
        syscall(SYS_exit_group, status);
}

static void tell(enum child_news kind, int value)
{
    struct news news = { (int)kind, value };

    while (send(CONTROL, &news, sizeof news, MSG_NOSIGNAL) < 0 &&
           errno == EINTR)
        ;
}

/*
 * All signals as a new program expects them. By the system call itself: libc
 * keeps two for its threads, which whoever started husk may have left ignored.
 */
static void default_signals(void)
{
    const struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = { 0 };

    for (int i = 1; i < NSIG; i++)
        syscall(SYS_rt_sigaction, i, &action, NULL, sizeof action.mask);
}

static void become_backend(const struct plan *plan, pid_t keeper)
{
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper)
        leave(127);
    default_signals();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(plan->argv[0], plan->argv);
    tell(CHILD_NOT_STARTED, errno);
    leave(127);
}

/* Kill whatever this process has become the parent of; false: nothing left. */
static bool kill_children(void)
{
    char text[512];
    ssize_t n;
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    pid_t pid = 0;

    n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < n; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = pid * 10 + (text[i] - '0');
        } else {
            if (pid > 0)
                kill(pid, SIGKILL);
            pid = 0;
        }
    }
    if (n <= 0)
        return false;
    /* not for all of them: the children of one that ends are this process's
     * from then on, and must be looked for */
    do {
        pid = waitpid(-1, NULL, 0);
    } while (pid < 0 && errno == EINTR);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return pid > 0;
}

static void clean_up(const struct plan *plan)
{
    if (plan->path[0])
        unlink(plan->path);
    if (plan->folder[0])
        rmdir(plan->folder);
}

/* Reap what has ended, telling of the back-end; false: no child is left. */
static bool reap(pid_t backend)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid == backend)
            tell(CHILD_ENDED, status);
        if (pid == 0)
            return true;
        if (pid < 0 && errno != EINTR)
            return false;
    }
}

/* Descriptors in their places, all others closed. */
static void arrange_fds(const struct plan *plan)
{
    int passed = plan->passed, control = plan->control;

    /* out of the way of the places first */
    passed = passed < 0 ? -1 : fcntl(passed, F_DUPFD, 10);
    control = fcntl(control, F_DUPFD, 10);
    dup2(plan->null, STDIN_FILENO);
    dup2(plan->output, STDOUT_FILENO);
    dup2(plan->output, STDERR_FILENO);
    if (passed >= 0)
        dup2(passed, PASSED);
    else
        close(PASSED);
    dup3(control, CONTROL, O_CLOEXEC);
    close_range(CONTROL + 1, ~0u, 0);
}

/* The keeper's only signal, as a descriptor; all others stay blocked. */
static int child_signals(void)
{
    struct sigaction action = { .sa_handler = SIG_DFL };
    sigset_t set;

    sigaction(SIGCHLD, &action, NULL);
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void keep(const struct plan *plan)
{
    struct pollfd polled[2] = { { .fd = CONTROL, .events = POLLIN },
                                { .events = POLLIN } };
    pid_t keeper = getpid(), backend;

    setpgid(0, 0);
    prctl(PR_SET_NAME, "husk-keeper");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    arrange_fds(plan);
    polled[1].fd = child_signals();
    backend = fork();
    if (backend == 0)
        become_backend(plan, keeper);
    if (backend < 0) {
        tell(CHILD_NOT_STARTED, errno);
        clean_up(plan);
        leave(1);
    }
    setpgid(backend, backend); /* whoever comes first */
    /* only the back-end holds its socket and its output now */
    close(PASSED);
    for (int i = 0; i <= STDERR_FILENO; i++)
        close(i);
    while (reap(backend)) {
        struct signalfd_siginfo info;
        char command;
        ssize_t n;

        if (poll(polled, 2, -1) < 0)
            continue;
        while (read(polled[1].fd, &info, sizeof info) > 0)
            ;
        n = recv(CONTROL, &command, 1, MSG_DONTWAIT);
        if (n == 1) {
            kill(-backend, SIGTERM);
            kill(-backend, SIGCONT); /* or it would never hear of it */
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            kill(-backend, SIGKILL);
            while (kill_children())
                ;
            break;
        }
    }
    clean_up(plan);
    leave(0);
}

static int make_folder(struct child *child, struct husk_err *err)
{
    strcpy(child->folder, "/tmp/husk-XXXXXX");
    if (!mkdtemp(child->folder)) {
        int code = errno;

        child->folder[0] = 0;
        return fail(err, -code, "making a private folder in /tmp: %s",
                    strerror(code));
    }
    snprintf(child->path, sizeof child->path, "%s/socket", child->folder);
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

/* What the back-end finds under the number PASSED, and the words that say so.
 */
static int make_link(struct child *child, const struct spec *spec, int *passed,
                     char ***argv, struct husk_err *err)
{
    static const char *const marks[] = { "{fd}", "{listen}", "{socket}" };
    char number[8];
    int pair[2], rc;

    snprintf(number, sizeof number, "%d", PASSED);
    switch (spec->link) {
    case SPEC_CONNECTED:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return fail(err, -errno, "socketpair: %s", strerror(errno));
        child->socket = pair[0];
        *passed = pair[1];
        break;
    case SPEC_LISTENING:
        if ((rc = make_folder(child, err)) < 0 ||
            (rc = make_listener(child, err)) < 0)
            return rc;
        *passed = child->listener;
        break;
    case SPEC_PATH:
        if ((rc = make_folder(child, err)) < 0)
            return rc;
        break;
    }
    *argv = words_replace(spec->argv, marks[spec->link],
                          spec->link == SPEC_PATH ? child->path : number);
    return *argv ? 0 : fail(err, -ENOMEM, "out of memory");
}

/* Fork the keeper. plan.output and plan.control are the far ends. */
static int fork_keeper(struct child *child, const struct plan *plan,
                       struct husk_err *err)
{
    sigset_t all, before;

    /* no handler of this program's may run in the keeper */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child->keeper = fork();
    if (child->keeper == 0)
        keep(plan);
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
    struct plan plan = { .passed = -1, .null = -1 };
    char **argv = NULL;
    int control[2] = { -1, -1 }, output[2] = { -1, -1 }, rc;

    child->fate = CHILD_NOTHING;
    rc = make_link(child, spec, &plan.passed, &argv, err);
    if (rc < 0)
        goto out;
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
    plan.path = child->path;
    plan.folder = child->folder;
    rc = fork_keeper(child, &plan, err);
    if (rc == 0) {
        child->control = control[0];
        child->output = output[0];
        control[0] = output[0] = -1;
    }
out:
    words_free(argv);
    sys_close(&plan.null);
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
    struct news news;
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
    return n == 0 ? CHILD_GONE : CHILD_NOTHING;
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
    sys_close(&child->control); /* the keeper kills what is left */
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
    if (child->path[0])
        unlink(child->path);
    if (child->folder[0])
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
