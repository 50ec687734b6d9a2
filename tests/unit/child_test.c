/*
 * Back-ends that are started: what they find, how their end is told, and that
 * nothing of them is left, however they or husk end. A shell plays the
 * back-end; whoever is to be gone holds a FIFO open, whose reader then sees its
 * end.
 */
#include "vmm/link/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/deadline.h"
#include "tests/unit/far.h"

#define SECONDS UINT64_C(1000000000)

struct nest {
    struct child child;
    struct spec spec;
    char folder[32], fifo[40];
    int held; /* its reading end */
    unsigned opened;
};

static struct husk_err err;

static void nest_init(struct nest *nest)
{
    memset(nest, 0, sizeof *nest);
    nest->opened = far_open_fds();
    strcpy(nest->folder, "/tmp/husk-test-XXXXXX");
    cr_assert_not_null(mkdtemp(nest->folder));
    snprintf(nest->fifo, sizeof nest->fifo, "%s/fifo", nest->folder);
    cr_assert_eq(mkfifo(nest->fifo, 0600), 0);
    nest->held = open(nest->fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    cr_assert_geq(nest->held, 0);
    child_init(&nest->child);
}

/* Start a shell script, in which $FIFO is the FIFO. */
static void nest_start(struct nest *nest, const char *script)
{
    char text[1024];
    int n =
        snprintf(text, sizeof text, "env=FIFO,exec=sh -c \"%s\" {fd}", script);

    cr_assert(n > 0 && (size_t)n < sizeof text);
    cr_assert_eq(setenv("FIFO", nest->fifo, 1), 0);
    cr_assert_eq(spec_parse(&nest->spec, text, 0, &err), 0, "%s", err.text);
    cr_assert_eq(child_start(&nest->child, &nest->spec, &err), 0, "%s",
                 err.text);
}

/* Wait until somebody holds the FIFO, by the byte that they write to it. */
static void expect_held(struct nest *nest, unsigned holders)
{
    struct pollfd polled = { .fd = nest->held, .events = POLLIN };

    for (unsigned n = 0; n < holders;) {
        char bytes[64];
        ssize_t got;

        cr_assert_eq(poll(&polled, 1, 100000), 1, "%u of %u came", n, holders);
        got = read(nest->held, bytes, sizeof bytes);
        cr_assert(got > 0 || (got < 0 && errno == EAGAIN),
                  "it went with %u of %u there", n, holders);
        n += got > 0 ? (unsigned)got : 0;
    }
}

/* Nobody holds it any more, before too long. */
static void expect_gone(struct nest *nest)
{
    struct pollfd polled = { .fd = nest->held, .events = POLLIN };
    char byte;

    cr_assert_eq(poll(&polled, 1, 100000), 1, "somebody is still there");
    cr_assert_eq(read(nest->held, &byte, 1), 0);
}

static void nest_fini(struct nest *nest)
{
    child_end(&nest->child, deadline_now());
    cr_assert(child_is_gone(&nest->child));
    spec_fini(&nest->spec);
    close(nest->held);
    unlink(nest->fifo);
    rmdir(nest->folder);
    cr_assert_eq(far_open_fds(), nest->opened, "%d descriptors left",
                 (int)(far_open_fds() - nest->opened));
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a process is left");
}

/* All that the back-end writes until it is gone. */
static char *words_of(struct nest *nest)
{
    static char text[4096];
    size_t size = 0;

    for (;;) {
        struct pollfd polled = { .fd = nest->child.output, .events = POLLIN };
        ssize_t n;

        cr_assert_eq(poll(&polled, 1, 100000), 1, "it does not end");
        n = read(nest->child.output, text + size, sizeof text - 1 - size);
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    text[size] = 0;
    return text;
}

static enum child_news news(struct nest *nest, int *value)
{
    struct pollfd polled = { .fd = nest->child.control, .events = POLLIN };

    cr_assert_eq(poll(&polled, 1, 100000), 1, "no news");
    return child_news(&nest->child, value);
}

/* It talks over the socket, and its words are kept. */
Test(child, connected, .timeout = 20)
{
    struct nest nest;
    char bytes[8] = "";
    int fd;

    nest_init(&nest);
    nest_start(&nest, "echo one; echo two >&2; head -c4 <&3 >&3; exit 7");
    fd = child_take(&nest.child);
    cr_assert_geq(fd, 0);
    cr_assert_eq(child_take(&nest.child), -1);
    cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    cr_assert_eq(write(fd, "ping", 4), 4);
    cr_assert_eq(recv(fd, bytes, 4, MSG_WAITALL), 4);
    cr_assert_str_eq(bytes, "ping");
    cr_assert_str_eq(words_of(&nest), "one\ntwo\n");
    close(fd);
    nest_fini(&nest);
}

/* It has its socket, its output and an empty input, and nothing of husk's. */
Test(child, descriptors, .timeout = 20)
{
    struct nest nest;
    int many[40];
    char *text;

    nest_init(&nest);
    for (unsigned i = 0; i < 40; i++)
        many[i] = dup(nest.held); /* not even close-on-exec */
    nest_start(&nest, "cd /proc/self/fd; echo *; readlink 0; cat");
    /* 4 is the shell's own, to look with */
    text = words_of(&nest);
    cr_assert_str_eq(text, "0 1 2 3 4\n/dev/null\n", "%s", text);
    for (unsigned i = 0; i < 40; i++)
        close(many[i]);
    nest_fini(&nest);
}

/* Start a command, and compare what it writes with the text. */
static void expect_words(const char *text, const char *words)
{
    struct nest nest;
    char *said;

    nest_init(&nest);
    cr_assert_eq(spec_parse(&nest.spec, text, 0, &err), 0, "%s", err.text);
    cr_assert_eq(child_start(&nest.child, &nest.spec, &err), 0, "%s", err.text);
    said = words_of(&nest);
    cr_assert_str_eq(said, words, "%s: '%s'", text, said);
    nest_fini(&nest);
}

#define ENVIRONMENT "exec=sh -c 'tr \\\\0 \\\\n </proc/$$/environ | sort' {fd}"

/* Some of husk's variables, and what it is given. */
Test(child, environment, .timeout = 40)
{
    char many[20];

    clearenv();
    setenv("PATH", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin", 1);
    setenv("LANG", "C", 1);
    setenv("LC_TIME", "C", 1);
    setenv("LCX", "1", 1);
    setenv("PATHS", "1", 1);
    setenv("PAT", "1", 1);
    setenv("SECRET", "1", 1);
    setenv("LD_PRELOAD_", "1", 1);
    setenv("TMPDIR", "/tmp", 1);
    setenv("EMPTY", "", 1);
    expect_words(ENVIRONMENT, "LANG=C\nLC_TIME=C\nPATH=/usr/bin:/bin\n"
                              "TMPDIR=/tmp\n");
    expect_words("env=SECRET,env=NONE,env=A=b=,,c,env=EMPTY,env=LANG=d,"
                 "env=TMPDIR," ENVIRONMENT,
                 "A=b=,c\nEMPTY=\nLANG=d\nLC_TIME=C\nPATH=/usr/bin:/bin\n"
                 "SECRET=1\nTMPDIR=/tmp\n");
    /* more than there is room for */
    for (unsigned i = 0; i < 200; i++) {
        snprintf(many, sizeof many, "LC_%u", i);
        setenv(many, "C", 1);
    }
    expect_words("env=SECRET,exec=sh -c 'tr \\\\0 \\\\n </proc/$$/environ | "
                 "grep -c =; echo $SECRET' {fd}",
                 "65\n1\n");
}

/* Its folder, where its command is looked for, and none such. */
Test(child, working_folder, .timeout = 20)
{
    struct nest nest;
    int value;

    expect_words("dir=/usr/lib,exec=sh -c pwd {fd}", "/usr/lib\n");
    expect_words("dir=/usr/lib,exec=../bin/env echo {fd}", "3\n");
    expect_words("env=PATH=/no/such:bin,dir=/usr,exec=echo {fd}", "3\n");
    nest_init(&nest);
    cr_assert_eq(spec_parse(&nest.spec, "dir=/no/such,exec=true", 0, &err), 0);
    cr_assert_eq(child_start(&nest.child, &nest.spec, &err), 0);
    cr_assert_eq(news(&nest, &value), CHILD_NO_FOLDER);
    cr_assert_eq(value, ENOENT);
    nest_fini(&nest);
}

/* Its limit of descriptors, umask, and a session of its own. */
Test(child, limits, .timeout = 40)
{
    static const struct {
        rlim_t soft, hard;
        const char *words;
    } rows[] = {
        { 4000, 4000, "1024 4000 0077\n" },
        { 1025, 1500, "1024 1500 0077\n" },
        { 1000, 1500, "1000 1500 0077\n" },
        { 900, 900, "900 900 0077\n" },
    };

    umask(022);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rlimit limit = { rows[i].soft, rows[i].hard };

        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        expect_words("exec=sh -c 'echo $(ulimit -Sn) $(ulimit -Hn) $(umask)' "
                     "{fd}",
                     rows[i].words);
    }
    expect_words("exec=sh -c 'set -- $(cat /proc/$$/stat); "
                 "echo $(($6 - $1)) $(($5 - $1)) $7' {fd}",
                 "0 0 0\n");
}

/* Signals are as a new program expects them. */
Test(child, signals, .timeout = 20)
{
    struct nest nest;
    sigset_t all;
    char *text;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 1; i < NSIG; i++)
        if (i != SIGCHLD)
            signal(i, SIG_IGN);
    nest_init(&nest);
    nest_start(&nest, "exec grep -E '^Sig(Blk|Ign)' /proc/self/status");
    text = words_of(&nest);
    cr_assert_str_eq(text,
                     "SigBlk:\t0000000000000000\n"
                     "SigIgn:\t0000000000000000\n",
                     "%s", text);
    nest_fini(&nest);
}

Test(child, ends, .timeout = 20)
{
    struct nest nest;
    int value;

    nest_init(&nest);
    nest_start(&nest, "exit 7");
    cr_assert_eq(news(&nest, &value), CHILD_ENDED);
    cr_assert(WIFEXITED(value) && WEXITSTATUS(value) == 7);
    cr_assert_eq(news(&nest, &value), CHILD_GONE);
    cr_assert_eq(nest.child.fate, CHILD_ENDED);
    cr_assert_eq(WEXITSTATUS(nest.child.fate_value), 7);
    nest_fini(&nest);

    nest_init(&nest);
    nest_start(&nest, "kill -9 $$");
    cr_assert_eq(news(&nest, &value), CHILD_ENDED);
    cr_assert(WIFSIGNALED(value) && WTERMSIG(value) == SIGKILL);
    nest_fini(&nest);
}

Test(child, cannot_be_started, .timeout = 20)
{
    static const struct {
        const char *text;
        int code;
    } rows[] = {
        { "exec=/no/such/program", ENOENT },
        { "exec=no-such-program-anywhere", ENOENT },
        { "exec=/tmp", EACCES },
        { "exec=/dev/null", EACCES },
        { "exec=/no/such/program {listen}", ENOENT },
        { "exec=/no/such/program {socket}", ENOENT },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char folder[64];
        struct nest nest;
        int value;

        nest_init(&nest);
        cr_assert_eq(spec_parse(&nest.spec, rows[i].text, 0, &err), 0);
        cr_assert_eq(child_start(&nest.child, &nest.spec, &err), 0, "%s",
                     err.text);
        strcpy(folder, nest.child.folder);
        cr_assert_eq(news(&nest, &value), CHILD_NOT_STARTED, "%s",
                     rows[i].text);
        cr_assert_eq(value, rows[i].code, "%s: %s", rows[i].text,
                     strerror(value));
        cr_assert_eq(nest.child.fate, CHILD_NOT_STARTED);
        /* the later news do not hide the reason */
        cr_assert_eq(news(&nest, &value), CHILD_ENDED);
        cr_assert_eq(nest.child.fate, CHILD_NOT_STARTED);
        cr_assert_eq(nest.child.fate_value, rows[i].code);
        nest_fini(&nest);
        if (folder[0])
            cr_assert_neq(access(folder, F_OK), 0, "%s is left", folder);
    }
}

static void expect_private(const char *folder)
{
    struct stat st;

    cr_assert_eq(stat(folder, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700, "mode %o", st.st_mode & 07777);
    cr_assert_eq(st.st_uid, geteuid());
}

/* A listening socket is there before the back-end runs; a path is not. Either
 * is in a private folder, which goes with it. */
Test(child, listens, .timeout = 20)
{
    static const char *const texts[] = {
        "exec=sh -c 'echo {listen}; exec sleep 1000'",
        "exec=sh -c 'echo {socket}; echo > {socket}; exec sleep 1000'",
    };

    for (unsigned i = 0; i < 2; i++) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct pollfd polled;
        char text[128] = "";
        struct nest nest;
        char folder[64];

        nest_init(&nest);
        cr_assert_eq(spec_parse(&nest.spec, texts[i], 0, &err), 0);
        cr_assert_eq(child_start(&nest.child, &nest.spec, &err), 0, "%s",
                     err.text);
        cr_assert_eq(child_take(&nest.child), -1);
        strcpy(folder, nest.child.folder);
        expect_private(folder);
        cr_assert_eq(strncmp(nest.child.path, folder, strlen(folder)), 0);
        polled = (struct pollfd){ .fd = nest.child.output, .events = POLLIN };
        cr_assert_eq(poll(&polled, 1, 100000), 1);
        cr_assert_gt(read(nest.child.output, text, sizeof text - 1), 0);
        text[strcspn(text, "\n")] = 0;
        if (i == 0) {
            int fd = socket(AF_UNIX, SOCK_STREAM, 0);

            cr_assert_str_eq(text, "3");
            strcpy(address.sun_path, nest.child.path);
            cr_assert_eq(
                connect(fd, (struct sockaddr *)&address, sizeof address), 0);
            close(fd);
        } else {
            cr_assert_str_eq(text, nest.child.path);
        }
        nest_fini(&nest);
        cr_assert_neq(access(folder, F_OK), 0, "%s is left", folder);
    }
}

/* Asked, it may end by itself; it need not be killed. */
Test(child, asked, .timeout = 20)
{
    uint64_t until = deadline_now() + 200 * SECONDS;
    struct nest nest;

    nest_init(&nest);
    nest_start(&nest, "exec 8>$FIFO; trap 'printf bye >&8; exit 0' TERM; "
                      "printf x >&8; while :; do sleep 0.05; done");
    expect_held(&nest, 1);
    child_end(&nest.child, until);
    cr_assert_lt(deadline_now(), until, "it waited for the deadline");
    expect_held(&nest, 3); /* bye */
    expect_gone(&nest);
    nest_fini(&nest);
}

/* What it writes may wait for husk: no program expects EAGAIN there. */
Test(child, output_blocks, .timeout = 20)
{
    struct nest nest;
    unsigned flags;
    char *text;

    nest_init(&nest);
    nest_start(&nest, "exec cat /proc/self/fdinfo/1");
    text = strstr(words_of(&nest), "flags:");
    cr_assert_not_null(text);
    cr_assert_eq(sscanf(text, "flags: %o", &flags), 1);
    cr_assert_not(flags & O_NONBLOCK);
    nest_fini(&nest);
}

/* Until the back-end, which writes its number, is stopped. */
static void expect_stopped(struct nest *nest)
{
    struct pollfd polled = { .fd = nest->child.output, .events = POLLIN };
    char text[32] = "", path[48], state = 0;

    cr_assert_eq(poll(&polled, 1, 100000), 1);
    cr_assert_gt(read(nest->child.output, text, sizeof text - 1), 0);
    snprintf(path, sizeof path, "/proc/%d/stat", atoi(text));
    while (state != 'T') {
        FILE *file = fopen(path, "re");

        cr_assert_not_null(file, "%s", path);
        cr_assert_eq(fscanf(file, "%*d (sh) %c", &state), 1);
        fclose(file);
        usleep(1000);
    }
}

/* Stopped, it is continued: it could not end by itself otherwise. */
Test(child, asked_while_stopped, .timeout = 40)
{
    uint64_t before = deadline_now();
    struct nest nest;

    nest_init(&nest);
    nest_start(&nest, "exec 8>$FIFO; trap 'printf bye >&8; exit 0' TERM; "
                      "printf x >&8; echo $$; kill -STOP $$; exit 1");
    expect_held(&nest, 1);
    expect_stopped(&nest);
    child_end(&nest.child, before + 20 * SECONDS);
    expect_held(&nest, 3); /* bye */
    expect_gone(&nest);
    nest_fini(&nest);
}

/* And if it does not, it is killed at the deadline. */
Test(child, does_not_listen, .timeout = 20)
{
    uint64_t before, spent;
    struct nest nest;

    nest_init(&nest);
    nest_start(&nest, "exec 8>$FIFO; trap '' TERM; printf x >&8; "
                      "while :; do sleep 0.05; done");
    expect_held(&nest, 1);
    before = deadline_now();
    child_end(&nest.child, before + SECONDS / 2);
    spent = deadline_now() - before;
    cr_assert_geq(spent, SECONDS / 2);
    expect_gone(&nest);
    nest_fini(&nest);
}

/* Whatever it started itself goes with it: in its own process group, in
 * another session, and in sessions inside sessions. */
static const char *const families[] = {
    "exec 8>$FIFO; sleep 1000 & sleep 1000 & printf xx >&8; wait",
    "exec 8>$FIFO; setsid sleep 1000 & printf x >&8; wait",
    "exec 8>$FIFO; setsid sh -c 'setsid sleep 1000 & printf x >&8; sleep 1000' "
    "& "
    "wait",
    "exec 8>$FIFO; setsid sh -c 'setsid sh -c \\\"setsid sleep 1000 & "
    "printf x >&8; exec sleep 1000\\\" & sleep 1000' & wait",
    /* its parent is gone already */
    "exec 8>$FIFO; (setsid sleep 1000 &); (sleep 1000 &); printf x >&8; wait; "
    "sleep 1000",
    "exec 8>$FIFO; (setsid sh -c 'sleep 1000 & printf x >&8; sleep 1000' &); "
    "exit 0",
};

Test(child, families, .timeout = 60)
{
    for (unsigned i = 0; i < sizeof families / sizeof families[0]; i++) {
        struct nest nest;

        nest_init(&nest);
        nest_start(&nest, families[i]);
        expect_held(&nest, 1);
        child_drop(&nest.child);
        expect_gone(&nest);
        nest_fini(&nest);
    }
}

/* A back-end that kills its parent: all of it goes, though husk does nothing
 * about it, and husk is told. */
Test(child, kills_its_parent, .timeout = 60)
{
    static const char *const ends[] = { "kill -9 $PPID; wait",
                                        "kill -9 $PPID; exit 0",
                                        "sleep 0.1; kill -9 $PPID; wait" };

    for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char script[200];
        struct nest nest;
        int value;

        snprintf(script, sizeof script,
                 "exec 8>$FIFO; setsid sleep 1000 & (setsid sleep 1000 &); "
                 "printf x >&8; %s",
                 ends[i]);
        nest_init(&nest);
        nest_start(&nest, script);
        expect_held(&nest, 1);
        expect_gone(&nest);
        cr_assert_eq(news(&nest, &value), CHILD_UNKEPT);
        cr_assert_eq(news(&nest, &value), CHILD_GONE);
        cr_assert_eq(nest.child.fate, CHILD_UNKEPT);
        nest_fini(&nest);
    }
}

