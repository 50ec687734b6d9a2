/*
 * husk.h in a C++ program: each type has its C layout, each call links, and the
 * library answers.
 */
#include <husk.h>

#include <cerrno>
#include <ev.h>
#include <type_traits>

#include "tap.h"

template <typename T> static bool plain()
{
    return std::is_standard_layout<T>::value && std::is_trivial<T>::value;
}

using any_function = void (*)();

template <typename F> static any_function linked(F *function)
{
    return reinterpret_cast<any_function>(function);
}

struct run {
    struct ev_loop *loop;
    husk_outcome outcome;
};

static void ended(void *ctx, const husk_end *end)
{
    run *run = static_cast<struct run *>(ctx);

    run->outcome = end->outcome;
    ev_break(run->loop, EVBREAK_ALL);
}

int main(int argc, char **argv)
{
    const any_function calls[] = {
        linked(husk_vm_create),      linked(husk_vm_destroy),
        linked(husk_vm_add_device),  linked(husk_vm_set_console),
        linked(husk_vm_probe),       linked(husk_vm_start),
        linked(husk_vm_stop),        linked(husk_vm_console_input),
        linked(husk_vm_device_tree), linked(husk_vm_device),
        linked(husk_vm_stats),       linked(husk_vm_timeline),
        linked(husk_outcome_name),   linked(husk_device_type_name),
        linked(husk_feature_name),   linked(husk_protocol_feature_name),
    };
    run run = { ev_loop_new(0), HUSK_PASS };
    husk_config config = {};
    husk_device device = {};
    husk_vm *vm = nullptr;
    husk_err err = {};
    bool all = true;

    tap_open(argc, argv);
    device.size = sizeof device;
    tap_check(plain<husk_err>() && plain<husk_end>() && plain<husk_config>() &&
                  plain<husk_device>() && plain<husk_stats>() &&
                  plain<husk_moment>(),
              "C++: each struct has its layout of C");
    for (any_function call : calls)
        all = all && call != nullptr;
    tap_check(all, "C++: each call links");
    config.size = sizeof config;
    config.kernel = "/nonexistent";
    config.discovery = HUSK_DISCOVERY_FDT;
    config.ctx = &run;
    config.ended = ended;
    tap_check(husk_vm_create(&vm, run.loop, &config, &err) == 0,
              "C++: a VM is created");
    tap_check(husk_vm_device(vm, 0, &device) == -ENOENT,
              "C++: it has no devices");
    tap_check(husk_vm_add_device(vm, "socket=", &err) == -EINVAL &&
                  err.code == -EINVAL && err.text[0],
              "C++: an error has its number and its text");
    tap_check(husk_vm_add_device(vm, "exec=/bin/false", &err) == 0,
              "C++: a device is added");
    if (husk_vm_probe(vm, &err) == 0)
        ev_run(run.loop, 0);
    tap_check(run.outcome == HUSK_ERROR, "C++: a failed back-end ends the run");
    tap_check(strcmp(husk_outcome_name(run.outcome), "error") == 0,
              "C++: the outcome has a name");
    husk_vm_destroy(vm);
    ev_loop_destroy(run.loop);
    return tap_close();
}
