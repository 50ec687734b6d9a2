/* husk probe: what a back-end says of itself. */
#include <ev.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cmd/cmd.h"

struct asking {
    struct ev_loop *loop;
    struct husk_vm *vm;
    bool json;
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
    struct asking *asking = ctx;
    struct husk_device info;

    asking->status = CMD_ERROR;
    if (husk_vm_device(asking->vm, 0, &info) == 0) {
        asking->status = info.standalone ? 0 : 1;
        if (asking->json) {
            if (cmd_print_device(asking->vm, 0) < 0)
                asking->status = CMD_ERROR;
        } else {
            print_table(&info);
            print_standing(&info);
        }
    }
    ev_break(asking->loop, EVBREAK_ALL);
}

static void on_ended(void *ctx, const struct husk_end *end)
{
    struct asking *asking = ctx;

    if (end->text)
        cmd_say("%s", end->text);
    asking->status = end->status;
    ev_break(asking->loop, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    const struct asking *asking = watcher->data;

    (void)loop;
    (void)revents;
    husk_vm_stop(asking->vm);
}

int cmd_probe(const char *spec, bool json)
{
    struct asking asking = { .json = json, .status = CMD_ERROR };
    struct husk_config config = { .size = sizeof config,
                                  .ctx = &asking,
                                  .log = on_log,
                                  .probed = on_probed,
                                  .ended = on_ended };
    ev_signal interrupt, terminate;
    struct husk_err err;

    asking.loop = cmd_loop();
    if (!asking.loop)
        return CMD_ERROR;
    ev_signal_init(&interrupt, on_signal, SIGINT);
    ev_signal_init(&terminate, on_signal, SIGTERM);
    interrupt.data = terminate.data = &asking;
    ev_signal_start(asking.loop, &interrupt);
    ev_signal_start(asking.loop, &terminate);
    if (husk_vm_create(&asking.vm, asking.loop, &config, &err) < 0 ||
        husk_vm_add_device(asking.vm, spec, &err) < 0 ||
        husk_vm_probe(asking.vm, &err) < 0)
        cmd_say("%s", err.text);
    else
        ev_run(asking.loop, 0);
    husk_vm_destroy(asking.vm);
    ev_loop_destroy(asking.loop);
    return asking.status;
}
