/* The tables of options, and parsing by them. See options.h. */
#include "vmm/cmd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmd/values.h"

#define MAX_ROWS 32
#define MAX_CPUS 1000000 /* so that the library's text names the limit */
#define LONG     256     /* getopt's value for row 0; above every letter */

int cmd_refuse(struct husk_err *err, int code, const char *format, ...)
{
    va_list args;

    err->code = code;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return code;
}

static int take_memory(struct cmd_options *options, const char *value,
                       struct husk_err *err)
{
    if (cmd_take_size(value, &options->memory) == 0)
        return 0;
    return cmd_refuse(err, -EINVAL,
                      "-m %s: give a size above 0, like 256M or 2G", value);
}

static int take_cpus(struct cmd_options *options, const char *value,
                     struct husk_err *err)
{
    if (cmd_take_number(value, 1, MAX_CPUS, &options->cpus) == 0)
        return 0;
    return cmd_refuse(err, -EINVAL, "-c %s: give a number of vCPUs, at least 1",
                      value);
}

/* Standard input is the guest's console, and nothing else is read from it. */
static int check_input(const char *option, const char *path,
                       struct husk_err *err)
{
    if (strcmp(path, "-"))
        return 0;
    return cmd_refuse(err, -EINVAL,
                      "%s -: standard input is the guest's console: give a "
                      "file (./- if it has that name)",
                      option);
}

static int take_initrd(struct cmd_options *options, const char *value,
                       struct husk_err *err)
{
    options->initrds[options->n_initrds++] = value;
    return check_input("-i", value, err);
}

static int take_append(struct cmd_options *options, const char *value,
                       struct husk_err *err)
{
    (void)err;
    options->append = value;
    return 0;
}

static int take_device(struct cmd_options *options, const char *value,
                       struct husk_err *err)
{
    (void)err;
    options->devices[options->n_devices++] = value;
    return 0;
}

static int take_discovery(struct cmd_options *options, const char *value,
                          struct husk_err *err)
{
    static const char *const words[] = { "auto", "acpi", "fdt", "cmdline",
                                         NULL };
    unsigned which;

    if (cmd_take_word(value, words, &which) < 0)
        return cmd_refuse(err, -EINVAL,
                          "--discovery %s: give auto, acpi, fdt or cmdline",
                          value);
    options->discovery = (enum husk_discovery)which;
    return 0;
}

static int take_on_reset(struct cmd_options *options, const char *value,
                         struct husk_err *err)
{
    static const char *const words[] = { "stop", "again", NULL };
    unsigned which;

    if (cmd_take_word(value, words, &which) < 0)
        return cmd_refuse(err, -EINVAL, "--on-reset %s: give stop or again",
                          value);
    options->reset_again = which == 1;
    return 0;
}

static int take_timeout(struct cmd_options *options, const char *value,
                        struct husk_err *err)
{
    if (cmd_take_seconds(value, &options->timeout) == 0)
        return 0;
    return cmd_refuse(err, -EINVAL, "--timeout %s: give seconds above 0",
                      value);
}

static int take_output(struct cmd_options *options, enum cmd_output output,
                       const char *option, const char *value,
                       struct husk_err *err)
{
    if (!*value)
        return cmd_refuse(err, -EINVAL,
                          "%s needs the path of a file, or - for standard "
                          "output",
                          option);
    options->output[output] = value;
    return 0;
}

static int take_json(struct cmd_options *options, const char *value,
                     struct husk_err *err)
{
    return take_output(options, CMD_OUTPUT_JSON, "--json", value, err);
}

static int take_dump_dtb(struct cmd_options *options, const char *value,
                         struct husk_err *err)
{
    return take_output(options, CMD_OUTPUT_DTB, "--dump-dtb", value, err);
}

static int take_console(struct cmd_options *options, const char *value,
                        struct husk_err *err)
{
    return take_output(options, CMD_OUTPUT_CONSOLE, "--console", value, err);
}

#define FLAG(field)                                                            \
    static int take_##field(struct cmd_options *options, const char *value,    \
                            struct husk_err *err)                              \
    {                                                                          \
        (void)value;                                                           \
        (void)err;                                                             \
        options->field = true;                                                 \
        return 0;                                                              \
    }

FLAG(timeline)
FLAG(no_window)
FLAG(verbose)
FLAG(as_json)
FLAG(help)
FLAG(version)

static const struct cmd_option run_rows[] = {
    { "memory", 'm', "SIZE", "guest memory, 256M; K, M, G, T; without: MiB",
      take_memory },
    { "cpus", 'c', "N", "vCPUs, 1", take_cpus },
    { "initrd", 'i', "FILE", "initial RAM disk; several are joined",
      take_initrd },
    { "append", 'a', "TEXT", "kernel command line", take_append },
    { "device", 'd', "SPEC", "add a device, in guest order; may be repeated",
      take_device },
    { "discovery", 0, "HOW", "of devices: auto, acpi, fdt or cmdline",
      take_discovery },
    { "on-reset", 0, "WHAT", "stop (status 111) or again (boot again)",
      take_on_reset },
    { "timeout", 0, "SECONDS", "end the run then, with status 124",
      take_timeout },
    { "console", 0, "FILE", "write the console's output there, not to stdout",
      take_console },
    { "json", 0, "FILE", "write the run's record; - is stdout", take_json },
    { "dump-dtb", 0, "FILE", "write the device tree and stop; - is stdout",
      take_dump_dtb },
    { "timeline", 0, NULL, "print at the end when each phase was reached",
      take_timeline },
    { "no-window", 0, NULL, "make guests leave KVM_RUN for register reads",
      take_no_window },
    { "verbose", 'v', NULL, "print more messages", take_verbose },
    { "help", 'h', NULL, "print this", take_help },
    { "version", 'V', NULL, "print husk's version", take_version },
    { NULL, 0, NULL, NULL, NULL },
};

