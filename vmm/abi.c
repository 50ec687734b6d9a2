/* The rule of husk.h for structs that can grow, and a check that no struct has
 * padding in which a later field could hide. */
#include "vmm/abi.h"

#include <errno.h>
#include <string.h>

#include "vmm/machine/fail.h"

/* The field b begins where a ends. */
#define NEXT(type, a, b)                                                       \
    _Static_assert(offsetof(struct type, b) ==                                 \
                       offsetof(struct type, a) +                              \
                           sizeof(((struct type *)0)->a),                      \
                   "padding before " #type "." #b)
#define FIRST(type, a)                                                         \
    _Static_assert(offsetof(struct type, a) == 0, #type " begins with " #a)
#define LAST(type, a)                                                          \
    _Static_assert(sizeof(struct type) == offsetof(struct type, a) +           \
                                              sizeof(((struct type *)0)->a),   \
                   "padding at the end of " #type)

FIRST(husk_config, size);
NEXT(husk_config, size, memory);
NEXT(husk_config, memory, cpus);
NEXT(husk_config, cpus, n_initrds);
NEXT(husk_config, n_initrds, kernel);
NEXT(husk_config, kernel, append);
NEXT(husk_config, append, initrds);
NEXT(husk_config, initrds, discovery);
NEXT(husk_config, discovery, reset_again);
NEXT(husk_config, reset_again, exits_on_read);
NEXT(husk_config, exits_on_read, reserved);
NEXT(husk_config, reserved, timeout);
NEXT(husk_config, timeout, ctx);
NEXT(husk_config, ctx, log);
NEXT(husk_config, log, probed);
NEXT(husk_config, probed, ended);
NEXT(husk_config, ended, console_room);
LAST(husk_config, console_room);

FIRST(husk_end, size);
NEXT(husk_end, size, outcome);
NEXT(husk_end, outcome, status);
NEXT(husk_end, status, guest_value);
NEXT(husk_end, guest_value, text);
LAST(husk_end, text);

FIRST(husk_device, size);
NEXT(husk_device, size, name);
NEXT(husk_device, name, probe);
NEXT(husk_device, probe, config);
NEXT(husk_device, config, address);
NEXT(husk_device, address, features);
NEXT(husk_device, features, protocol_features);
NEXT(husk_device, protocol_features, id);
NEXT(husk_device, id, config_size);
NEXT(husk_device, config_size, min_vqs);
NEXT(husk_device, min_vqs, max_vqs);
NEXT(husk_device, max_vqs, vqs);
NEXT(husk_device, vqs, irq);
NEXT(husk_device, irq, round_trips);
NEXT(husk_device, round_trips, known);
NEXT(husk_device, known, standalone);
NEXT(husk_device, standalone, reserved);
LAST(husk_device, reserved);

FIRST(husk_stats, size);
NEXT(husk_stats, size, exits_io);
NEXT(husk_stats, exits_io, exits_mmio_read);
NEXT(husk_stats, exits_mmio_read, exits_mmio_write);
NEXT(husk_stats, exits_mmio_write, exits_hlt);
NEXT(husk_stats, exits_hlt, exits_other);
NEXT(husk_stats, exits_other, console_dropped);
NEXT(husk_stats, console_dropped, setup_ms);
NEXT(husk_stats, setup_ms, probe_ms);
NEXT(husk_stats, probe_ms, first_entry_ms);
NEXT(husk_stats, first_entry_ms, total_ms);
NEXT(husk_stats, total_ms, boots);
NEXT(husk_stats, boots, reserved);
LAST(husk_stats, reserved);

FIRST(husk_moment, name);
NEXT(husk_moment, name, ns);
NEXT(husk_moment, ns, device);
NEXT(husk_moment, device, reserved);
LAST(husk_moment, reserved);

FIRST(husk_err, code);
NEXT(husk_err, code, text);
LAST(husk_err, text);

int abi_take(void *out, size_t known, const void *given, const char *name,
             struct husk_err *err)
{
    const uint8_t *bytes = given;
    size_t size;

    memcpy(&size, given, sizeof size);
    if (size < sizeof size)
        return fail(err, -EINVAL, "%s.size is %zu: set it to sizeof(struct %s)",
                    name, size, name);
    for (size_t i = known; i < size; i++)
        if (bytes[i])
            return fail(err, -E2BIG,
                        "%s of %zu bytes, this library knows %zu and byte %zu "
                        "is not zero: use a newer libhusk",
                        name, size, known, i);
    memset(out, 0, known);
    memcpy(out, given, size < known ? size : known);
    return 0;
}

int abi_fill(void *out, size_t given, const void *from, size_t known)
{
    if (given < sizeof(size_t))
        return -EINVAL;
    memcpy(out, from, given < known ? given : known);
    if (given > known)
        memset((uint8_t *)out + known, 0, given - known);
    return 0;
}

int abi_answer(void *out, const void *from, size_t known)
{
    size_t size;
    int rc;

    memcpy(&size, out, sizeof size);
    rc = abi_fill(out, size, from, known);
    memcpy(out, &size, sizeof size);
    return rc;
}
