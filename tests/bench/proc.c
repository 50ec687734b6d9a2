/* Programs that are started and timed, and what /proc says of them. */
#include "tests/bench/bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_BYTE 60.0 /* seconds */

const char *text(const char *format, ...)
{
    va_list args;
    char *made;

    va_start(args, format);
    if (vasprintf(&made, format, args) < 0)
        die("out of memory");
    va_end(args);
    return made;
}

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void nap(double duration)
{
    struct timespec time = { (time_t)duration,
                             (long)((duration - (time_t)duration) * 1e9) };

    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
}

/* In the child, which shares memory with its parent until the execve(): the
 * fork is not the program's doing, so the clock starts here. */
static void become(const int in[2], const int out[2], int err,
                   const char *const *argv, volatile double *began)
{
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    *began = seconds();
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

void proc_start(const struct bench *bench, struct proc *proc,
                const char *const *argv)
{
    int in[2], out[2], err;
    volatile double began = 0;

    *proc = (struct proc){ .pid = -1, .in = -1, .out = -1 };
    err = open(text("%s/stderr", bench->folder),
               O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (err < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        die("starting %s: %s", argv[0], strerror(errno));
    proc->pid = vfork();
    if (proc->pid == 0)
        become(in, out, err, argv, &began);
    if (proc->pid < 0)
        die("starting %s: %s", argv[0], strerror(errno));
    proc->began = began;
    proc->in = in[1];
    proc->out = out[0];
    close(in[0]);
    close(out[1]);
    close(err);
}

double proc_first_byte(struct proc *proc)
{
    double deadline = seconds() + FIRST_BYTE;

    while (seconds() < deadline) {
        struct pollfd polled = { .fd = proc->out, .events = POLLIN };
        ssize_t n;

        if (poll(&polled, 1, 100) <= 0)
            continue;
        n = read(proc->out, proc->said, sizeof proc->said - 1);
        if (n > 0) {
            proc->size = (size_t)n;
            return seconds() - proc->began;
        }
        if (n == 0)
            break;
    }
    return -1;
}

static void drain(struct proc *proc, double deadline)
{
    char bytes[4096];
    double left;

    while ((left = deadline - seconds()) > 0) {
        struct pollfd polled = { .fd = proc->out, .events = POLLIN };

        if (poll(&polled, 1, (int)(left * 1000) + 1) > 0 &&
            read(proc->out, bytes, sizeof bytes) <= 0)
            return;
    }
}

int proc_end(struct proc *proc, double limit)
{
    double deadline = seconds() + limit;
    int status = 0;
    pid_t pid;

    if (proc->pid <= 0)
        return 127;
    drain(proc, deadline);
    while ((pid = waitpid(proc->pid, &status, WNOHANG)) == 0 &&
           seconds() < deadline)
        nap(0.0005);
    if (pid == 0) {
        kill(proc->pid, SIGKILL);
        waitpid(proc->pid, &status, 0);
    }
    close(proc->in);
    close(proc->out);
    proc->pid = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void proc_stop(struct proc *proc, int signal)
{
    if (proc->pid > 0)
        kill(proc->pid, signal);
    proc_end(proc, 5);
}

int proc_run(const struct bench *bench, const char *const *argv, double limit)
{
    struct proc proc;

    proc_start(bench, &proc, argv);
    return proc_end(&proc, limit);
}

bool proc_urgent(bool urgent)
{
    struct sched_param param = { .sched_priority = urgent ? 1 : 0 };

    return sched_setscheduler(0, urgent ? SCHED_RR : SCHED_OTHER, &param) == 0;
}

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[400];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

static bool read_peak(pid_t pid, struct resident *out)
{
    FILE *file = open_proc(pid, "status");
    char line[512];
    bool found = false;

    while (file && fgets(line, sizeof line, file))
        found |= sscanf(line, "VmHWM: %lf", &out->peak) == 1;
    if (file)
        fclose(file);
    return found;
}

bool proc_resident(pid_t pid, struct resident *out)
{
    FILE *file = open_proc(pid, "smaps");
    char line[1024];
    bool guest = false;

    *out = (struct resident){ 0 };
    if (!file)
        return false;
    while (fgets(line, sizeof line, file)) {
        double size;

        /* a mapping's first line has its address and name */
        if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' '))
            guest = strstr(line, "memfd:husk-memory") != NULL;
        if (sscanf(line, "Rss: %lf", &size) == 1) {
            out->now += size;
            if (guest)
                out->guest += size;
        }
    }
    fclose(file);
    return read_peak(pid, out) && out->now > 0;
}

unsigned proc_descriptors(pid_t pid)
{
    char path[64];
    unsigned n = 0;
    DIR *folder;
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    folder = opendir(path);
    while (folder && (entry = readdir(folder)))
        n += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    return n;
}

/* One thread's time on a processor; schedstat counts in nanoseconds. */
static double thread_cpu(pid_t pid, const char *thread, const char *name)
{
    char path[300], comm[32] = "";
    double ns = -1;
    FILE *file;

    snprintf(path, sizeof path, "task/%s/comm", thread);
    file = open_proc(pid, path);
    if (file && fgets(comm, sizeof comm, file))
        comm[strcspn(comm, "\n")] = 0;
    if (file)
        fclose(file);
    if (name && strcmp(comm, name) != 0)
        return -1;
    snprintf(path, sizeof path, "task/%s/schedstat", thread);
    file = open_proc(pid, path);
    if (file && fscanf(file, "%lf", &ns) != 1)
        ns = -1;
    if (file)
        fclose(file);
    return ns < 0 ? -1 : ns / 1e9;
}

double proc_cpu(pid_t pid, const char *name)
{
    char path[64];
    double sum = -1;
    DIR *folder;
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        double one =
            entry->d_name[0] == '.' ? -1 : thread_cpu(pid, entry->d_name, name);

        if (one >= 0)
            sum = sum < 0 ? one : sum + one;
    }
    if (folder)
        closedir(folder);
    return sum;
}