static const struct cmd_option probe_rows[] = {
    { "json", 0, NULL, "print JSON", take_as_json },
    { "help", 'h', NULL, "print this", take_help },
    { "version", 'V', NULL, "print husk's version", take_version },
    { NULL, 0, NULL, NULL, NULL },
};

const struct cmd_syntax cmd_run_syntax = { "run", "KERNEL", run_rows };
const struct cmd_syntax cmd_probe_syntax = { "probe", "SPEC", probe_rows };

/* The table as getopt_long() wants it. */
static void make_getopt(const struct cmd_option *rows, struct option *names,
                        char *letters)
{
    unsigned i;

    *letters++ = ':';
    for (i = 0; rows[i].name; i++) {
        names[i] = (struct option){ .name = rows[i].name,
                                    .has_arg = rows[i].argument != NULL,
                                    .val = LONG + (int)i };
        if (!rows[i].letter)
            continue;
        *letters++ = rows[i].letter;
        if (rows[i].argument)
            *letters++ = ':';
    }
    names[i] = (struct option){ 0 };
    *letters = 0;
}

static const struct cmd_option *find(const struct cmd_option *rows, int value)
{
    if (value >= LONG)
        return &rows[value - LONG];
    while (rows->letter != value)
        rows++;
    return rows;
}

/* Why getopt_long() refused; its own message does not say what to do. */
static int bad_option(const struct cmd_syntax *syntax, int argc, char **argv,
                      int value, struct husk_err *err)
{
    const char *word = optind > 0 && optind <= argc ? argv[optind - 1] : "";

    if (value == ':')
        return cmd_refuse(err, -EINVAL,
                          "%.100s needs a value: see husk help %s", word,
                          syntax->command);
    if (optopt >= LONG)
        return cmd_refuse(err, -EINVAL, "--%s takes no value: see husk help %s",
                          syntax->rows[optopt - LONG].name, syntax->command);
    if (optopt)
        return cmd_refuse(err, -EINVAL, "unknown option -%c: see husk help %s",
                          optopt, syntax->command);
    return cmd_refuse(err, -EINVAL, "unknown option %.100s: see husk help %s",
                      word, syntax->command);
}

static int take_operand(struct cmd_options *options,
                        const struct cmd_syntax *syntax, int argc, char **argv,
                        struct husk_err *err)
{
    if (optind < argc)
        options->operand = argv[optind++];
    if (optind < argc)
        return cmd_refuse(err, -EINVAL,
                          "'%.100s' is one argument too many: husk %s takes "
                          "one %s",
                          argv[optind], syntax->command, syntax->operand);
    if (!options->operand && !options->output[CMD_OUTPUT_DTB])
        return cmd_refuse(err, -EINVAL, "no %s was given: husk %s [options] %s",
                          syntax->operand, syntax->command, syntax->operand);
    return options->operand
               ? check_input(syntax->operand, options->operand, err)
               : 0;
}

static bool names_output(const struct cmd_option *row)
{
    return row->take == take_json || row->take == take_console ||
           row->take == take_dump_dtb;
}

/* getopt_long() sorts argv, so the record's copy is made first. */
static int allocate(struct cmd_options *options, int argc, char **argv,
                    struct husk_err *err)
{
    size_t n = (size_t)argc + 1;

    options->argv = calloc(n, sizeof *options->argv);
    options->initrds = calloc(n, sizeof *options->initrds);
    options->devices = calloc(n, sizeof *options->devices);
    if (!options->argv || !options->initrds || !options->devices)
        return cmd_refuse(err, -ENOMEM, "out of memory");
    options->argc = argc;
    memcpy(options->argv, argv, (size_t)argc * sizeof *argv);
    return 0;
}

int cmd_options_parse(struct cmd_options *options,
                      const struct cmd_syntax *syntax, int argc, char **argv,
                      struct husk_err *err)
{
    struct option names[MAX_ROWS];
    char letters[2 * MAX_ROWS + 2];
    struct husk_err later; /* only the first error is reported */
    int value, rc;

    memset(options, 0, sizeof *options);
    rc = allocate(options, argc, argv, err);
    if (rc < 0)
        return rc;
    make_getopt(syntax->rows, names, letters);
    argc--, argv++; /* the command stands where getopt wants the program */
    optind = 0;     /* and begins anew */
    opterr = 0;
    while ((value = getopt_long(argc, argv, letters, names, NULL)) != -1) {
        const struct cmd_option *row;

        if (value == ':' || value == '?') {
            if (rc == 0)
                rc = bad_option(syntax, argc, argv, value, err);
            continue;
        }
        row = find(syntax->rows, value);
        if (rc == 0)
            rc = row->take(options, optarg, err);
        else if (names_output(row))
            row->take(options, optarg, &later);
        if (rc == 0 && (options->help || options->version))
            return 0;
    }
    return rc < 0 ? rc : take_operand(options, syntax, argc, argv, err);
}

void cmd_options_fini(struct cmd_options *options)
{
    free(options->argv);
    free(options->initrds);
    free(options->devices);
    memset(options, 0, sizeof *options);
}
