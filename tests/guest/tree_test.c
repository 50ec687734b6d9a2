/*
 * What needs no KVM: the device tree that the guest would get, and asking a
 * back-end what it is. And what husk says where there is none.
 */
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/run.h"

TestSuite(tree, .init = harness_init, .fini = harness_fini, .timeout = HANGS);

static const unsigned pins[] = { 5,  6,  7,  10, 11, 14, 15, 16,
                                 17, 18, 19, 20, 21, 22, 23 };

struct tree {
    char *blob;
    struct run run;
};

/* dtc reads it without a word, and back again. */
static void dump_argv(struct tree *t, const char *const *args)
{
    const char *argv[100] = { "--dump-dtb", place("tree.dtb") };
    size_t n = 2;
    struct run dtc = { 0 };
    FILE *file;

    for (; *args; args++)
        argv[n++] = *args;
    memset(&t->run, 0, sizeof t->run);
    run_husk_argv(&t->run, argv);
    check_quiet_end(&t->run, 0, "pass");
    CHECK_STR(t->run.out, "");
    run_any(&dtc, "dtc", "-I", "dtb", "-O", "dts", place("tree.dtb"));
    CHECK_EQ(dtc.status, 0);
    CHECK_STR(dtc.err, "");
    cr_assert(strncmp(dtc.out, "/dts-v1/;", 9) == 0);
    run_free(&dtc);
    t->blob = malloc(1 << 20);
    file = fopen(place("tree.dtb"), "re");
    CHECK_EQ(fread(t->blob, 1, 1 << 20, file), fdt_totalsize(t->blob));
    fclose(file);
}

#define dump(t, ...) dump_argv(t, ARGS(__VA_ARGS__))

static void drop(struct tree *t)
{
    free(t->blob);
    run_free(&t->run);
}

static int node_at(const struct tree *t, const char *path)
{
    int node = fdt_path_offset(t->blob, path);

    cr_assert(node >= 0, "no node %s", path);
    return node;
}

static void check_text(const struct tree *t, const char *path, const char *name,
                       const char *want)
{
    int size;
    const char *text = fdt_getprop(t->blob, node_at(t, path), name, &size);

    cr_assert(text && size == (int)strlen(want) + 1, "%s: %s", path, name);
    CHECK_STR(text, want);
}

/* A property of exactly these cells. */
static void check_cells(const struct tree *t, const char *path,
                        const char *name, const uint32_t *want, unsigned n)
{
    int size;
    const fdt32_t *cells = fdt_getprop(t->blob, node_at(t, path), name, &size);

    cr_assert(cells && size == (int)(4 * n), "%s: %s has %d bytes", path, name,
              size);
    for (unsigned i = 0; i < n; i++)
        cr_assert(fdt32_to_cpu(cells[i]) == want[i],
                  "%s: %s cell %u is %#x, not %#x", path, name, i,
                  fdt32_to_cpu(cells[i]), want[i]);
}

#define CELLS(t, path, name, ...)                                              \
    check_cells(t, path, name, (const uint32_t[]){ __VA_ARGS__ },              \
                sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4)

static unsigned count_nodes(const struct tree *t, const char *prefix)
{
    unsigned n = 0;
    int node;

    fdt_for_each_subnode(node, t->blob, 0) n +=
        strncmp(fdt_get_name(t->blob, node, NULL), prefix, strlen(prefix)) == 0;
    return n;
}

Test(tree, without_devices)
{
    struct tree t;

    dump(&t, "-a", "quiet and=more", "-c", "3", "-m", "96M");
    check_text(&t, "/chosen", "bootargs", "quiet and=more");
    check_text(&t, "/memory@0", "device_type", "memory");
    CELLS(&t, "/memory@0", "reg", 0, 0, 0, 96 << 20);
    CHECK_EQ(count_nodes(&t, "memory@"), 1);
    CHECK_EQ(count_nodes(&t, "virtio@"), 0);
    CELLS(&t, "/cpus/cpu@2", "reg", 2);
    cr_assert(fdt_path_offset(t.blob, "/cpus/cpu@3") < 0);
    check_text(&t, "/isa@i0/serial@i3f8", "compatible", "ns16550a");
    CELLS(&t, "/isa@i0/serial@i3f8", "interrupts", 4, 3);
    drop(&t);
}

Test(tree, memory_with_a_hole)
{
    struct tree t;

    dump(&t, "-m", "5G");
    CELLS(&t, "/memory@0", "reg", 0, 0, 0, 0xc0000000);
    CELLS(&t, "/memory@100000000", "reg", 1, 0, 0, 0x80000000);
    drop(&t);
}

