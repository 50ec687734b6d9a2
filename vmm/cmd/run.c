/* husk run: one guest on this terminal, one status, one record. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "vmm/cmd/commands.h"
#include "vmm/cmd/help.h"
#include "vmm/cmd/input.h"
#include "vmm/cmd/loop.h"
#include "vmm/cmd/options.h"
#include "vmm/cmd/output.h"
#include "vmm/cmd/record.h"
#include "vmm/cmd/say.h"

struct run {
    struct cmd_options options;
    struct cmd_outputs outputs;
    const struct cmd_clock *clock;
    struct cmd_loop loop;
    struct cmd_input *input;
    int status;
};

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    const struct run *run = ctx;

    if (level == HUSK_LOG_WARNING || run->options.verbose)
        cmd_say("%s", text);
}

static void write_record(struct run *run, const struct cmd_result *result)
{
    char *text = cmd_record(result);
    struct husk_err err;

    if (!text)
        cmd_refuse(&err, -ENOMEM, "writing the record: out of memory");
    if (!text || cmd_output_write(&run->outputs, &run->options, CMD_OUTPUT_JSON,
                                  text, strlen(text), &err) < 0) {
        cmd_say("%s", err.text);
        run->status = CMD_ERROR;
    }
    free(text);
}

/* The run has this result: print and write what was asked for. */
static void finish(struct run *run, const char *outcome, int status,
                   long guest_value, const char *text)
{
    const struct cmd_result result = {
        .options = &run->options,
        .clock = run->clock,
        .vm = run->loop.vm,
        .outcome = outcome,
        .status = status,
        .guest_value = guest_value,
        .text = text,
    };

    run->status = status;
    if (run->options.timeline && run->loop.vm)
        cmd_timeline_print(run->clock, run->loop.vm);
    if (run->outputs.fds[CMD_OUTPUT_JSON] >= 0)
        write_record(run, &result);
}

static void finish_error(struct run *run, const struct husk_err *err)
{
    cmd_say("%s", err->text);
    finish(run, "error", CMD_ERROR, -1, err->text);
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct run *run = ctx;
    const char *console = run->options.output[CMD_OUTPUT_CONSOLE];
    int signal = run->loop.signal;
    struct husk_stats stats = { .size = sizeof stats };

    cmd_input_stop(run->input); /* the terminal first: messages follow */
    run->input = NULL;
    if (end->text)
        cmd_say("%s", end->text);
    husk_vm_stats(run->loop.vm, &stats);
    if (stats.console_dropped)
        cmd_say("%llu bytes of console output were dropped: %s did not take "
                "them",
                (unsigned long long)stats.console_dropped,
                console && strcmp(console, "-") ? console : "standard output");
    finish(run, husk_outcome_name(end->outcome),
           signal ? 128 + signal : end->status, end->guest_value, end->text);
    ev_break(run->loop.ev, EVBREAK_ALL);
}

/* All devices are known, and --dump-dtb ends the run here. */
static void on_probed(void *ctx)
{
    struct run *run = ctx;
    struct husk_err err;
    void *blob = NULL;
    size_t size;
    int rc = husk_vm_device_tree(run->loop.vm, &blob, &size, &err);

    if (rc == 0)
        rc = cmd_output_write(&run->outputs, &run->options, CMD_OUTPUT_DTB,
                              blob, size, &err);
    free(blob);
    if (rc < 0)
        finish_error(run, &err);
    else
        finish(run, "pass", 0, -1, NULL);
    ev_break(run->loop.ev, EVBREAK_ALL);
}

static void on_room(void *ctx)
{
    struct run *run = ctx;

    if (!run->input)
        run->input = cmd_input_start(run->loop.vm, run->loop.ev);
    cmd_input_room(run->input);
}

static int start(struct run *run, struct husk_err *err)
{
    const struct cmd_options *options = &run->options;
    struct husk_config config = {
        .size = sizeof config,
        .memory = options->memory,
        .cpus = options->cpus,
        .kernel = options->operand,
        .append = options->append,
        .initrds = options->initrds,
        .n_initrds = options->n_initrds,
        .discovery = options->discovery,
        .timeout = options->timeout,
        .reset_again = options->reset_again,
        .exits_on_read = options->no_window,
        .ctx = run,
        .log = on_log,
        .probed = on_probed,
        .ended = on_ended,
        .console_room = on_room,
    };
    struct husk_vm *vm;
    int rc = husk_vm_create(&run->loop.vm, run->loop.ev, &config, err);

    vm = run->loop.vm;
    for (unsigned i = 0; i < options->n_devices && rc == 0; i++)
        rc = husk_vm_add_device(vm, options->devices[i], err);
    if (rc < 0)
        return rc;
    if (options->output[CMD_OUTPUT_DTB])
        return husk_vm_probe(vm, err);
    rc = husk_vm_set_console(vm, run->outputs.fds[CMD_OUTPUT_CONSOLE], err);
    return rc < 0 ? rc : husk_vm_start(vm, err);
}

static void raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
        files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void boot(struct run *run)
{
    struct husk_err err;

    raise_limits();
    if (cmd_outputs_open(&run->outputs, &run->options, &err) < 0 ||
        cmd_loop_init(&run->loop, &err) < 0 || start(run, &err) < 0)
        finish_error(run, &err);
    else
        ev_run(run->loop.ev, 0);
    cmd_input_stop(run->input);
    husk_vm_destroy(run->loop.vm);
    cmd_outputs_close(&run->outputs);
    cmd_loop_fini(&run->loop);
}

/* The arguments were refused: a record is written also then. */
static void misused(struct run *run, const struct husk_err *err)
{
    struct husk_err second;

    cmd_outputs_open_json(&run->outputs, &run->options, &second);
    finish_error(run, err);
    cmd_outputs_close(&run->outputs);
}

int cmd_run(int argc, char **argv, struct cmd_clock *clock)
{
    struct run run = { .clock = clock, .status = CMD_ERROR };
    struct husk_err err;
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmd_options_parse(&run.options, &cmd_run_syntax, argc, argv, &err);
    cmd_clock_arguments(clock);
    if (rc < 0)
        misused(&run, &err);
    else if (run.options.help)
        run.status = cmd_help("run");
    else if (run.options.version)
        run.status = cmd_version();
    else
        boot(&run);
    cmd_options_fini(&run.options);
    return run.status;
}
