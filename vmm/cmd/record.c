/* The run's record as JSON, with jansson. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cmd/cmd.h"

static json_t *device_record(const struct husk_device *info)
{
    json_t *record;

    if (!info->known)
        return json_pack("{s:s, s:n}", "name", info->name, "id");
    record = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:I, s:I, s:I}", "name",
        info->name, "id", (json_int_t)info->id, "config_size",
        (json_int_t)info->config_size, "min_vqs", (json_int_t)info->min_vqs,
        "max_vqs", (json_int_t)info->max_vqs, "vqs", (json_int_t)info->vqs,
        "probe", info->probe, "standalone", (int)info->standalone, "address",
        (json_int_t)info->address, "irq", (json_int_t)info->irq, "round_trips",
        (json_int_t)info->round_trips);
    return record;
}

static json_t *device_list(const struct husk_vm *vm)
{
    json_t *list = json_array();
    struct husk_device info;

    for (unsigned i = 0; vm && husk_vm_device(vm, i, &info) == 0; i++)
        json_array_append_new(list, device_record(&info));
    return list;
}

static void add_moment(void *ctx, double ms, const char *name,
                       const char *device)
{
    json_t *one = json_pack("{s:s, s:f}", "name", name, "ms", ms);

    if (device)
        json_object_set_new(one, "device", json_string(device));
    json_array_append_new(ctx, one);
}

static json_t *timeline(const struct cmd_options *options,
                        const struct husk_vm *vm)
{
    json_t *list = json_array();

    cmd_timeline(&options->clock, vm, add_moment, list);
    return list;
}

static int dump(const json_t *record, const char *path)
{
    FILE *file = fopen(path, "we");
    int rc;

    if (!file)
        return -errno;
    rc = json_dumpf(record, file, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    if (rc == 0 && fputc('\n', file) == EOF)
        rc = -1;
    if (fclose(file) != 0)
        rc = -1;
    return rc == 0 ? 0 : errno ? -errno : -EIO;
}

int cmd_write_record(const struct cmd_options *options,
                     const struct husk_vm *vm, const char *outcome, int status,
                     long guest_value, const char *text)
{
    struct husk_stats stats = { 0 };
    json_t *record, *command = json_array();
    int rc;

    if (vm)
        husk_vm_stats(vm, &stats);
    for (int i = 0; i < options->argc; i++) {
        json_t *word = json_string(options->argv[i]);

        /* an argument that is not UTF-8 */
        json_array_append_new(command, word ? word : json_string("?"));
    }
    record = json_pack(
        "{s:s, s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I},"
        " s:{s:f, s:f, s:f, s:f}, s:o, s:I, s:I}",
        "outcome", outcome, "status", status, "devices", device_list(vm),
        "exits", "io", (json_int_t)stats.exits_io, "mmio_read",
        (json_int_t)stats.exits_mmio_read, "mmio_write",
        (json_int_t)stats.exits_mmio_write, "hlt", (json_int_t)stats.exits_hlt,
        "other", (json_int_t)stats.exits_other, "times_ms", "setup",
        stats.setup_ms, "probe", stats.probe_ms, "first_entry",
        stats.first_entry_ms, "total", stats.total_ms, "command", command,
        "boots", (json_int_t)stats.boots, "console_dropped",
        (json_int_t)stats.console_dropped);
    if (!record)
        return -ENOMEM;
    json_object_set_new(record, "timeline", timeline(options, vm));
    if (guest_value >= 0)
        json_object_set_new(record, "guest_value", json_integer(guest_value));
    if (text)
        json_object_set_new(record, "message", json_string(text));
    rc = dump(record, options->json);
    json_decref(record);
    return rc;
}

int cmd_print_device(const struct husk_vm *vm, unsigned index)
{
    struct husk_device info;
    json_t *record;
    int rc;

    if (husk_vm_device(vm, index, &info) < 0)
        return -ENOENT;
    record = device_record(&info);
    if (!record)
        return -ENOMEM;
    rc = json_dumpf(record, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(record);
    return rc == 0 && fflush(stdout) == 0 ? 0 : -EIO;
}