static void check_device(const struct tree *t, unsigned index, uint32_t base,
                         uint32_t size, uint32_t id, uint32_t config)
{
    const char *path = fmt("/virtio@%x", base);

    check_text(t, path, "compatible", "virtio,mmio");
    CELLS(t, path, "reg", 0, base, 0, size);
    CELLS(t, path, "interrupts", pins[index % 15], 3);
    CELLS(t, path, "husk,config-size", config);
    cr_assert(fdt_getprop(t->blob, node_at(t, path), "dma-coherent", NULL));
    check_text(t, fmt("%s/device", path), "compatible",
               fmt("virtio,device%x", id));
    CHECK_EQ(device_int(&t->run, index, "address"), base);
    CHECK_EQ(device_int(&t->run, index, "irq"), pins[index % 15]);
    CHECK_EQ(device_int(&t->run, index, "id"), id);
    CHECK_EQ(device_int(&t->run, index, "config_size"), config);
}

Test(tree, a_node_for_each_device)
{
    const char *loop = exec_spec("husk-loop");
    struct tree t;

    dump(&t, "-d", exec_spec("husk-rng"), "-d",
         fmt("%s --config-size=3841 --id=39", loop), "-d",
         fmt("%s --config-size=3840", loop), "-d",
         fmt("%s --config-size=4096 --queues=256 --id=65535", loop), "-d",
         fmt("name=late,%s", exec_spec("husk-rng")));
    CHECK_EQ(count_nodes(&t, "virtio@"), 5);
    check_device(&t, 0, 0xd0000000, 0x1000, 4, 0);
    check_device(&t, 1, 0xd0001000, 0x2000, 39, 3841);
    check_device(&t, 2, 0xd0003000, 0x1000, 63, 3840);
    check_device(&t, 3, 0xd0004000, 0x2000, 65535, 4096);
    check_device(&t, 4, 0xd0006000, 0x1000, 4, 0);
    CHECK_EQ(device_int(&t.run, 3, "vqs"), 256);
    drop(&t);
}

Test(tree, thirty_two_devices)
{
    const char *args[2 * 32 + 1] = { NULL };
    struct tree t;

    for (unsigned i = 0; i < 32; i++) {
        args[2 * i] = "-d";
        args[2 * i + 1] = fmt("deadline=100,%s", exec_spec("husk-rng"));
    }
    dump_argv(&t, args);
    CHECK_EQ(count_nodes(&t, "virtio@"), 32);
    for (unsigned i = 0; i < 32; i++)
        check_device(&t, i, 0xd0000000 + 0x1000 * i, 0x1000, 4, 0);
    drop(&t);
}

/* The kernel is not needed for it; one that is named is not looked at. */
Test(tree, kernel_is_not_opened)
{
    struct tree t;

    dump(&t, place("no-kernel"));
    drop(&t);
}

/* Alone on standard output. */
Test(tree, on_standard_output)
{
    struct run run = { 0 };

    run_husk(&run, "--dump-dtb", "-", "-d", exec_spec("husk-rng"));
    check_quiet_end(&run, 0, "pass");
    CHECK_EQ(fdt_check_full(run.out, run.out_size), 0);
    CHECK_EQ(run.out_size, fdt_totalsize(run.out));
    run_free(&run);
}

/* -v adds what is no warning: here that the probe was not answered. */
Test(tree, verbose)
{
    static const char *const options[] = { "--cpus=1", "-v" };

    for (unsigned i = 0; i < 2; i++) {
        struct backend peer;
        struct run run = { 0 };

        peer_start(&peer, "--dialect=shared-object", "--connections=2");
        run_husk(&run, options[i], "--dump-dtb", place("tree.dtb"), "-d",
                 fmt("socket=%s,id=9,vqs=1,config-size=0", peer.socket));
        check_end(&run, 0, "pass");
        CHECK_STR(run.err, i ? "husk: virtio0: no answer to the probe: "
                               "connecting again without one\n"
                             : "");
        run_free(&run);
        backend_end(&peer);
        run_free(&peer.run);
    }
}

/* --timeline has moments to print where nothing boots, too. */
Test(tree, timeline)
{
    struct run run = { 0 };

    run_husk(&run, "--timeline", "--dump-dtb", place("tree.dtb"));
    check_end(&run, 0, "pass");
    CHECK_EQ(count_text(run.err, " ms  known\n"), 1);
    run_free(&run);
}

Test(probe, as_json)
{
    struct run run = { 0 };
    json_t *record;

    run_any(&run, built("husk"), "probe", "--json",
            fmt("%s --config-size=20 --queues=5", exec_spec("husk-loop")));
    CHECK_EQ(run.status, 0);
    CHECK_STR(run.err, "");
    record = json_loads(run.out, 0, NULL);
    cr_assert(record, "'%s'", run.out);
    CHECK_EQ(json_integer_value(json_object_get(record, "id")), 63);
    CHECK_EQ(json_integer_value(json_object_get(record, "config_size")), 20);
    CHECK_EQ(json_integer_value(json_object_get(record, "min_vqs")), 1);
    CHECK_EQ(json_integer_value(json_object_get(record, "max_vqs")), 5);
    CHECK_EQ(json_integer_value(json_object_get(record, "round_trips")), 4);
    CHECK_STR(json_string_value(json_object_get(record, "probe")), "specs");
    cr_assert(json_is_true(json_object_get(record, "standalone")));
    json_decref(record);
    run_free(&run);
}

