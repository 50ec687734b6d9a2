/* husk probe: ask a back-end what it is, print the answers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmd/commands.h"
#include "vmm/cmd/help.h"
#include "vmm/cmd/loop.h"
#include "vmm/cmd/options.h"
#include "vmm/cmd/record.h"
#include "vmm/cmd/say.h"

struct probing {
    struct cmd_loop loop;
    bool known; /* the back-end has answered */
    int status;
};

static void on_log(void *ctx, enum husk_log level, const char *text)
{
    (void)ctx;
    if (level == HUSK_LOG_WARNING)
        cmd_say("%s", text);
}

static void print_bits(const char *title, uint64_t bits,
                       const char *(*name)(uint32_t id, unsigned bit),
                       uint32_t id)
{
    printf("%-18s 0x%" PRIx64 "\n", title, bits);
    for (unsigned bit = 0; bit < 64; bit++) {
        const char *known;

        if (!(bits >> bit & 1))
            continue;
        known = name(id, bit);
        printf("  %2u %s\n", bit, known ? known : "(no name known)");
    }
}

static const char *protocol_name(uint32_t id, unsigned bit)
{
    (void)id;
    return husk_protocol_feature_name(bit);
}

static void print_table(const struct husk_device *info)
{
    const char *type = husk_device_type_name(info->id);

    printf("%-18s %u (%s)\n", "device id", info->id,
           type ? type : "not assigned by VIRTIO");
    printf("%-18s %s\n", "probe", info->probe);
    if (!strcmp(info->probe, "none"))
        printf("%-18s %u\n", "queues", info->vqs);
    else
        printf("%-18s %u (at least %u, at most %u)\n", "queues", info->vqs,
               info->min_vqs, info->max_vqs);
    printf("%-18s %u bytes\n", "config space", info->config_size);
    for (uint32_t i = 0; i < info->config_size; i++)
        printf("%s%02x%s", i % 16 ? " " : "  ", info->config[i],
               i % 16 == 15 || i + 1 == info->config_size ? "\n" : "");
    print_bits("features", info->features, husk_feature_name, info->id);
    print_bits("protocol features", info->protocol_features, protocol_name, 0);
    printf("%-18s %u\n", "round trips", info->round_trips);
}

#define PF_CONFIG (UINT64_C(1) << 9)
#define PF_STATUS (UINT64_C(1) << 16)

static void print_standing(const struct husk_device *info)
{
    bool probed = strcmp(info->probe, "none") != 0;

    if (info->standalone) {
        printf("%-18s yes: it answers the probe%s and offers STATUS%s\n",
               "stands alone", info->config_size ? "," : "",
               info->config_size ? " and CONFIG" : "");
        return;
    }
    printf("%-18s no: it lacks%s%s%s\n", "stands alone",
           probed ? "" : " the probe;",
           info->protocol_features & PF_STATUS ? "" : " STATUS;",
           info->protocol_features & PF_CONFIG ? "" : " CONFIG;");
}

static void on_probed(void *ctx)
{
    struct probing *probing = ctx;

    probing->known = true;
    ev_break(probing->loop.ev, EVBREAK_ALL);
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct probing *probing = ctx;

    if (end->text)
        cmd_say("%s", end->text);
    probing->status = end->status;
    ev_break(probing->loop.ev, EVBREAK_ALL);
}

/* Print what device 0 is; the exit status. */
static int print(const struct husk_vm *vm, bool as_json)
{
    struct husk_device info = { .size = sizeof info };
    char *text;

    if (husk_vm_device(vm, 0, &info) < 0)
        return CMD_ERROR;
    if (as_json) {
        text = cmd_record_device(vm, 0);
        if (!text) {
            cmd_say("out of memory");
            return CMD_ERROR;
        }
        fputs(text, stdout);
        free(text);
    } else {
        print_table(&info);
        print_standing(&info);
    }
    if (cmd_printed() != 0)
        return CMD_ERROR;
    return info.standalone ? 0 : 1;
}

static int probe(const struct cmd_options *options)
{
    struct probing probing = { .status = CMD_ERROR };
    struct husk_config config = { .size = sizeof config,
                                  .ctx = &probing,
                                  .log = on_log,
                                  .probed = on_probed,
                                  .ended = on_ended };
    struct cmd_loop *loop = &probing.loop;
    struct husk_err err;

    if (cmd_loop_init(loop, &err) < 0 ||
        husk_vm_create(&loop->vm, loop->ev, &config, &err) < 0 ||
        husk_vm_add_device(loop->vm, options->operand, &err) < 0 ||
        husk_vm_probe(loop->vm, &err) < 0)
        cmd_say("%s", err.text);
    else
        ev_run(loop->ev, 0);
    if (probing.known) {
        /* a reader of standard output that stops must not keep a signal off */
        cmd_loop_default_signals(loop);
        probing.status = print(loop->vm, options->as_json);
    }
    husk_vm_destroy(loop->vm);
    cmd_loop_fini(loop);
    return probing.status;
}

int cmd_probe(int argc, char **argv)
{
    struct cmd_options options;
    struct husk_err err;
    int status = CMD_ERROR;

    if (cmd_options_parse(&options, &cmd_probe_syntax, argc, argv, &err) < 0)
        cmd_say("%s", err.text);
    else if (options.help)
        status = cmd_help("probe");
    else if (options.version)
        status = cmd_version();
    else
        status = probe(&options);
    cmd_options_fini(&options);
    return status;
}
