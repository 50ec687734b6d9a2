/*
 * The command line, as far as it goes without KVM: what is not understood is
 * refused at once with status 125 and one line that says what to give, and
 * nothing of it is on stdout.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WORDS    10

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

/* Start husk, found beside the folder of this program. */
static pid_t start(const char *const words[WORDS], int out, int err)
{
    const char *argv[WORDS + 2] = { "husk" };
    char self[PATH_MAX], path[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    pid_t pid;

    cr_assert(n > 0 && out >= 0 && err >= 0);
    self[n] = 0;
    snprintf(path, sizeof path, "%s/../husk", dirname(self));
    cr_assert_eq(access(path, X_OK), 0, "%s is not there", path);
    for (unsigned i = 0; i < WORDS && words[i]; i++)
        argv[i + 1] = words[i];
    pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        alarm(20);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    return pid;
}

static void run(struct outcome *outcome, const char *const words[WORDS])
{
    int out = memfd_create("out", MFD_CLOEXEC);
    int err = memfd_create("err", MFD_CLOEXEC);
    pid_t pid = start(words, out, err);
    int status;

    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    outcome->status = WEXITSTATUS(status);
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
        { { NULL }, "run, probe, help or version" },
        { { "" }, "run, probe, help or version" },
        { { "boot" }, "'boot' is not a command" },
        { { "Run" }, "not a command" },
        { { "-m", "64" }, "not a command" },
        { { "run" }, "no KERNEL" },
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
        { { "run", "--timeline=3", "k" }, "--timeline takes no value" },
        { { "run", "--json", "", "k" }, "--json needs the path of a file" },
        { { "run", "--console=", "k" }, "--console needs the path" },
        { { "run", "--dump-dtb=" }, "--dump-dtb needs the path" },
        { { "run", "--json" }, "--json needs a value: see husk help run" },
        /* of the design, and not built: refused, not ignored */
        { { "test", "k" }, "'test' is not a command" },
        { { "matrix", "f" }, "'matrix' is not a command" },
        { { "run", "--dtb", "f", "k" }, "unknown option --dtb" },
        { { "run", "--firmware", "f", "k" }, "unknown option --firmware" },
        { { "run", "--require-drivers", "k" }, "unknown option --require-d" },
        { { "run", "--sandbox", "on", "k" }, "unknown option --sandbox" },
        { { "run", "k", "--", "ls" }, "'ls' is one argument too many" },
        /* standard input is the console's */
        { { "run", "-" }, "KERNEL -: standard input" },
        { { "run", "--", "-" }, "KERNEL -: standard input" },
        { { "run", "-i", "-", "k" }, "-i -: standard input" },
        { { "run", "-i", "a", "--initrd=-", "k" }, "-i -: standard input" },
        { { "run", "-d", "socket=/x,config=@-", "k" }, "config=@-" },
        { { "help", "boot" }, "'boot' is not a command" },
        { { "help", "run", "x" }, "'x' is one argument too many" },
        { { "version", "x" }, "'x' is one argument too many" },
        { { "-V", "x" }, "'x' is one argument too many" },
        { { "probe" }, "no SPEC" },
        { { "probe", "--json" }, "no SPEC" },
        { { "probe", "a", "b" }, "'b' is one argument too many" },
        { { "probe", "--frob", "a" }, "unknown option --frob" },
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
        { { "help" }, "husk run" },
        { { "help" }, "husk version" },
        { { "help", "run" }, "husk run [options] KERNEL" },
        { { "help", "run" }, "  -m, --memory SIZE  " },
        { { "help", "run" }, "      --console FILE  " },
        { { "help", "run" }, "      --timeline  " },
        { { "help", "run" }, "Exit status" },
        { { "help", "probe" }, "husk probe [options] SPEC" },
        { { "help", "probe" }, "--json" },
        { { "help", "help" }, "husk help" },
        { { "help", "version" }, "husk version" },
        { { "run", "--help" }, "husk run [options] KERNEL" },
        { { "run", "-h", "k" }, "--memory" },
        { { "probe", "--help" }, "husk probe [options] SPEC" },
        { { "--version" }, "husk 0." },
        { { "version" }, "husk 0." },
        { { "-V" }, "husk 0." },
        { { "run", "-V" }, "husk 0." },
        { { "probe", "-V", "x", "y" }, "husk 0." },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct outcome outcome;

        run(&outcome, rows[i].words);
        cr_assert_eq(outcome.status, 0, "row %u: %d", i, outcome.status);
        cr_assert_str_empty(outcome.err);
        cr_assert_not_null(strstr(outcome.out, rows[i].says), "%s",
                           outcome.out);
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

/* A folder of the case's own, which is where it runs. */
static void enter_folder(void)
{
    static char folder[] = "/tmp/husk-options-XXXXXX";

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

static void leave_folder(void)
{
    char folder[PATH_MAX], command[PATH_MAX + 16];

    cr_assert_not_null(getcwd(folder, sizeof folder));
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(outputs, .init = enter_folder, .fini = leave_folder, .timeout = 60);

static size_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

    cr_assert_geq(n, 0);
    text[n] = 0;
    if (fd >= 0)
        close(fd);
    return (size_t)n;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

/* Standard output holds the one thing that was asked for, whole. */
Test(outputs, dash_is_standard_output)
{
    const char *tree[WORDS] = { "run", "--dump-dtb", "-" };
    const char *record[WORDS] = { "run", "--json", "-", "--dump-dtb", "tree" };
    const char *both[WORDS] = { "run", "--json", "record", "--dump-dtb", "-" };
    struct outcome outcome;
    char text[8192];

    run(&outcome, tree);
    cr_assert_eq(outcome.status, 0, "%s", outcome.err);
    cr_assert_eq(memcmp(outcome.out, "\xd0\x0d\xfe\xed", 4), 0);
    run(&outcome, record);
    cr_assert_eq(outcome.status, 0, "%s", outcome.err);
    cr_assert_eq(strncmp(outcome.out, "{\n  \"outcome\": \"pass\",\n", 23), 0,
                 "%s", outcome.out);
    cr_assert_str_eq(outcome.out + strlen(outcome.out) - 3, "\n}\n");
    cr_assert_gt(read_file("tree", text, sizeof text), 100u);
    run(&outcome, both);
    cr_assert_eq(outcome.status, 0, "%s", outcome.err);
    cr_assert_eq(memcmp(outcome.out, "\xd0\x0d\xfe\xed", 4), 0);
    cr_assert_gt(read_file("record", text, sizeof text), 100u);
    cr_assert_lt(access("-", F_OK), 0, "a file of the name -");
}

/* Two things for standard output, or for one file: refused, and nothing of
 * either is written there. */
Test(outputs, one_owner)
{
    static const struct {
        const char *words[WORDS];
        const char *says;
    } rows[] = {
        { { "run", "--json", "-", "k" }, "the guest's console" },
        { { "run", "--json", "-", "--console", "-", "k" }, "--console FILE" },
        { { "run", "--json=-", "--dump-dtb=-" }, "--json - and --dump-dtb -" },
        { { "run", "--json", "-", "-m", "x", "k" }, "-m x" },
        { { "run", "--json", "f", "--dump-dtb", "f" }, "the same file" },
        { { "run", "--json", "f", "--dump-dtb", "./f" }, "the same file" },
        { { "run", "--json", "f", "--console", "f", "k" }, "the same file" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct outcome outcome;
        char text[8192];

        run(&outcome, rows[i].words);
        cr_assert_eq(outcome.status, 125, "row %u: %d", i, outcome.status);
        cr_assert_str_empty(outcome.out);
        cr_assert_not_null(strstr(outcome.err, rows[i].says), "row %u: %s", i,
                           outcome.err);
        cr_assert_eq(lines(outcome.err), 1, "%s", outcome.err);
        read_file("f", text, sizeof text);
        cr_assert(!text[0] || strstr(text, "\"outcome\": \"error\""), "%s",
                  text);
    }
}

/* Arguments that are wrong: the record says so, with the message. */
Test(outputs, record_of_a_misuse)
{
    static const char *const rows[][WORDS] = {
        { "run", "--json", "record", "-m", "x", "k" },
        { "run", "-m", "x", "--frob", "k", "--json", "record" },
        { "run", "-m", "x", "--json=-", "--console", "c", "k" },
        { "run", "--json", "-", "--dump-dtb", "t", "-m", "x" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct outcome outcome;
        char text[8192];

        run(&outcome, rows[i]);
        cr_assert_eq(outcome.status, 125);
        cr_assert_str_eq(outcome.err, "husk: -m x: give a size above 0, like "
                                      "256M or 2G\n");
        if (i < 2)
            read_file("record", text, sizeof text);
        else
            strcpy(text, outcome.out);
        cr_assert_not_null(strstr(text, "\"message\": \"-m x: give a size"),
                           "row %u: %s", i, text);
        unlink("record");
    }
}

/* A word that looks like --json and is another option's value names no file. */
Test(outputs, value_that_looks_like_an_option)
{
    const char *words[WORDS] = { "run", "-a", "--json", "kernel", "-m", "x" };
    struct outcome outcome;
    char text[64];

    write_file("kernel", "precious");
    run(&outcome, words);
    cr_assert_eq(outcome.status, 125);
    read_file("kernel", text, sizeof text);
    cr_assert_str_eq(text, "precious");
}

static void make_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
}

/* The far end of a new terminal. */
static const char *make_terminal(void)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    cr_assert(fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0);
    return ptsname(fd);
}

/* Refused at once, before a back-end is started. */
static void check_refused(const char *option, const char *path,
                          const char *says)
{
    const char *words[WORDS] = { "run",  "-d", "exec=touch started",
                                 option, path, "k" };
    struct outcome outcome;

    if (strcmp(option, "--dump-dtb"))
        words[3] = option;
    run(&outcome, words);
    cr_assert_eq(outcome.status, 125, "%s %s: %d", option, path,
                 outcome.status);
    cr_assert_str_empty(outcome.out);
    cr_assert_eq(lines(outcome.err), 1, "%s", outcome.err);
    cr_assert_not_null(strstr(outcome.err, option), "%s", outcome.err);
    cr_assert_not_null(strstr(outcome.err, path), "%s", outcome.err);
    cr_assert_not_null(strstr(outcome.err, says), "%s", outcome.err);
    cr_assert_lt(access("started", F_OK), 0, "%s %s: a back-end was started",
                 option, path);
}

Test(outputs, files_that_cannot_be_written)
{
    static const char *const options[] = { "--json", "--dump-dtb",
                                           "--console" };
    const char *terminal = make_terminal();

    cr_assert_eq(mkfifo("fifo", 0600), 0);
    make_socket("socket");
    for (unsigned i = 0; i < COUNT(options); i++) {
        check_refused(options[i], "fifo", "FIFO");
        check_refused(options[i], "socket", "this is a socket");
        check_refused(options[i], "/tmp", "Is a directory");
        check_refused(options[i], "none/file", "No such file");
        if (i < 2)
            check_refused(options[i], terminal, "this is a terminal");
    }
}

/* A FIFO that is read is as good as a file. */
Test(outputs, fifo_with_a_reader)
{
    const char *words[WORDS] = { "run", "--json", "fifo", "--dump-dtb",
                                 "tree" };
    struct outcome outcome;
    char text[8192];
    ssize_t n;
    int fd;

    cr_assert_eq(mkfifo("fifo", 0600), 0);
    fd = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    run(&outcome, words);
    cr_assert_eq(outcome.status, 0, "%s", outcome.err);
    n = read(fd, text, sizeof text - 1);
    cr_assert_gt(n, 100);
    cr_assert_eq(memcmp(text + n - 3, "\n}\n", 3), 0);
    close(fd);
}

/* A full pipe that nobody empties: given up after 5 s, in a file's place as
 * well as on standard output. */
Test(outputs, fifo_that_is_not_read)
{
    const char *words[WORDS] = { "run", "--dump-dtb", "fifo" };
    static const char full[1 << 16];
    struct outcome outcome;
    int fd;

    cr_assert_eq(mkfifo("fifo", 0600), 0);
    fd = open("fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    cr_assert_geq(fcntl(fd, F_SETPIPE_SZ, 4096), 0);
    cr_assert_gt(write(fd, full, sizeof full), 0);
    run(&outcome, words);
    cr_assert_eq(outcome.status, 125);
    cr_assert_str_eq(outcome.err, "husk: writing --dump-dtb fifo: its reader "
                                  "did not read it within 5 s\n");
    close(fd);
}

/* What an earlier run left is gone, also when there is less to write. */
Test(outputs, files_are_emptied)
{
    const char *words[WORDS] = { "run", "--json", "record", "--dump-dtb",
                                 "tree" };
    static char old[65536];
    struct outcome outcome;
    struct stat st;

    memset(old, 'x', sizeof old - 1);
    write_file("record", old);
    write_file("tree", old);
    run(&outcome, words);
    cr_assert_eq(outcome.status, 0, "%s", outcome.err);
    cr_assert(stat("record", &st) == 0 && st.st_size < 8192);
    cr_assert(stat("tree", &st) == 0 && st.st_size < 8192);
}

/* No byte of it controls a terminal, and no message is lost for its sake. */
Test(outputs, foreign_text)
{
    static const struct {
        const char *word, *shown, *kept;
    } rows[] = {
        { "/n/k\xc3\xa9", "/n/k\xc3\xa9:", "/n/k\\u00E9:" },
        { "/n/\xff", "/n/\\xff:", "/n/\\\\xff:" },
        { "/n/\x9b"
          "2J",
          "/n/\\x9b2J:", "/n/\\\\x9b2J:" },
        { "/n/\xc2\x9b"
          "2J",
          "/n/?2J:", "/n/\\u009B2J:" },
        { "/n/\xc2\x80", "/n/?:", "/n/\\u0080:" },
        { "/n/\xc2\xa0", "/n/\xc2\xa0:", "/n/\\u00A0:" },
        { "/n/\x1b[2J", "/n/?[2J:", "/n/\\u001B[2J:" },
        { "/n/\x7f\n", "/n/??:", "\\n:" },
        { "/n/\xed\xa0\x80", "/n/\\xed\\xa0\\x80:", "\\\\xed" },
        { "/n/\xe2\x82", "/n/\\xe2\\x82:", "\\\\xe2\\\\x82:" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        const char *words[WORDS] = { "run", "--json",     "record", "-d",
                                     NULL,  "--dump-dtb", "tree" };
        struct outcome outcome;
        char text[8192];

        words[4] = rows[i].word;
        run(&outcome, words);
        cr_assert_eq(outcome.status, 125);
        cr_assert_eq(lines(outcome.err), 1, "%s", outcome.err);
        cr_assert_not_null(strstr(outcome.err, rows[i].shown), "row %u: %s", i,
                           outcome.err);
        read_file("record", text, sizeof text);
        cr_assert_not_null(strstr(text, "\"message\": "), "row %u: %s", i,
                           text);
        cr_assert_not_null(strstr(strstr(text, "\"message\": "), rows[i].kept),
                           "row %u: %s", i, text);
    }
}

/* A signal ends probe as it ends run: the caller sees that signal. */
Test(outputs, probe_ends_by_a_signal)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    const char *words[WORDS] = {
        "probe", "deadline=30,exec=sh -c 'touch started; exec sleep 33' {fd}"
    };

    for (unsigned i = 0; i < COUNT(numbers); i++) {
        pid_t pid = start(words, STDOUT_FILENO, STDERR_FILENO);
        int status;

        while (access("started", F_OK) < 0) {
            cr_assert_eq(waitpid(pid, &status, WNOHANG), 0,
                         "it ended before its back-end started");
            usleep(1000);
        }
        kill(pid, numbers[i]);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == numbers[i],
                  "signal %d: status %#x", numbers[i], status);
        unlink("started");
    }
}

/* What is on standard output already, in a file or a pipe, is left there. */
Test(outputs, standard_output_is_shared)
{
    const char *tree[WORDS] = { "run", "--dump-dtb", "-" };
    const char *twice[WORDS] = { "run", "--json", "/proc/self/fd/1", "k" };
    int log = open("log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char text[8192];
    int status, ends[2];
    pid_t pid;

    cr_assert(log >= 0 && write(log, "before", 6) == 6);
    pid = start(tree, log, STDERR_FILENO);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    cr_assert_gt(read_file("log", text, sizeof text), 100u);
    cr_assert_eq(memcmp(text, "before\xd0\x0d\xfe\xed", 10), 0);
    close(log);
    /* the same pipe by another name */
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    pid = start(twice, ends[1], STDERR_FILENO);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(WEXITSTATUS(status), 125);
    text[read(ends[0], text, sizeof text - 1)] = 0;
    cr_assert_not_null(strstr(text, "are the same file"), "%s", text);
}

/* A record that cannot be written is an error, however the run went. */
Test(outputs, record_on_a_full_disk)
{
    const char *words[WORDS] = { "run", "--json", "/dev/full", "--dump-dtb",
                                 "tree" };
    struct outcome outcome;

    run(&outcome, words);
    cr_assert_eq(outcome.status, 125);
    cr_assert_str_eq(outcome.err, "husk: writing --json /dev/full: No space "
                                  "left on device\n");
}

/* Help that cannot be printed is an error too. */
Test(outputs, help_on_a_full_disk)
{
    const char *words[WORDS] = { "help", "run" };
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), status;
    pid_t pid = start(words, full, STDERR_FILENO);

    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 125);
    close(full);
}