#define KEEPER "$(cut -d' ' -f4 /proc/$PPID/stat)"

/* Or its parent's parent: it goes itself. */
Test(child, kills_its_keeper, .timeout = 60)
{
    struct nest nest;
    int value;

    nest_init(&nest);
    nest_start(&nest, "exec 8>$FIFO; printf x >&8; kill -9 " KEEPER "; "
                      "exec sleep 1000");
    expect_held(&nest, 1);
    expect_gone(&nest);
    cr_assert_eq(news(&nest, &value), CHILD_UNKEPT);
    cr_assert_eq(news(&nest, &value), CHILD_GONE);
    nest_fini(&nest);
}

/* Stopped, they kill it all the same. */
Test(child, stops_its_keepers, .timeout = 60)
{
    struct nest nest;

    nest_init(&nest);
    nest_start(&nest, "exec 8>$FIFO; setsid sleep 1000 & "
                      "kill -STOP " KEEPER " $PPID; "
                      "printf x >&8; exec sleep 1000");
    expect_held(&nest, 1);
    child_drop(&nest.child);
    expect_gone(&nest);
    nest_fini(&nest);
}

/* More of them than fit into one look. */
Test(child, large_family, .timeout = 60)
{
    struct nest nest;

    nest_init(&nest);
    nest_start(&nest, "exec 8>$FIFO; i=0; while [ $i -lt 150 ]; do "
                      "(setsid sleep 1000 &); i=$((i + 1)); done; "
                      "printf x >&8; exec sleep 1000");
    expect_held(&nest, 1);
    child_drop(&nest.child);
    expect_gone(&nest);
    nest_fini(&nest);
}

