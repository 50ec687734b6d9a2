/*
 * A program whose own functions have names that the library uses inside. Each
 * says that all is well and does nothing: were the library's calls to reach
 * them, its errors would be lost.
 */
#include <husk.h>

#include <errno.h>
#include <ev.h>
#include <stddef.h>

#include "tap.h"

int fail(void);
int mem_init(void);
int device_init(void);

static unsigned calls; /* of the functions below */

int fail(void)
{
    calls++;
    return 0;
}

int mem_init(void)
{
    calls++;
    return 0;
}

int device_init(void)
{
    calls++;
    return 0;
}

int main(int argc, char **argv)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_config config = { .size = sizeof config,
                                  .kernel = "/nonexistent",
                                  .cpus = 100000 };
    struct husk_vm *vm = NULL;
    struct husk_err err = { 0 };

    tap_open(argc, argv);
    tap_check(husk_vm_create(&vm, loop, &config, &err) == -EINVAL,
              "100000 vCPUs are refused");
    tap_check(err.code == -EINVAL && err.text[0], "the error has a text");
    config.cpus = 1;
    tap_check(husk_vm_create(&vm, loop, &config, &err) == 0, "a VM is created");
    tap_check(husk_vm_add_device(vm, "", &err) == -EINVAL,
              "an empty SPEC is refused");
    tap_check(husk_vm_add_device(vm, "socket=/nonexistent", &err) == 0,
              "a device is added");
    tap_check(husk_vm_start(vm, &err) < 0, "a kernel that is missing is found");
    husk_vm_destroy(vm);
    tap_check(calls == 0, "no function of the program was called");
    tap_check(fail() == 0 && mem_init() == 0 && device_init() == 0 &&
                  calls == 3,
              "the program calls its own functions");
    ev_loop_destroy(loop);
    return tap_close();
}