Test(probe, as_text)
{
    struct run run = { 0 };

    run_any(&run, built("husk"), "probe",
            fmt("%s --config=000102fe", exec_spec("husk-loop")));
    CHECK_EQ(run.status, 0);
    CHECK_STR(run.err, "");
    check_out(&run, "device id          63 (not assigned by VIRTIO)\n");
    check_out(&run, "config space       4 bytes\n  00 01 02 fe\n");
    check_out(&run, "  32 VERSION_1\n");
    check_out(&run, "round trips        4\n");
    check_out(&run, "stands alone       yes");
    run_free(&run);
    run_any(&run, built("husk"), "probe", exec_spec("husk-rng"));
    CHECK_EQ(run.status, 0);
    check_out(&run, "device id          4 (entropy");
    run_free(&run);
}

/* Status 1: it works with values from the command line, but not alone. */
Test(probe, traditional_back_end)
{
    struct backend peer;
    struct run run = { 0 };

    peer_start(&peer, "--dialect=none", "--connections=1");
    run_any(&run, built("husk"), "probe",
            fmt("socket=%s,id=9,vqs=1", peer.socket));
    CHECK_EQ(run.status, 1);
    check_out(&run, "device id          9 ");
    check_out(&run, "probe              none\n");
    check_out(&run, "stands alone       no");
    run_free(&run);
    backend_end(&peer);
    CHECK_STR(peer.run.err, "");
    CHECK_EQ(peer.run.status, 0);
    run_free(&peer.run);
}

Test(probe, failures)
{
    static const char *const specs[][2] = {
        { "/no/such/socket", "/no/such/socket" },
        { "exec=false", "false ended with status 1" },
        { "frob=1", "unknown key 'frob'" },
    };

    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        struct run run = { 0 };

        run_any(&run, built("husk"), "probe", specs[i][0]);
        CHECK_EQ(run.status, 125);
        CHECK_STR(run.out, "");
        check_line(&run, specs[i][1]);
        run_free(&run);
    }
}

/* A shell line in a mount namespace of its own, where /dev/kvm is hidden. */
static void run_hidden(struct run *run, const char *hide, const char *line)
{
    run_any(run, "unshare", geteuid() ? "-rm" : "-m", "sh", "-c",
            fmt("%s && exec %s", hide, line));
    if (strncmp(run->err, "unshare:", 8) == 0 ||
        strncmp(run->err, "mount:", 6) == 0)
        cr_skip_test("%s", run->err);
}

Test(no_kvm, run)
{
    static const char *const hide[][2] = {
        { "mount --bind /dev/null /dev/kvm", "not KVM" },
        { "mount -t tmpfs none /dev", "No such file" },
        { "mount --bind /etc /dev", "No such file" },
    };

    for (size_t i = 0; i < sizeof hide / sizeof hide[0]; i++) {
        struct run run = { .record_path = place("r.json") };

        if (i == 0 && access("/dev/kvm", F_OK) < 0)
            continue;
        run_hidden(&run, hide[i][0],
                   fmt("%s run --json %s %s", built("husk"), place("r.json"),
                       guest("hello")));
        check_end(&run, 125, "error");
        check_line(&run, "/dev/kvm", hide[i][1]);
        CHECK_STR(run.out, "");
        cr_assert(run.seconds < SOON);
        run_free(&run);
    }
}

Test(no_kvm, tree_and_probe)
{
    struct run run = { 0 };
    const char *hide = access("/dev/kvm", F_OK) < 0
                           ? "true"
                           : "mount --bind /dev/null /dev/kvm";

    run_hidden(&run, hide,
               fmt("%s probe %s", built("husk"), exec_spec("husk-rng")));
    CHECK_EQ(run.status, 0);
    check_out(&run, "round trips        3\n");
    run_free(&run);
    run_hidden(&run, hide,
               fmt("%s run --dump-dtb %s -d %s", built("husk"), place("t.dtb"),
                   exec_spec("husk-rng")));
    CHECK_EQ(run.status, 0);
    CHECK_STR(run.err, "");
    cr_assert(access(place("t.dtb"), R_OK) == 0);
    run_free(&run);
}

TestSuite(probe, .init = harness_init, .fini = harness_fini, .timeout = HANGS);
TestSuite(no_kvm, .init = harness_init, .fini = harness_fini, .timeout = HANGS);
