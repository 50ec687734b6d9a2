/*
 * The command line, as far as it goes without KVM: what is not understood is
 * refused at once with status 125 and one line that says what to give, and
 * nothing of it is on stdout.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WORDS    8

struct outcome {
    int status;
    char out[8192], err[2048];
};

static void text_of(int fd, char *text, size_t size)
{
    ssize_t n = pread(fd, text, size - 1, 0);

    cr_assert_geq(n, 0);
    cr_assert_lt(n, (ssize_t)size - 1, "it says more than %zu bytes", size);
    text[n] = 0;
    close(fd);
}

/* Run husk, found beside the folder of this program. */
static void run(struct outcome *outcome, const char *const words[WORDS])
{
    const char *argv[WORDS + 2] = { "husk" };
    char self[PATH_MAX], path[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    int out = memfd_create("out", MFD_CLOEXEC);
    int err = memfd_create("err", MFD_CLOEXEC);
    int status;
    pid_t pid;

    cr_assert(n > 0 && out >= 0 && err >= 0);
    self[n] = 0;
    snprintf(path, sizeof path, "%s/../husk", dirname(self));
    for (unsigned i = 0; i < WORDS && words[i]; i++)
        argv[i + 1] = words[i];
    pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        alarm(8);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    outcome->status = WEXITSTATUS(status);
    cr_assert_neq(outcome->status, 126, "%s is not there", path);
    text_of(out, outcome->out, sizeof outcome->out);
    text_of(err, outcome->err, sizeof outcome->err);
}

static unsigned lines(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

Test(options, refused, .timeout = 60)
{
    static const struct {
        const char *words[WORDS];
        const char *says;
    } rows[] = {
        { { NULL }, "run or probe" },
        { { "" }, "run or probe" },
        { { "boot" }, "'boot' is not a command" },
        { { "Run" }, "not a command" },
        { { "-m", "64" }, "not a command" },
        { { "run" }, "no kernel" },
        { { "run", "a", "b" }, "'b' is one argument too many" },
        { { "run", "--", "a", "b" }, "one argument too many" },
        { { "run", "-m" }, "-m needs a value" },
        { { "run", "-m", "", "k" }, "size above 0" },
        { { "run", "-m", "0", "k" }, "size above 0" },
        { { "run", "-m", "0G", "k" }, "size above 0" },
        { { "run", "-m", "-1", "k" }, "size above 0" },
        { { "run", "-m", "+1", "k" }, "size above 0" },
        { { "run", "-m", " 1", "k" }, "size above 0" },
        { { "run", "-m", "1.5G", "k" }, "size above 0" },
        { { "run", "-m", "1GB", "k" }, "size above 0" },
        { { "run", "-m", "1X", "k" }, "size above 0" },
        { { "run", "-m", "0x100", "k" }, "size above 0" },
        { { "run", "-m", "17592186044416M", "k" }, "size above 0" },
        { { "run", "-m", "16E", "k" }, "size above 0" },
        { { "run", "-m", "18446744073709551616K", "k" }, "size above 0" },
        { { "run", "-c", "0", "k" }, "at least 1" },
        { { "run", "-c", "-1", "k" }, "at least 1" },
        { { "run", "-c", "1x", "k" }, "at least 1" },
        { { "run", "-c", "", "k" }, "at least 1" },
        { { "run", "-c", "4294967297", "k" }, "at least 1" },
        { { "run", "-c", "18446744073709551617", "k" }, "at least 1" },
        { { "run", "--timeout", "0", "k" }, "above 0" },
        { { "run", "--timeout", "-1", "k" }, "above 0" },
        { { "run", "--timeout", "1s", "k" }, "above 0" },
        { { "run", "--timeout", "nan", "k" }, "above 0" },
        { { "run", "--timeout", "inf", "k" }, "above 0" },
        { { "run", "--timeout", "1e400", "k" }, "above 0" },
        { { "run", "--timeout", "", "k" }, "above 0" },
        { { "run", "--discovery", "pci", "k" }, "auto, acpi, fdt or cmdline" },
        { { "run", "--on-reset", "reboot", "k" }, "stop or again" },
        { { "run", "--no-such-option", "k" }, "unknown option" },
        { { "run", "-q", "k" }, "unknown option -q" },
        { { "run", "-vq", "k" }, "unknown option -q" },
        { { "run", "-d", "id=1", "k" }, "socket=PATH or exec=COMMAND" },
        { { "run", "-d", "frob=1", "k" }, "unknown key 'frob'" },
        { { "run", "-d", "/a", "-d", "vqs=0", "k" }, "device 1: vqs=0" },
        { { "probe" }, "no device" },
        { { "probe", "--json" }, "no device" },
        { { "probe", "a", "b" }, "'b' is not understood" },
        { { "probe", "--frob", "a" }, "'--frob' is not understood" },
        { { "probe", "vqs=0" }, "vqs=0" },
        { { "probe", "/no/such/socket" }, "/no/such/socket" },
        { { "probe", "exec=/no/such/program" }, "/no/such/program" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct outcome outcome;

        run(&outcome, rows[i].words);
        cr_assert_eq(outcome.status, 125, "row %u: status %d, %s", i,
                     outcome.status, outcome.err);
        cr_assert_str_empty(outcome.out);
        cr_assert_not_null(strstr(outcome.err, rows[i].says), "row %u: %s", i,
                           outcome.err);
        cr_assert_eq(strncmp(outcome.err, "husk: ", 6), 0, "%s", outcome.err);
        cr_assert_eq(lines(outcome.err), 1, "%s", outcome.err);
    }
}

/* Help and version are asked for: stdout, status 0. */
Test(options, asked_for, .timeout = 20)
{
    static const struct {
        const char *words[WORDS];
        const char *says;
    } rows[] = {
        { { "--help" }, "husk run" },
        { { "-h" }, "husk run" },
        { { "run", "--help" }, "husk run" },
        { { "run", "-h", "k" }, "--memory" },
        { { "probe", "--help" }, "probe" },
        { { "--version" }, "husk 0." },
        { { "-V" }, "husk 0." },
        { { "run", "-V" }, "husk 0." },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct outcome outcome;

        run(&outcome, rows[i].words);
        cr_assert_eq(outcome.status, 0, "row %u: %d", i, outcome.status);
        cr_assert_str_empty(outcome.err);
        cr_assert_not_null(strstr(outcome.out, rows[i].says), "%s",
                           outcome.out);
        cr_assert_leq(lines(outcome.out), 24, "more than a screen");
        for (const char *c = outcome.out; *c; c += strcspn(c, "\n") + 1)
            cr_assert_leq(strcspn(c, "\n"), 80u, "%.100s", c);
    }
}

/* Sizes in every unit, seen in the tree that is written without KVM. */
Test(options, sizes, .timeout = 30)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {
        { "4M", 4u << 20 },    { "4m", 4u << 20 },      { "4", 4u << 20 },
        { "4096K", 4u << 20 }, { "1G", 1u << 30 },      { "1g", 1u << 30 },
        { "1024", 1u << 30 },  { "65536k", 64u << 20 },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        char path[] = "/tmp/husk-options-XXXXXX";
        const char *words[WORDS] = { "run", "-m", rows[i].text, "--dump-dtb",
                                     path };
        uint8_t want[8], blob[65536];
        struct outcome outcome;
        int fd = mkstemp(path);
        ssize_t size;

        cr_assert_geq(fd, 0);
        run(&outcome, words);
        cr_assert_eq(outcome.status, 0, "%s: %s", rows[i].text, outcome.err);
        size = read(fd, blob, sizeof blob);
        for (unsigned k = 0; k < 8; k++)
            want[k] = (uint8_t)(rows[i].bytes >> 8 * (7 - k));
        cr_assert(size > 40 && memmem(blob, (size_t)size, want, 8),
                  "%s: no such size in the tree", rows[i].text);
        close(fd);
        unlink(path);
    }
}

/* Without a stdin it runs as well. */
Test(options, closed_descriptors, .timeout = 20)
{
    const char *words[WORDS] = { "probe", "vqs=0" };
    struct outcome outcome;

    close(STDIN_FILENO);
    run(&outcome, words);
    cr_assert_eq(outcome.status, 125);
    cr_assert_eq(lines(outcome.err), 1);
}
