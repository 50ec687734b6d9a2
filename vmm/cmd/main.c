/* The husk command: its options, and which of its parts does what. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cmd/cmd.h"

#define DEAF_AFTER 1000 /* ms that standard error may take to be read */

/* 24 lines of 80 characters: a screen. */
static const char help[] =
    "husk run [options] KERNEL    boot a guest; its devices are other "
    "processes\n"
    "husk probe SPEC [--json]     ask a back-end what it is, print it, leave\n"
    "  -m, --memory SIZE          256M; K, M, G, T; a bare number is MiB\n"
    "  -c, --cpus N               vCPUs, 1\n"
    "  -i, --initrd FILE          initial RAM disk; several are joined\n"
    "  -a, --append TEXT          kernel command line\n"
    "  -d, --device SPEC          a device, in guest order; may be repeated\n"
    "      --discovery HOW        of devices: auto, acpi, fdt or cmdline\n"
    "      --on-reset WHAT        stop (with status 111) or again (boot "
    "again)\n"
    "      --timeout SECONDS      end the run then, with status 124\n"
    "      --json FILE            write the run's record\n"
    "      --dump-dtb FILE        write the device tree and stop\n"
    "      --timeline             say at the end what came when\n"
    "      --no-window            guests leave KVM_RUN for register reads\n"
    "  -v, --verbose   -h, --help   -V, --version\n"
    "SPEC is a vhost-user socket's path, or key=value,...: socket=PATH id=N "
    "vqs=N\n"
    "  config-size=N config=HEX|@FILE queue-size=N "
    "probe=auto|specs|messages|off\n"
    "  deadline=SECONDS wait=SECONDS reconnect=on|off|SECONDS inband=on|off\n"
    "  name=NAME, and last exec=COMMAND, where {fd}, {listen} or {socket} "
    "stands\n"
    "  for the back-end's end of the line.\n"
    "On a terminal Ctrl-A x leaves. Status: 0-109 the guest's own, 110 panic,\n"
    "  111 reset, 113 no verdict, 114 device lost, 124 timeout, 125 error,\n"
    "  130 left by Ctrl-A x, 128+n signal n.\n";

/* Whether standard error takes a line: nobody who leaves it unread may hold up
 * the loop, but for the first second. */
static bool is_heard(void)
{
    static bool deaf;
    struct pollfd polled = { .fd = STDERR_FILENO, .events = POLLOUT };

    deaf = poll(&polled, 1, deaf ? 0 : DEAF_AFTER) <= 0;
    return !deaf;
}

/* A terminal's controls are not for back-ends and files' names to give. */
void cmd_say(const char *format, ...)
{
    char line[1024] = "husk: ", *out = line;
    size_t prefix = strlen(line);
    va_list args;
    ssize_t n;

    va_start(args, format);
    vsnprintf(line + prefix, sizeof line - prefix - 1, format, args);
    va_end(args);
    for (const char *in = line; *in; in++) {
        bool control = iscntrl((unsigned char)*in) && *in != '\t';

        if (*in != '\r')
            *out++ = control ? '?' : *in;
    }
    *out++ = '\n';
    if (is_heard()) {
        n = write(STDERR_FILENO, line, (size_t)(out - line));
        (void)n; /* there is nobody to tell */
    }
}

/* A size: a number and a binary unit. */
static int take_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGTPE";
    const char *unit;
    char *end;
    unsigned long long number;
    unsigned shift = 20;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || errno)
        return -EINVAL;
    if (*end) {
        unit = strchr(units, toupper((unsigned char)*end));
        if (!unit || end[1])
            return -EINVAL;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (number == 0 || number > UINT64_MAX >> shift)
        return -EINVAL;
    *out = number << shift;
    return 0;
}

static int take_cpus(const char *text, unsigned *out)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (!isdigit((unsigned char)text[0]) || *end || number < 1 ||
        number > 1000000)
        return -EINVAL;
    *out = (unsigned)number;
    return 0;
}

static int take_timeout(const char *text, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return (!isdigit((unsigned char)text[0]) && text[0] != '.') || *end ||
                   !(*out > 0) || *out > 1e9
               ? -EINVAL
               : 0;
}

static int take_discovery(const char *text, enum husk_discovery *out)
{
    static const char *const names[] = { "auto", "acpi", "fdt", "cmdline" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(text, names[i])) {
            *out = (enum husk_discovery)i;
            return 0;
        }
    cmd_say("--discovery %s: give auto, acpi, fdt or cmdline", text);
    return CMD_ERROR;
}

enum {
    OPT_DUMP_DTB = 256,
    OPT_TIMEOUT,
    OPT_JSON,
    OPT_NO_WINDOW,
    OPT_ON_RESET,
    OPT_DISCOVERY,
    OPT_TIMELINE
};

