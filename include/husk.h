/*
 * libhusk: a virtual machine without devices of its own.
 *
 * A husk VM is guest memory, vCPUs, an interrupt controller, a serial port and
 * a way to stop. Every virtio device is another process, a vhost-user back-end:
 * libhusk asks it what it is, builds the virtio-mmio transport and the device's
 * place in the guest's tables from its answers, and relays.
 *
 * The rules of the whole header:
 *
 *   Errors      A call that can fail returns 0 or a negative errno, and fills
 *               the caller's struct husk_err (NULL allowed) with one line for a
 *               person to read.
 *   Threads     A VM belongs to the thread that runs its event loop. Calls are
 *               made there, and callbacks come there, but for the few calls
 *               that say "any thread". vCPUs are threads of the library's own;
 *               no callback ever runs on them.
 *   The loop    The embedder creates a libev loop and runs it. The library adds
 *               watchers and takes them away; it never runs or breaks the loop.
 *   Ownership   Handles are opaque. Strings are copied. File descriptors are
 *               borrowed: the library keeps a duplicate of its own. Callbacks
 *               get the ctx of the configuration first.
 *   Sizes       A configuration struct begins with its own size, so that it can
 *               grow, and zero means the default in every field.
 *   Manners     The library never prints, exits, reads the environment, touches
 *               the terminal or installs a signal handler. It uses the signal
 *               SIGRTMIN on vCPU threads, where it is blocked except inside
 *               KVM_RUN. It raises no resource limit.
 *
 * A program that boots a guest:
 *
 *     struct ev_loop *loop = ev_loop_new(0);
 *     struct husk_config config = { .size = sizeof config,
 *                                   .kernel = "hello.elf",
 *                                   .ended = on_ended, .ctx = &mine };
 *     struct husk_vm *vm;
 *
 *     if (husk_vm_create(&vm, loop, &config, &err) < 0 ||
 *         husk_vm_add_device(vm, "/run/rng.sock", &err) < 0 ||
 *         husk_vm_start(vm, &err) < 0)
 *         die(err.text);
 *     ev_run(loop, 0);          // on_ended() calls ev_break()
 *     husk_vm_destroy(vm);
 */
#ifndef HUSK_H
#define HUSK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HUSK_API __attribute__((visibility("default")))

#define HUSK_VERSION "0.1.0"

struct ev_loop; /* libev's */
struct husk_vm;

struct husk_err {
    int code;       /* negative errno */
    char text[256]; /* one line, no newline at its end */
};

/*
 * How a run ended. The names are those of the record; the value of each is
 * found with husk_outcome_name().
 */
enum husk_outcome {
    HUSK_PASS,       /* powered off, or the guest wrote 0 */
    HUSK_FAIL,       /* the guest wrote 1 to 109, not 77 */
    HUSK_SKIP,       /* the guest wrote 77 */
    HUSK_PANIC,      /* the guest said that it panicked */
    HUSK_RESET,      /* the guest asked for a reset, or triple-faulted */
    HUSK_NO_VERDICT, /* the guest wrote a value that is not its to give */
    HUSK_BACKEND,    /* a device was lost, and no verdict came after that */
    HUSK_ERROR,      /* husk, KVM or a back-end failed; see text */
    HUSK_STOPPED,    /* husk_vm_stop() */
    HUSK_TIMEOUT,    /* the limit of husk_config.timeout was reached */
};

/* The outcome's name in the record: "pass", "no-verdict", ... Any thread. */
HUSK_API const char *husk_outcome_name(enum husk_outcome outcome);

/* Everything that is known when a VM has ended. */
struct husk_end {
    enum husk_outcome outcome;
    int status;       /* the command's exit status for this outcome */
    long guest_value; /* what the guest wrote to the exit port, or -1 */
    const char *text; /* one line, or NULL where there is nothing to say */
};

enum husk_log { HUSK_LOG_WARNING, HUSK_LOG_INFO, HUSK_LOG_DEBUG };

/* How a kernel is told of its devices. */
enum husk_discovery {
    HUSK_DISCOVERY_AUTO, /* as suits the kernel: tree, or ACPI and tree */
    HUSK_DISCOVERY_ACPI,
    HUSK_DISCOVERY_FDT,     /* the device tree */
    HUSK_DISCOVERY_CMDLINE, /* virtio_mmio.device= words and an MP table */
};

