/* Back-ends that listen on sockets of their own, and husk's command line. */
#include "tests/bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_WORDS 128

/* Whether somebody listens there. The connection made for it is dropped. */
static bool listens(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes;

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    yes = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return yes;
}

void backends_start(const struct bench *bench, struct backends *all, unsigned n,
                    const char *program, const char *const *args)
{
    *all = (struct backends){ .n = n };
    for (unsigned i = 0; i < n; i++) {
        const char *argv[MAX_WORDS];
        unsigned words = 0;

        all->socket[i] = text("%s/%s%u", bench->folder, program, i);
        unlink(all->socket[i]);
        argv[words++] = text("%s/backends/%s", bench->build, program);
        argv[words++] = text("--socket-path=%s", all->socket[i]);
        for (const char *const *a = args; a && *a && words < MAX_WORDS - 1;)
            argv[words++] = *a++;
        argv[words] = NULL;
        proc_start(bench, &all->proc[i], argv);
    }
    for (unsigned i = 0; i < n; i++) {
        double deadline = seconds() + 10;

        while (!listens(all->socket[i])) {
            if (seconds() > deadline)
                die("%s does not listen on %s", program, all->socket[i]);
            nap(0.002);
        }
    }
    nap(0.02); /* so that it has seen the trial's end */
}

void backends_stop(struct backends *all)
{
    for (unsigned i = 0; i < all->n; i++)
        kill(all->proc[i].pid, SIGTERM);
    for (unsigned i = 0; i < all->n; i++) {
        proc_end(&all->proc[i], 5);
        unlink(all->socket[i]);
    }
    all->n = 0;
}

const char *const *husk_argv(const struct bench *bench, const char *kernel,
                             const struct backends *all, unsigned n,
                             const char *const *args)
{
    const char **argv = calloc(MAX_WORDS, sizeof *argv);
    unsigned words = 0;

    if (!argv)
        die("out of memory");
    argv[words++] = text("%s/husk", bench->build);
    argv[words++] = "run";
    argv[words++] = text("%s/guests/%s.elf", bench->build, kernel);
    for (unsigned i = 0; i < n; i++) {
        argv[words++] = "-d";
        argv[words++] = all->socket[i];
    }
    while (args && *args && words < MAX_WORDS - 1)
        argv[words++] = *args++;
    return argv;
}