static const struct option long_options[] = {
    { "memory", required_argument, NULL, 'm' },
    { "cpus", required_argument, NULL, 'c' },
    { "initrd", required_argument, NULL, 'i' },
    { "append", required_argument, NULL, 'a' },
    { "device", required_argument, NULL, 'd' },
    { "dump-dtb", required_argument, NULL, OPT_DUMP_DTB },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "json", required_argument, NULL, OPT_JSON },
    { "discovery", required_argument, NULL, OPT_DISCOVERY },
    { "on-reset", required_argument, NULL, OPT_ON_RESET },
    { "timeline", no_argument, NULL, OPT_TIMELINE },
    { "no-window", no_argument, NULL, OPT_NO_WINDOW },
    { "verbose", no_argument, NULL, 'v' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

static int take_option(struct cmd_options *options, int option)
{
    switch (option) {
    case 'm':
        if (take_size(optarg, &options->memory) == 0)
            return 0;
        cmd_say("-m %s: give a size above 0, like 256M or 2G", optarg);
        return CMD_ERROR;
    case 'c':
        if (take_cpus(optarg, &options->cpus) == 0)
            return 0;
        cmd_say("-c %s: give a number of vCPUs, at least 1", optarg);
        return CMD_ERROR;
    case 'a':
        options->append = optarg;
        return 0;
    case 'i':
        options->initrds[options->n_initrds++] = optarg;
        return 0;
    case OPT_DISCOVERY:
        return take_discovery(optarg, &options->discovery);
    case 'd':
        options->devices[options->n_devices++] = optarg;
        return 0;
    case OPT_DUMP_DTB:
        options->dump_dtb = optarg;
        return 0;
    case OPT_TIMEOUT:
        if (take_timeout(optarg, &options->timeout) == 0)
            return 0;
        cmd_say("--timeout %s: give seconds above 0", optarg);
        return CMD_ERROR;
    case OPT_JSON:
        options->json = optarg;
        return 0;
    case OPT_ON_RESET:
        options->reset_again = !strcmp(optarg, "again");
        if (options->reset_again || !strcmp(optarg, "stop"))
            return 0;
        cmd_say("--on-reset %s: give stop or again", optarg);
        return CMD_ERROR;
    case OPT_TIMELINE:
        options->timeline = true;
        return 0;
    case OPT_NO_WINDOW:
        options->no_window = true;
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    }
    return CMD_ERROR;
}

/* getopt's own message does not say what to do. */
static int bad_option(int argc, char **argv, int option)
{
    const char *word = optind > 0 && optind <= argc ? argv[optind - 1] : "";

    if (option == ':')
        cmd_say("%s needs a value: see husk --help", word);
    else if (optopt && optopt < 256)
        cmd_say("unknown option -%c: see husk --help", optopt);
    else
        cmd_say("unknown option %s: see husk --help", word);
    return CMD_ERROR;
}

/* A record is written on failure too, also where --json comes after what was
 * not understood. */
static void record_misuse(struct cmd_options *options)
{
    int rc;

    for (int i = 2; i < options->argc && !options->json; i++) {
        if (!strncmp(options->argv[i], "--json=", 7))
            options->json = options->argv[i] + 7;
        else if (!strcmp(options->argv[i], "--json") && i + 1 < options->argc)
            options->json = options->argv[i + 1];
    }
    if (!options->json)
        return;
    rc = cmd_write_record(options, NULL, "error", CMD_ERROR, -1,
                          "the command line was not understood");
    if (rc < 0)
        cmd_say("writing the record %s: %s", options->json, strerror(-rc));
}

static int run(int argc, char **argv, const struct cmd_clock *clock)
{
    struct cmd_options options = { .argc = argc, .clock = *clock };
    int option, status = 0;

    options.devices = calloc((size_t)argc + 1, sizeof *options.devices);
    options.initrds = calloc((size_t)argc + 1, sizeof *options.initrds);
    options.argv = calloc((size_t)argc + 1, sizeof *options.argv);
    if (!options.devices || !options.initrds || !options.argv)
        return CMD_ERROR;
    /* getopt_long() sorts argv; the record holds it as it was */
    memcpy(options.argv, argv, (size_t)argc * sizeof *argv);
    optind = 2;
    while (status == 0 && (option = getopt_long(argc, argv, ":m:c:i:a:d:vhV",
                                                long_options, NULL)) != -1) {
        if (option == 'h' || option == 'V') {
            fputs(option == 'h' ? help : "husk " HUSK_VERSION "\n", stdout);
            goto out;
        }
        status = option == ':' || option == '?' ? bad_option(argc, argv, option)
                                                : take_option(&options, option);
    }
    if (status == 0 && optind < argc)
        options.kernel = argv[optind++];
    if (status == 0 && optind < argc) {
        cmd_say("'%s' is one argument too many: husk run takes one kernel",
                argv[optind]);
        status = CMD_ERROR;
    }
    if (status == 0 && !options.kernel && !options.dump_dtb) {
        cmd_say("no kernel was given: husk run [options] KERNEL");
        status = CMD_ERROR;
    }
    cmd_clock_arguments(&options.clock);
    if (status == 0)
        status = cmd_run(&options);
    else
        record_misuse(&options);
out:
    free(options.devices);
    free(options.initrds);
    free(options.argv);
    return status;
}

static int probe(int argc, char **argv)
{
    const char *spec = NULL;
    bool json = false;

    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) {
            json = true;
        } else if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
            fputs(help, stdout);
            return 0;
        } else if (argv[i][0] == '-' || spec) {
            cmd_say("'%s' is not understood: husk probe SPEC [--json]",
                    argv[i]);
            return CMD_ERROR;
        } else {
            spec = argv[i];
        }
    }
    if (!spec) {
        cmd_say("no device was given: husk probe SPEC [--json]");
        return CMD_ERROR;
    }
    return cmd_probe(spec, json);
}

/* A standard descriptor that is closed would become one of husk's own. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", O_RDWR); /* the lowest that is free: this one */
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    struct cmd_clock clock;

    cmd_clock_main(&clock);
    fill_standard_descriptors();
    if (!strcmp(verb, "run"))
        return run(argc, argv, &clock);
    if (!strcmp(verb, "probe"))
        return probe(argc, argv);
    if (!strcmp(verb, "--help") || !strcmp(verb, "-h")) {
        fputs(help, stdout);
        return 0;
    }
    if (!strcmp(verb, "--version") || !strcmp(verb, "-V")) {
        puts("husk " HUSK_VERSION);
        return 0;
    }
    if (*verb)
        cmd_say("'%s' is not a command: give run or probe, or --help", verb);
    else
        cmd_say("give a command: run or probe, or --help");
    return CMD_ERROR;
}
