/* A VM's configuration: what is refused, what the defaults are, and copies of
 * the embedder's strings. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "boot/arch.h"
#include "vmm/abi.h"
#include "vmm/machine/fail.h"
#include "vmm/machine/sys.h"
#include "vmm/vm.h"

#define DEFAULT_MEMORY (UINT64_C(256) << 20)
#define MIN_MEMORY     (UINT64_C(2) << 20)
#define MAX_MEMORY     (UINT64_C(1) << 40)
#define MAX_CPUS       64u

static int check_initrds(const struct husk_config *config, struct husk_err *err)
{
    if (config->n_initrds > HUSK_MAX_INITRDS)
        return fail(err, -EINVAL, "%u initrds: at most %u are possible",
                    config->n_initrds, HUSK_MAX_INITRDS);
    if (config->n_initrds && !config->initrds)
        return fail(err, -EINVAL, "%u initrds, but their paths are NULL",
                    config->n_initrds);
    for (unsigned i = 0; i < config->n_initrds; i++)
        if (!config->initrds[i])
            return fail(err, -EINVAL, "the path of initrd %u is NULL", i);
    return 0;
}

static int check(const struct husk_config *config, struct husk_err *err)
{
    if (config->memory &&
        (config->memory < MIN_MEMORY || config->memory > MAX_MEMORY ||
         config->memory % sys_page_size()))
        return fail(err, -EINVAL,
                    "memory of %" PRIu64 " bytes: give 2M to 1T "
                    "in whole pages",
                    config->memory);
    if (config->cpus > MAX_CPUS)
        return fail(err, -EINVAL, "%u vCPUs: give 1 to %u", config->cpus,
                    MAX_CPUS);
    if (config->append && strlen(config->append) > boot_arch_max_cmdline)
        return fail(err, -EINVAL,
                    "command line of %zu bytes, at most %zu are "
                    "possible",
                    strlen(config->append), boot_arch_max_cmdline);
    if (config->discovery > HUSK_DISCOVERY_CMDLINE)
        return fail(err, -EINVAL, "discovery %u is not known",
                    (unsigned)config->discovery);
    if (config->reserved[0] || config->reserved[1])
        return fail(err, -EINVAL, "husk_config.reserved is not zero");
    if (!(config->timeout >= 0))
        return fail(err, -EINVAL, "timeout of %g s: give 0 or more",
                    config->timeout);
    return check_initrds(config, err);
}

/* Whether everything that was given has a copy now. */
static bool copy_strings(struct husk_vm *vm, const struct husk_config *config)
{
    vm->append = strdup(config->append ? config->append : "");
    vm->kernel = config->kernel ? strdup(config->kernel) : NULL;
    for (; vm->n_initrds < config->n_initrds; vm->n_initrds++) {
        char *path = strdup(config->initrds[vm->n_initrds]);

        if (!path)
            return false;
        vm->initrds[vm->n_initrds] = path;
    }
    return vm->append && (vm->kernel || !config->kernel);
}

int vm_take_config(struct husk_vm *vm, const struct husk_config *given,
                   struct husk_err *err)
{
    struct husk_config *config = &vm->config;
    int rc = abi_take(config, sizeof *config, given, "husk_config", err);

    if (rc == 0)
        rc = check(config, err);
    if (rc < 0)
        return rc;
    if (!config->memory)
        config->memory = DEFAULT_MEMORY;
    if (!config->cpus)
        config->cpus = 1;
    return copy_strings(vm, config) ? 0 : fail(err, -ENOMEM, "out of memory");
}

void vm_free_config(struct husk_vm *vm)
{
    for (unsigned i = 0; i < vm->n_initrds; i++)
        free(vm->initrds[i]);
    free(vm->kernel);
    free(vm->append);
}
