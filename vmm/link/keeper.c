/* Keeper, holder and the back-end until exec. See keeper.h. */
#include "vmm/link/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/link/sweep.h"

#define CONTROL 4 /* the back-end has it too, until exec */
#define FOLDER  5 /* the keeper's */

/*
 * A back-end may use select(), which knows no higher descriptors. One that
 * needs more raises its limit itself: the hard one stays as it is.
 */
#define FILES 1024

extern char **environ;

/* The library's ban on _exit() is about the embedder's process, not this one.
 */
static _Noreturn void leave(int status)
{
    for (;;)
        syscall(SYS_exit_group, status);
}

static void tell(enum child_news kind, int value)
{
    struct keeper_news news = { (int)kind, value };

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
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        syscall(SYS_rt_sigaction, i, &action, NULL, sizeof action.mask);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void limit_files(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > FILES) {
        files.rlim_cur = FILES;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static size_t name_length(const char *entry)
{
    return strcspn(entry, "=");
}

static bool same_name(const char *a, const char *b)
{
    size_t length = name_length(a);

    return length == name_length(b) && !memcmp(a, b, length);
}

/* Whether a back-end gets a variable of husk's that it was not given. */
static bool is_common(const char *entry)
{
    static const char *const names[] = {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL",
        "LANG", "TZ",   "TERM", "TMPDIR",  "XDG_RUNTIME_DIR"
    };

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    static const char options[] = "SAN_OPTIONS";
    size_t length = name_length(entry);

    if (length >= sizeof options && !memcmp(entry + length + 1 - sizeof options,
                                            options, sizeof options - 1))
        return true;
#endif
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (same_name(names[i], entry))
            return true;
    return !strncmp(entry, "LC_", 3);
}

static const char *variable(const char *name)
{
    for (char **entry = environ; entry && *entry; entry++)
        if (same_name(*entry, name))
            return *entry;
    return NULL;
}

/* The first of a name counts. */
static void add_variable(char **environment, size_t *n, size_t room,
                         const char *entry)
{
    for (size_t i = 0; i < *n; i++)
        if (same_name(environment[i], entry))
            return;
    if (*n < room)
        environment[(*n)++] = (char *)(uintptr_t)entry;
    environment[*n] = NULL;
}

static void make_environment(const struct keeper_plan *plan)
{
    size_t n = 0, given = 0;

    for (; plan->env && plan->env[given]; given++) {
        const char *entry = plan->env[given];

        if (!strchr(entry, '='))
            entry = variable(entry);
        if (entry)
            add_variable(plan->environment, &n, given + 1, entry);
    }
    for (char **entry = environ; entry && *entry; entry++)
        if (is_common(*entry))
            add_variable(plan->environment, &n, given + KEEPER_ENVIRONMENT,
                         *entry);
    plan->environment[n] = NULL;
    environ = plan->environment;
}

static _Noreturn void become_backend(const struct keeper_plan *plan,
                                     pid_t holder, int pid_fd)
{
    pid_t self = getpid();

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != holder)
        leave(127);
    setsid();
    if (write(pid_fd, &self, sizeof self) != sizeof self)
        leave(127);
    umask(077);
    limit_files();
    make_environment(plan);
    if (plan->dir && chdir(plan->dir) < 0) {
        tell(CHILD_NO_FOLDER, errno);
        leave(127);
    }
    default_signals();
    execvp(plan->argv[0], plan->argv);
    tell(CHILD_NOT_STARTED, errno);
    leave(127);
}

/* Only the back-end holds its socket and its output. */
static void close_backend_fds(void)
{
    close(KEEPER_PASSED);
    for (int i = 0; i <= STDERR_FILENO; i++)
        close(i);
}

/* Exits with 0 once it has told how the back-end ended. */
static _Noreturn void hold(const struct keeper_plan *plan, pid_t keeper,
                           int pid_fd)
{
    pid_t holder = getpid(), backend;
    int status;

    prctl(PR_SET_NAME, "husk-holder");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper)
        leave(1);
    close(FOLDER);
    backend = fork();
    if (backend == 0)
        become_backend(plan, holder, pid_fd);
    if (backend < 0) {
        tell(CHILD_NOT_STARTED, errno);
        leave(0);
    }
    close_backend_fds();
    close(pid_fd);
    while (waitpid(backend, &status, 0) < 0)
        if (errno != EINTR)
            leave(1);
    tell(CHILD_ENDED, status);
    leave(0);
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

/* Reap what has ended; false: no child is left, or the holder was killed. */
static bool reap(pid_t holder)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid == holder && status != 0) {
            tell(CHILD_UNKEPT, 0);
            return false;
        }
        if (pid == 0)
            return true;
        if (pid < 0 && errno != EINTR)
            return false;
    }
}

/* Descriptors in their places, all others closed. */
static void arrange_fds(const struct keeper_plan *plan)
{
    int passed = plan->passed, control = plan->control;
    int folder = plan->folder_fd;

    /* out of the way of the places first */
    passed = passed < 0 ? -1 : fcntl(passed, F_DUPFD, 10);
    control = fcntl(control, F_DUPFD, 10);
    folder = folder < 0 ? -1 : fcntl(folder, F_DUPFD, 10);
    dup2(plan->null, STDIN_FILENO);
    dup2(plan->output, STDOUT_FILENO);
    dup2(plan->output, STDERR_FILENO);
    if (passed >= 0)
        dup2(passed, KEEPER_PASSED);
    else
        close(KEEPER_PASSED);
    dup3(control, CONTROL, O_CLOEXEC);
    if (folder >= 0)
        dup3(folder, FOLDER, O_CLOEXEC);
    else
        close(FOLDER);
    close_range(FOLDER + 1, ~0u, 0);
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

/* Start the holder. The back-end's pid, or 0: there is none. */
static pid_t start_holder(const struct keeper_plan *plan, pid_t *holder)
{
    pid_t keeper = getpid(), backend = 0;
    int pids[2];

    if (pipe2(pids, O_CLOEXEC) < 0 || (*holder = fork()) < 0) {
        tell(CHILD_NOT_STARTED, errno);
        return 0;
    }
    if (*holder == 0)
        hold(plan, keeper, pids[1]);
    close_backend_fds();
    close(pids[1]);
    if (read(pids[0], &backend, sizeof backend) != sizeof backend)
        backend = 0;
    close(pids[0]);
    return backend;
}

_Noreturn void keeper_run(const struct keeper_plan *plan)
{
    struct pollfd polled[2] = { { .fd = CONTROL, .events = POLLIN },
                                { .events = POLLIN } };
    pid_t holder = -1, backend;

    setsid();
    prctl(PR_SET_NAME, "husk-keeper");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    arrange_fds(plan);
    polled[1].fd = child_signals();
    backend = start_holder(plan, &holder);
    while (backend > 0 && reap(holder)) {
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
            break;
        }
    }
    while (kill_children())
        ;
    if (plan->folder_fd >= 0)
        sweep_folder(FOLDER);
    if (plan->folder[0])
        rmdir(plan->folder);
    leave(0);
}