#define HUSK_MAX_INITRDS 16

struct husk_config {
    size_t size;        /* sizeof(struct husk_config) */
    uint64_t memory;    /* bytes of guest memory, whole pages; 256 MiB */
    unsigned cpus;      /* vCPUs; 1 */
    const char *kernel; /* path of the image; needed by husk_vm_start() */
    const char *append; /* kernel command line; "" */
    const char *const *initrds; /* paths, joined in this order; NULL: none */
    unsigned n_initrds;         /* HUSK_MAX_INITRDS at most */
    enum husk_discovery discovery;
    /* seconds from start to HUSK_TIMEOUT, or to HUSK_ERROR where the guest has
     * not started by then; none */
    double timeout;
    bool reset_again; /* a guest's reset boots it again, and ends nothing */
    bool no_window;   /* guests leave KVM_RUN for every register read */

    void *ctx;
    /* A line for the user, without newline. */
    void (*log)(void *ctx, enum husk_log level, const char *text);
    /* All devices are known, by husk_vm_probe(). */
    void (*probed)(void *ctx);
    /*
     * The VM has ended, or husk_vm_probe() or husk_vm_start() failed after it
     * returned. Called once, last; end is valid during the call. The only call
     * allowed on the VM inside it is a query; destroy it after the loop.
     */
    void (*ended)(void *ctx, const struct husk_end *end);
    /* The serial port takes input again, see husk_vm_console_input(). */
    void (*console_room)(void *ctx);
};

/*
 * Make a VM. Nothing is opened, connected or allocated for the guest yet.
 *   -EINVAL  a field is out of range; err says which and its limits
 *   -ENOMEM  out of memory
 */
HUSK_API int husk_vm_create(struct husk_vm **out, struct ev_loop *loop,
                            const struct husk_config *config,
                            struct husk_err *err);

/*
 * Take a VM apart, in whatever state it is: vCPUs are stopped and joined,
 * back-ends that were started by it are ended, every descriptor is closed.
 * Output still buffered is written if it can be without waiting. NULL is
 * allowed. Not from a callback.
 */
HUSK_API void husk_vm_destroy(struct husk_vm *vm);

/*
 * Add a device, in guest order. Before husk_vm_probe() and husk_vm_start().
 * spec is the path of a vhost-user socket, or key=value pairs as the README
 * lists them. Nothing is connected yet.
 *   -EINVAL  the spec is wrong; err says where
 *   -ENOSPC  there are 32 devices already
 *   -EBUSY   the VM was started
 *   -ENOMEM  out of memory
 */
HUSK_API int husk_vm_add_device(struct husk_vm *vm, const char *spec,
                                struct husk_err *err);

/*
 * The serial port's output goes to fd, which is borrowed; -1, the default,
 * drops it. A reader that stops costs 256 KiB of buffer, then output is dropped
 * and counted; no vCPU ever waits for it. Before husk_vm_start().
 *   -EBUSY   the VM was started
 *   -errno   fd could not be duplicated
 */
HUSK_API int husk_vm_set_console(struct husk_vm *vm, int fd,
                                 struct husk_err *err);

/*
 * Connect, or start, all back-ends at once and ask them what they are. The
 * callback probed() follows on the loop, or ended() with HUSK_ERROR. Needs no
 * /dev/kvm.
 *   -EBUSY  called before
 */
HUSK_API int husk_vm_probe(struct husk_vm *vm, struct husk_err *err);

/*
 * Boot: read the kernel and the initrds, probe unless that was done, build the
 * machine meanwhile, load the images and run the vCPUs. ended() follows on the
 * loop. Each file is read here, once: a guest that boots again after a reset
 * gets the same content.
 *   -EBUSY   started before
 *   -ENOENT  no kernel was given, or the kernel or an initrd does not exist
 *   -EINVAL  the kernel or an initrd is empty or not a regular file
 *   -EFBIG   an initrd is larger than guest memory, or the kernel's file than
 *            guest memory and 1 GiB
 *   -ETXTBSY the kernel or an initrd was written to while it was read
 *   -ENODEV  no usable /dev/kvm
 *   -ENOMEM  the host cannot back that much memory
 *   other    KVM refused; err names the call
 */