/* husk itself is killed: all of it goes all the same. */
Test(child, husk_is_killed, .timeout = 60)
{
    for (unsigned i = 0; i < sizeof families / sizeof families[0]; i++) {
        char folder[32];
        struct nest nest;
        int tell[2];
        pid_t pid;

        nest_init(&nest);
        cr_assert_eq(pipe(tell), 0);
        pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            nest_start(&nest, families[i]);
            if (write(tell[1], nest.child.folder, 32) != 32)
                _exit(1);
            for (;;)
                pause();
        }
        cr_assert_eq(read(tell[0], folder, 32), 32);
        expect_held(&nest, 1);
        cr_assert_eq(kill(pid, SIGKILL), 0);
        expect_gone(&nest);
        cr_assert_eq(waitpid(pid, NULL, 0), pid);
        close(tell[0]);
        close(tell[1]);
        nest_fini(&nest);
    }
}

/* The private folder goes too. */
Test(child, husk_is_killed_with_a_folder, .timeout = 60)
{
    static const char *const texts[] = { "exec=sleep 1000 {listen}",
                                         "exec=sleep 1000 {socket}" };

    for (unsigned i = 0; i < 2; i++) {
        uint64_t end = deadline_now() + 20 * SECONDS;
        struct child child;
        struct spec spec;
        char folder[32];
        int tell[2];
        pid_t pid;

        cr_assert_eq(pipe(tell), 0);
        pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            child_init(&child);
            if (spec_parse(&spec, texts[i], 0, &err) < 0 ||
                child_start(&child, &spec, &err) < 0 ||
                write(tell[1], child.folder, 32) != 32)
                _exit(1);
            for (;;)
                pause();
        }
        cr_assert_eq(read(tell[0], folder, 32), 32);
        cr_assert_eq(access(folder, F_OK), 0);
        cr_assert_eq(kill(pid, SIGKILL), 0);
        cr_assert_eq(waitpid(pid, NULL, 0), pid);
        while (access(folder, F_OK) == 0 && deadline_left(end) > 0)
            usleep(1000);
        cr_assert_neq(access(folder, F_OK), 0, "%s is left", folder);
        close(tell[0]);
        close(tell[1]);
    }
}

