/* husk run: one guest on this terminal, one status, one record. */
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/cmd/cmd.h"

struct run {
    const struct cmd_options *options;
    struct ev_loop *loop;
    struct husk_vm *vm;
    struct cmd_input *input;
    int signal; /* that ended the run, or 0 */
    int status;
    bool record_failed;
};

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    const struct run *run = ctx;

    if (level == HUSK_LOG_WARNING || run->options->verbose)
        cmd_say("%s", text);
}

/* The record, and the status that remains. */
static void close_record(struct run *run, const char *outcome, int status,
                         long guest_value, const char *text)
{
    int rc;

    run->status = status;
    if (!run->options->json)
        return;
    rc = cmd_write_record(run->options, run->vm, outcome, status, guest_value,
                          text);
    if (rc < 0) {
        cmd_say("writing the record %s: %s", run->options->json, strerror(-rc));
        run->status = CMD_ERROR;
    }
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct run *run = ctx;
    struct husk_stats stats;
    int status = run->signal ? 128 + run->signal : end->status;

    cmd_input_stop(run->input); /* the terminal first: messages follow */
    run->input = NULL;
    if (end->text)
        cmd_say("%s", end->text);
    husk_vm_stats(run->vm, &stats);
    if (stats.console_dropped)
        cmd_say("%llu bytes of console output were dropped: nobody read them",
                (unsigned long long)stats.console_dropped);
    if (run->options->timeline)
        cmd_print_timeline(&run->options->clock, run->vm);
    close_record(run, husk_outcome_name(end->outcome), status, end->guest_value,
                 end->text);
    ev_break(run->loop, EVBREAK_ALL);
}

static int write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "we");
    int rc = 0;

    if (!file)
        return -errno;
    if (fwrite(data, 1, size, file) != size)
        rc = -errno;
    if (fclose(file) != 0 && rc == 0)
        rc = -errno;
    return rc;
}

static void on_probed(void *ctx)
{
    struct run *run = ctx;
    struct husk_err err;
    void *blob = NULL;
    size_t size;
    int rc = husk_vm_device_tree(run->vm, &blob, &size, &err);

    if (rc < 0) {
        cmd_say("%s", err.text);
    } else {
        rc = write_file(run->options->dump_dtb, blob, size);
        if (rc < 0)
            cmd_say("writing the device tree %s: %s", run->options->dump_dtb,
                    strerror(-rc));
    }
    free(blob);
    close_record(run, rc < 0 ? "error" : "pass", rc < 0 ? CMD_ERROR : 0, -1,
                 NULL);
    ev_break(run->loop, EVBREAK_ALL);
}

static void on_room(void *ctx)
{
    struct run *run = ctx;

    if (!run->input)
        run->input = cmd_input_start(run->vm, run->loop);
    cmd_input_room(run->input);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct run *run = watcher->data;

    (void)loop;
    (void)revents;
    run->signal = watcher->signum;
    husk_vm_stop(run->vm);
}

static int start(struct run *run, struct husk_err *err)
{
    const struct cmd_options *options = run->options;
    struct husk_config config = {
        .size = sizeof config,
        .memory = options->memory,
        .cpus = options->cpus,
        .kernel = options->kernel,
        .append = options->append,
        .initrds = options->initrds,
        .n_initrds = options->n_initrds,
        .discovery = options->discovery,
        .timeout = options->timeout,
        .reset_again = options->reset_again,
        .no_window = options->no_window,
        .ctx = run,
        .log = on_log,
        .probed = on_probed,
        .ended = on_ended,
        .console_room = on_room,
    };
    int rc = husk_vm_create(&run->vm, run->loop, &config, err);

    for (unsigned i = 0; i < options->n_devices && rc == 0; i++)
        rc = husk_vm_add_device(run->vm, options->devices[i], err);
    if (rc < 0)
        return rc;
    if (options->dump_dtb)
        return husk_vm_probe(run->vm, err);
    rc = husk_vm_set_console(run->vm, STDOUT_FILENO, err);
    return rc < 0 ? rc : husk_vm_start(run->vm, err);
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

/* libev's own way would be to abort. */
static void on_loop_failure(const char *what)
{
    cmd_say("%s: %s", what, strerror(errno));
    exit(CMD_ERROR);
}

struct ev_loop *cmd_loop(void)
{
    struct ev_loop *loop;

    ev_set_syserr_cb(on_loop_failure);
    loop = ev_default_loop(0);
    if (!loop)
        cmd_say("no event loop: out of descriptors?");
    return loop;
}

int cmd_run(const struct cmd_options *options)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    enum { N_SIGNALS = sizeof signals / sizeof signals[0] };
    struct run run = { .options = options, .status = CMD_ERROR };
    ev_signal watchers[N_SIGNALS];
    struct husk_err err;

    raise_limits();
    signal(SIGPIPE, SIG_IGN);
    run.loop = cmd_loop();
    if (!run.loop)
        return CMD_ERROR;
    for (int i = 0; i < N_SIGNALS; i++) {
        ev_signal_init(&watchers[i], on_signal, signals[i]);
        watchers[i].data = &run;
        ev_signal_start(run.loop, &watchers[i]);
    }
    if (start(&run, &err) < 0) {
        cmd_say("%s", err.text);
        close_record(&run, "error", CMD_ERROR, -1, err.text);
    } else {
        ev_run(run.loop, 0);
    }
    cmd_input_stop(run.input);
    husk_vm_destroy(run.vm);
    ev_loop_destroy(run.loop);
    if (run.signal) {
        signal(run.signal, SIG_DFL);
        raise(run.signal);
    }
    return run.status;
}
