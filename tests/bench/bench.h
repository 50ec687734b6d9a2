/*
 * What the measurements share: programs that are started and timed, back-ends
 * that listen, and the table of figures beside their goals.
 *
 * A measurement that cannot be made says why in its place in the table and the
 * rest goes on; what must not fail (a pipe, memory) ends the program.
 */
#ifndef HUSK_TESTS_BENCH_H
#define HUSK_TESTS_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Where things are, and how often they are done. */
struct bench {
    const char *build;  /* build folder */
    const char *folder; /* results, logs and sockets go there */
    unsigned runs;      /* of each start */
    struct table *table;
};

/* Texts that live as long as the program. */
const char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* proc.c */

/* A program under way, its standard output a pipe, its standard input one that
 * stays open, its standard error a file in the folder. */
struct proc {
    pid_t pid;
    int in, out;
    double began;   /* seconds: just before its execve() */
    char said[256]; /* its first output */
    size_t size;
};

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

double seconds(void);
void nap(double duration);
void proc_start(const struct bench *bench, struct proc *proc,
                const char *const *argv);
/* Seconds from its execve() to its first byte of output; negative: none came
 * within a minute. */
double proc_first_byte(struct proc *proc);
/* Its end is awaited, or after so many seconds brought about; exit status, or
 * 128 + signal. What it still says is thrown away. */
int proc_end(struct proc *proc, double limit);
void proc_stop(struct proc *proc, int signal);
/* From start to end; its status. */
int proc_run(const struct bench *bench, const char *const *argv, double limit);

/* Of a living process, in KiB: resident at most so far, resident now, and the
 * part of it that is guest memory. */
struct resident {
    double peak, now, guest;
};
bool proc_resident(pid_t pid, struct resident *out);
unsigned proc_descriptors(pid_t pid);
/* Processor seconds of a process's thread so far; by the thread's name, NULL:
 * of all threads; negative: none is called that. */
double proc_cpu(pid_t pid, const char *name);

/* From here on, what is started goes before whatever else this machine does, as
 * far as that is allowed: true if it is. Backwards: as it was before. */
bool proc_urgent(bool urgent);

/* backend.c */

#define MAX_BACKENDS 32u

/* Back-ends, each on a socket of its own, listening. */
struct backends {
    unsigned n;
    struct proc proc[MAX_BACKENDS];
    const char *socket[MAX_BACKENDS];
};

/* program with args beside its socket. */
void backends_start(const struct bench *bench, struct backends *all, unsigned n,
                    const char *program, const char *const *args);
void backends_stop(struct backends *all);

/* husk run with n of the back-ends, then args; the kernel's name first. */
const char *const *husk_argv(const struct bench *bench, const char *kernel,
                             const struct backends *all, unsigned n,
                             const char *const *args);

/* table.c */

#define NO_GOAL (-1.0)

struct table *table_create(const char *path_of_json);
/* A heading; figures below it belong to it. */
void table_group(struct table *table, const char *name);
/* A figure, what it should be at most, or NO_GOAL. note may be NULL. */
void table_add(struct table *table, const char *what, double value,
               const char *unit, double goal, const char *note);
/* One that could not be had. */
void table_missing(struct table *table, const char *what, const char *why);
/* Whatever else belongs into the record; value is taken over. */
void table_record(struct table *table, const char *key, json_t *value);
/* Print all of it and write the record. Number of goals that were missed. */
unsigned table_finish(struct table *table);

/* Both sort the values. */
double median(double *values, unsigned n);
double lower_quartile(double *values, unsigned n);
/* Slope and start of the line through the points by least squares, and how
 * well it fits: 1 is a line. */
struct line {
    double slope, start, fit;
};
struct line fit_line(const double *x, const double *y, unsigned n);

/* A figure's raw values, for the record. */
json_t *values_json(const double *values, unsigned n);

/* host_$(ARCH).c: microseconds that one CPUID takes here. */
double host_cpuid(void);

/* The measurements, one file each. */
void measure_start(const struct bench *bench);
void measure_devices(const struct bench *bench);
void measure_memory(const struct bench *bench);
void measure_path(const struct bench *bench);
void measure_load(const struct bench *bench);
void measure_many(const struct bench *bench);
void measure_size(const struct bench *bench);

#endif
