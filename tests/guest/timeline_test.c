/*
 * What came when: by the record, on stderr, and by the library. Moments are in
 * order, each is told once, and what must follow from what does.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/guest/embed.h"

TestSuite(timeline, .init = harness_init_kvm, .fini = embed_fini,
          .timeout = HANGS);

/* Of the VM itself, in the only order that they can have without devices. */
static const char *const moments[] = { "main",   "arguments", "create", "start",
                                       "memory", "kvm",       "slots",  "chips",
                                       "vcpus",  "known",     "loaded", "entry",
                                       "output", "end" };

#define N_MOMENTS (sizeof moments / sizeof moments[0])

/* When a moment came, in the record; it must be there once. */
static double when(const struct run *run, const char *name, const char *device)
{
    const json_t *list = json_object_get(run->record, "timeline"), *one;
    unsigned found = 0;
    double ms = -1;
    size_t i;

    json_array_foreach(list, i, one)
    {
        const char *of = json_string_value(json_object_get(one, "device"));

        if (strcmp(json_string_value(json_object_get(one, "name")), name) ||
            strcmp(of ? of : "", device))
            continue;
        ms = json_number_value(json_object_get(one, "ms"));
        found++;
    }
    cr_assert_eq(found, 1, "%s %s is told %u times", name, device, found);
    return ms;
}

static void check_order(const struct run *run)
{
    const json_t *list = json_object_get(run->record, "timeline"), *one;
    double last = 0;
    size_t i;

    json_array_foreach(list, i, one)
    {
        double ms = json_number_value(json_object_get(one, "ms"));

        cr_assert(ms >= last, "%s at %g ms, after %g ms",
                  json_string_value(json_object_get(one, "name")), ms, last);
        last = ms;
    }
    cr_assert(last < 1000 * run->seconds + 1000, "the end is at %g ms", last);
}

Test(timeline, without_devices)
{
    struct run run = { 0 };
    double last = 0;

    run_husk(&run, guest("hello"));
    check_quiet_end(&run, 0, "pass");
    check_order(&run);
    CHECK_EQ(json_array_size(json_object_get(run.record, "timeline")),
             N_MOMENTS);
    for (size_t i = 0; i < N_MOMENTS; i++) {
        double ms = when(&run, moments[i], "");

        cr_assert(ms >= last, "%s is too early", moments[i]);
        last = ms;
    }
    run_free(&run);
}

Test(timeline, with_devices)
{
    static const char *const names[] = { "first", "virtio1" };
    struct run run = { 0 };

    run_husk(&run, "-d", fmt("name=first,%s", exec_spec("husk-rng")), "-d",
             exec_spec("husk-loop"), guest("devices"));
    check_quiet_end(&run, 0, "pass");
    check_order(&run);
    CHECK_EQ(json_array_size(json_object_get(run.record, "timeline")),
             N_MOMENTS + 4);
    for (unsigned i = 0; i < 2; i++) {
        double connected = when(&run, "connected", names[i]);
        double ready = when(&run, "ready", names[i]);

        cr_assert(connected >= when(&run, "start", ""));
        cr_assert(ready >= connected);
        cr_assert(when(&run, "known", "") >= ready);
    }
    run_free(&run);
}

/* A line for each moment and one for the process's start, nothing else. */
Test(timeline, on_stderr)
{
    struct run run = { 0 };

    run_husk(&run, "--timeline", guest("hello"));
    check_end(&run, 0, "pass");
    CHECK_EQ(count_text(run.err, "\n"), N_MOMENTS + 1);
    CHECK_EQ(count_text(run.err, " ms  "), N_MOMENTS + 1);
    for (size_t i = 0; i < N_MOMENTS; i++)
        CHECK_EQ(count_text(run.err, fmt(" ms  %s\n", moments[i])), 1);
    run_free(&run);
}

/* A run that never came so far has no moments that it did not reach. */
Test(timeline, of_a_run_that_failed)
{
    struct run run = { 0 };
    char *text;

    run_husk(&run, "-d", place("nobody.sock"), guest("hello"));
    check_end(&run, 125, "error");
    check_order(&run);
    when(&run, "start", "");
    text = json_dumps(json_object_get(run.record, "timeline"), 0);
    cr_assert_null(strstr(text, "entry"), "%s", text);
    free(text);
    run_free(&run);
}

Test(timeline, by_the_library)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_moment all[32], few[3];
    struct seen seen;
    ssize_t n;

    embed_make(&seen, loop, guest("hello"), "", 1);
    embed_add(&seen, exec_spec("husk-rng"));
    CHECK_EQ(husk_vm_timeline(seen.vm, NULL, sizeof all[0], 0),
             1); /* "create" */
    embed_start(&seen);
    embed_run(loop);
    n = husk_vm_timeline(seen.vm, all, sizeof all[0], 32);
    CHECK_EQ(n,
             N_MOMENTS - 2 + 2); /* without the command's, with the device's */
    for (ssize_t i = 0; i < n; i++) {
        cr_assert(i == 0 || all[i].ns >= all[i - 1].ns);
        CHECK_EQ(all[i].device, !strcmp(all[i].name, "connected") ||
                                        !strcmp(all[i].name, "ready")
                                    ? 0
                                    : -1);
    }
    CHECK_STR(all[0].name, "create");
    CHECK_STR(all[n - 1].name, "end");
    /* as many as there is room for */
    CHECK_EQ(husk_vm_timeline(seen.vm, few, sizeof few[0], 3), n);
    for (size_t i = 0; i < 3; i++)
        CHECK_STR(few[i].name, all[i].name);
    husk_vm_destroy(seen.vm);
    ev_loop_destroy(loop);
}