/* Whatever it left in its folder goes too, and nothing that a link leads to. */
Test(child, leaves_files_behind, .timeout = 60)
{
    static const char *const texts[] = {
        "touch f g; mkdir -p d/e/f; touch d/e/f/g; ln -s $OUT/kept l; "
        "ln -s $OUT m; ln -s $OUT d/m; mkfifo p",
        "i=0; while [ $i -lt 600 ]; do echo >some-rather-long-name-$i; "
        "i=$((i + 1)); done; mkdir -m 0 closed",
        "mkdir -p 1/2/3/4/5/6/7/8",
    };

    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[512], kept[64], folder[32];
        struct nest nest;

        nest_init(&nest);
        snprintf(kept, sizeof kept, "%s/kept", nest.folder);
        cr_assert_eq(close(open(kept, O_CREAT | O_WRONLY, 0600)), 0);
        snprintf(text, sizeof text,
                 "env=OUT=%s,exec=sh -c 'cd $(dirname $0); %s; echo' {socket}",
                 nest.folder, texts[i]);
        cr_assert_eq(spec_parse(&nest.spec, text, 0, &err), 0, "%s", err.text);
        cr_assert_eq(child_start(&nest.child, &nest.spec, &err), 0, "%s",
                     err.text);
        strcpy(folder, nest.child.folder);
        cr_assert_str_eq(words_of(&nest), "\n");
        child_end(&nest.child, deadline_now());
        cr_assert_neq(access(folder, F_OK), 0, "%u: %s is left", i, folder);
        cr_assert_eq(access(kept, F_OK), 0, "%u: what a link leads to", i);
        unlink(kept);
        nest_fini(&nest);
    }
}

/* Over and over: no descriptor, process or folder is left. */
Test(child, many, .timeout = 60)
{
    struct nest nest;
    unsigned before = 0;

    nest_init(&nest);
    for (unsigned i = 0; i < 60; i++) {
        const char *text = i % 3 == 0   ? "exec=sleep 1000 {fd}"
                           : i % 3 == 1 ? "exec=sh -c true {listen}"
                                        : "exec=/no/such/thing {socket}";

        spec_fini(&nest.spec);
        cr_assert_eq(spec_parse(&nest.spec, text, 0, &err), 0);
        cr_assert_eq(child_start(&nest.child, &nest.spec, &err), 0, "%s",
                     err.text);
        child_drop(&nest.child);
        if (i == 0)
            before = far_open_fds();
        cr_assert_eq(far_open_fds(), before, "start %u", i);
        cr_assert_eq(nest.child.folder[0], 0);
    }
    nest_fini(&nest);
}
