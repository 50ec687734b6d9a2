/*
 * Runs the tests that Criterion's headers define, each in a process forked for
 * it, without Criterion itself: its arena wants addresses that the thread
 * sanitizer keeps for its own. Takes --list, --tap=FILE and --filter PATTERN,
 * as Criterion does, and ignores its other options. Tests that expect a signal
 * or an exit status are not known here.
 */
#include <criterion/criterion.h>
#include <criterion/event.h>
#include <criterion/stats.h>

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77

extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
/* Absent where no test names its suite. */
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

struct criterion_options criterion_options;

static struct criterion_test *test;
static struct criterion_test_extra_data *suite;
static bool failed; /* the test that runs in this process */

static struct criterion_test_extra_data *suite_of(const char *name)
{
    for (struct criterion_suite **s = __start_cr_sts; s < __stop_cr_sts; s++)
        if (*s && strcmp((*s)->name, name) == 0)
            return (*s)->data;
    return NULL;
}

void criterion_internal_test_setup(void)
{
    if (suite && suite->init)
        suite->init();
    if (test->data->init)
        test->data->init();
}

void criterion_internal_test_main(void (*fn)(void))
{
    fn();
}

void criterion_internal_test_teardown(void)
{
    if (test->data->fini)
        test->data->fini();
    if (suite && suite->fini)
        suite->fini();
}

void criterion_abort_test(void)
{
    exit(1);
}

void criterion_continue_test(void)
{
}

void criterion_skip_test(const char *format, ...)
{
    (void)format;
    exit(SKIPPED);
}

void cri_asserts_passed_incr(void)
{
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
    if (stats->passed)
        return;
    failed = true;
    fprintf(stderr, "%s:%u: %s\n", stats->file, stats->line,
            stats->message ? stats->message : "");
}

/* Which assertion it was stands in the source; the test's own words follow. */
char *cr_translate_assert_msg(int index, ...)
{
    (void)index;
    return strdup("assertion failed");
}

int cr_asprintf(char **out, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(out, format, args);
    va_end(args);
    return n;
}

void cr_asprintf_free(char *text)
{
    free(text);
}

void cr_log(enum criterion_severity severity, const char *format, ...)
{
    va_list args;

    (void)severity;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* The test's exit status; -1 where a signal ended it. */
static int run(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        alarm(600);
        test->test();
        exit(failed);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* Each suite's name and how many tests it has. */
static int list(void)
{
    for (struct criterion_suite **s = __start_cr_sts; s < __stop_cr_sts; s++) {
        unsigned n = 0;

        for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++)
            n += *s && *t && strcmp((*t)->category, (*s)->name) == 0;
        if (n)
            printf("%s: %u tests\n", (*s)->name, n);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *filter = NULL;
    FILE *tap = stdout;
    unsigned failures = 0;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--tap=", 6) == 0)
            tap = fopen(argv[i] + 6, "w");
        else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc)
            filter = argv[++i];
        else if (strcmp(argv[i], "--list") == 0)
            return list();
    }
    for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++) {
        char name[256];
        int status;

        if (!*t)
            continue;
        test = *t;
        snprintf(name, sizeof name, "%s/%s", test->category, test->name);
        if (filter && fnmatch(filter, name, 0) != 0)
            continue;
        suite = suite_of(test->category);
        fflush(NULL);
        status = run();
        fprintf(tap, "%s - %s::%s%s\n",
                status == 0 || status == SKIPPED ? "ok" : "not ok",
                test->category, test->name, status == SKIPPED ? " # SKIP" : "");
        failures += status != 0 && status != SKIPPED;
    }
    return fclose(tap) != 0 || failures;
}
