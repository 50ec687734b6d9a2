/* JSON, with jansson. See record.h. */
#include "vmm/cmd/record.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmd/text.h"

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
    struct husk_device info = { .size = sizeof info };

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

static json_t *timeline(const struct cmd_result *result)
{
    json_t *list = json_array();

    cmd_timeline(result->clock, result->vm, add_moment, list);
    return list;
}

/* A string that need not be UTF-8. */
static json_t *any_text(const char *text)
{
    char *utf8 = cmd_text_utf8(text);
    json_t *string = utf8 ? json_string(utf8) : NULL;

    free(utf8);
    return string;
}

static json_t *command_line(const struct cmd_options *options)
{
    json_t *words = json_array();

    for (int i = 0; i < options->argc; i++)
        json_array_append_new(words, any_text(options->argv[i]));
    return words;
}

/* All in ASCII: a record that is shown on a terminal does not control it. */
static char *dump(json_t *record)
{
    char *text = json_dumps(record, JSON_INDENT(2) | JSON_REAL_PRECISION(6) |
                                        JSON_ENSURE_ASCII);
    size_t size = text ? strlen(text) : 0;
    char *line = realloc(text, size + 2);

    json_decref(record);
    if (!text || !line) {
        free(line ? line : text);
        return NULL;
    }
    strcpy(line + size, "\n");
    return line;
}

char *cmd_record(const struct cmd_result *result)
{
    struct husk_stats stats = { .size = sizeof stats };
    json_t *record;

    if (result->vm)
        husk_vm_stats(result->vm, &stats);
    record = json_pack(
        "{s:s, s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I},"
        " s:{s:f, s:f, s:f, s:f}, s:o, s:I, s:I, s:o}",
        "outcome", result->outcome, "status", result->status, "devices",
        device_list(result->vm), "exits", "io", (json_int_t)stats.exits_io,
        "mmio_read", (json_int_t)stats.exits_mmio_read, "mmio_write",
        (json_int_t)stats.exits_mmio_write, "hlt", (json_int_t)stats.exits_hlt,
        "other", (json_int_t)stats.exits_other, "times_ms", "setup",
        stats.setup_ms, "probe", stats.probe_ms, "first_entry",
        stats.first_entry_ms, "total", stats.total_ms, "command",
        command_line(result->options), "boots", (json_int_t)stats.boots,
        "console_dropped", (json_int_t)stats.console_dropped, "timeline",
        timeline(result));
    if (!record)
        return NULL;
    if (result->guest_value >= 0)
        json_object_set_new(record, "guest_value",
                            json_integer(result->guest_value));
    if (result->text)
        json_object_set_new(record, "message", any_text(result->text));
    return dump(record);
}

char *cmd_record_device(const struct husk_vm *vm, unsigned index)
{
    struct husk_device info = { .size = sizeof info };
    json_t *record;

    if (husk_vm_device(vm, index, &info) < 0)
        return NULL;
    record = device_record(&info);
    return record ? dump(record) : NULL;
}
