/*
 * What the guest tests share: starting husk and back-ends, collecting what they
 * say, and judging how a run ended. Each case has a process and a folder of its
 * own; both go with it, and so does everything that was started.
 */
#ifndef HUSK_TESTS_GUEST_RUN_H
#define HUSK_TESTS_GUEST_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <criterion/criterion.h>
#include <jansson.h>

/*
 * No case measures time. These limits, in seconds, only tell what happens from
 * what never does, on an emulated machine that is busy with other things too.
 */
#define HANGS 900 /* a case that has not ended */
#define LIMIT 200 /* a program that has not ended; struct run's default */
#define SOON  40  /* what no deadline holds up; those are longer, or many */

/* A program under way. The first part is the caller's, all zero by default. */
struct run {
    const char *in; /* standard input; none: /dev/null */
    size_t in_size;
    bool hold_in;  /* standard input stays open when all of it was taken */
    bool pty;      /* standard input and output are a terminal */
    bool keep_out; /* standard output is not read until run_end() */
    double limit;  /* seconds; after them it is killed, and the case fails */

    pid_t pid;
    int in_fd, out_fd, err_fd; /* the ends that are here, or -1 */
    size_t in_done;
    char *out, *err; /* always with a 0 behind */
    size_t out_size, err_size;
    int status;     /* exit status, or 128 + signal */
    bool signalled; /* it was the signal */
    double seconds; /* from start to end */
    json_t *record; /* of --json, if there is one */
    const char *record_path;
    double began;
};

/* For the suites: a folder; and everything put away. */
void harness_init(void);
void harness_fini(void);
/* The same for those that need /dev/kvm: the case is skipped without. */
void harness_init_kvm(void);

/* A text that lives as long as the case. */
const char *fmt(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Paths: of a program that was built, a guest's image, a file in the folder. */
const char *built(const char *name);
const char *guest(const char *name);
const char *place(const char *name);
/* "exec=" and a program that was built with its arguments. */
const char *exec_spec(const char *command);

double now(void);
void nap(double seconds);
/* Whether this is a build with sanitizers. */
bool sanitized(void);
/* Whether loops run as often as they can be made to: LONG=1. */
bool long_form(void);

/*
 * Start argv; wait until its output holds text (false: it ended without); give
 * it more input; wait for its end. run_end() reads the record, too.
 */
void run_start(struct run *run, const char *const *argv);
bool run_until(struct run *run, const char *text);
/* The same of standard error, which holds text so many times. */
bool run_until_said(struct run *run, const char *text, unsigned times);
void run_type(struct run *run, const char *text);
void run_end(struct run *run);
/* What it said is thrown away, and the struct is as new. */
void run_free(struct run *run);

/* From start to end: husk run --json RECORD, and any husk command. */
void run_husk_argv(struct run *run, const char *const *args);
void start_husk_argv(struct run *run, const char *const *args);
void run_argv(struct run *run, const char *const *argv);

#define ARGS(...)            ((const char *const[]){ __VA_ARGS__, NULL })
#define run_husk(run, ...)   run_husk_argv(run, ARGS(__VA_ARGS__))
#define start_husk(run, ...) start_husk_argv(run, ARGS(__VA_ARGS__))
#define run_any(run, ...)    run_argv(run, ARGS(__VA_ARGS__))

/* A back-end on a socket of its own, listening since before it started. */
struct backend {
    struct run run;
    const char *socket;
};

/* program is "husk-rng", ...; listen is its option for the socket's number. */
void backend_start_argv(struct backend *backend, const char *program,
                        const char *listen, const char *const *args);
/* SIGTERM unless it ended by itself; status and words are in backend->run. */
void backend_stop(struct backend *backend);
/* Its end is awaited. */
void backend_end(struct backend *backend);

#define backend_start(backend, program, ...)                                   \
    backend_start_argv(backend, program, "--fd", ARGS(__VA_ARGS__))
#define peer_start(peer, ...)                                                  \
    backend_start_argv(peer, "husk-peer", "--listen-fd", ARGS(__VA_ARGS__))

/* Numbers and texts of the record; they must be there. */
long long record_int(const struct run *run, const char *object,
                     const char *key);
double record_ms(const struct run *run, const char *key);
const char *record_text(const struct run *run, const char *key);
json_t *record_device(const struct run *run, unsigned index);
long long device_int(const struct run *run, unsigned index, const char *key);

/* Exit status, outcome and the record's own status; all that run said. */
void check_end(const struct run *run, int status, const char *outcome);
/* The same, and nothing on stderr. */
void check_quiet_end(const struct run *run, int status, const char *outcome);
/* Stderr is one line of husk's that holds each of the words. */
void check_line_argv(const struct run *run, const char *const *words);
#define check_line(run, ...) check_line_argv(run, ARGS(__VA_ARGS__))
/* Standard output holds text; how often it does. */
void check_out(const struct run *run, const char *text);
unsigned count_text(const char *in, const char *text);

/* Mappings that the C library keeps for further threads. */
#define STACKS 8u

/* Descriptors, threads and mappings of a process; of this one: pid 0. */
struct holdings {
    unsigned fds, threads, maps;
};
struct holdings holdings_of(pid_t pid);
/* Sanitizers map memory as they like, so that mappings count without only. */
bool same_holdings(struct holdings before, struct holdings after);

#define CHECK_EQ(got, want)                                                    \
    do {                                                                       \
        long long got_ = (long long)(got), want_ = (long long)(want);          \
                                                                               \
        cr_assert(got_ == want_, "%s is %lld, not %lld", #got, got_, want_);   \
    } while (0)

#define CHECK_STR(got, want)                                                   \
    do {                                                                       \
        const char *got_ = (got), *want_ = (want);                             \
                                                                               \
        cr_assert(strcmp(got_, want_) == 0, "%s is '%s', not '%s'", #got,      \
                  got_, want_);                                                \
    } while (0)

#endif