HUSK_API int husk_vm_start(struct husk_vm *vm, struct husk_err *err);

/*
 * End the run as HUSK_STOPPED; ended() follows on the loop. Any thread, also a
 * signal handler. Nothing that a guest or a back-end does can hold it up.
 */
HUSK_API void husk_vm_stop(struct husk_vm *vm);

/*
 * Offer bytes to the guest's serial port. Returns how many were taken; when
 * that is fewer than size, console_room() says when to offer the rest.
 */
HUSK_API size_t husk_vm_console_input(struct husk_vm *vm, const void *data,
                                      size_t size);

/*
 * The device tree of the VM, after probed() or in ended(). The caller frees
 * *blob.
 *   -EAGAIN  the devices are not known yet
 *   -ENOMEM  out of memory
 */
HUSK_API int husk_vm_device_tree(struct husk_vm *vm, void **blob, size_t *size,
                                 struct husk_err *err);

/* What a back-end said of itself, and what the guest is shown. */
struct husk_device {
    const char *name;          /* lives as long as the VM */
    bool known;                /* whether the fields below are valid */
    uint32_t id;               /* VIRTIO device type */
    uint32_t config_size;      /* bytes of config space that the guest sees */
    uint32_t min_vqs, max_vqs; /* the back-end's answers; 0 if none */
    uint32_t vqs;              /* queues that the guest sees */
    const char *probe;         /* "specs", "messages" or "none" */
    bool standalone;           /* needs nothing from the command line */
    uint64_t address;          /* of its registers */
    uint32_t irq;              /* interrupt pin */
    unsigned round_trips;      /* waits for the back-end until it was ready */
    uint64_t features;         /* VIRTIO features as the back-end offers them */
    uint64_t protocol_features;
    const uint8_t *config; /* config_size bytes as probed; until destroy */
};

/*
 * Device number index, from 0. The caller sets info->name and nothing else
 * beforehand: nothing. Any state.
 *   -ENOENT  there are not so many
 */
HUSK_API int husk_vm_device(const struct husk_vm *vm, unsigned index,
                            struct husk_device *info);

/*
 * Names for people, or NULL where none is known: of a VIRTIO device type, of a
 * feature bit of that type (or of all types), and of a vhost-user protocol
 * feature bit. Any thread.
 */
HUSK_API const char *husk_device_type_name(uint32_t id);
HUSK_API const char *husk_feature_name(uint32_t id, unsigned bit);
HUSK_API const char *husk_protocol_feature_name(unsigned bit);

/* Counts and durations of a run. Valid in ended() and after it. */
struct husk_stats {
    /* returns from KVM_RUN by kind, summed over vCPUs */
    uint64_t exits_io, exits_mmio_read, exits_mmio_write, exits_hlt,
        exits_other;
    /* milliseconds: husk_vm_start() until the machine stands; until all
     * devices are known; until the first instruction; until the end */
    double setup_ms, probe_ms, first_entry_ms, total_ms;
    unsigned boots; /* of the kernel; more than one with reset_again */
    uint64_t console_dropped; /* bytes of output that nobody read */
};

HUSK_API void husk_vm_stats(const struct husk_vm *vm, struct husk_stats *stats);

/*
 * A moment of a VM's first boot. Of the VM: "create", "start", "memory" (the
 * guest's is mapped), "kvm" (a virtual machine is there), "slots", "chips",
 * "vcpus", "known" (all devices have answered), "loaded" (image and tables are
 * in guest memory), "entry" (the first KVM_RUN), "output" (the guest's first
 * byte), "end". Of each device: "connected" and "ready".
 */
struct husk_moment {
    const char *name; /* as above; lives for ever */
    int device;       /* its index, or -1: of the VM */
    uint64_t ns;      /* CLOCK_MONOTONIC */
};

/*
 * The moments that have come, in their order: as many as there is room for, at
 * most max. Returns how many there are. Valid in ended() and after it.
 */
HUSK_API size_t husk_vm_timeline(const struct husk_vm *vm,
                                 struct husk_moment *moments, size_t max);

#ifdef __cplusplus
}
#endif

#endif
