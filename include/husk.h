/*
 * libhusk: a virtual machine without devices of its own.
 *
 * A VM of libhusk is guest memory, vCPUs, an interrupt controller, a serial
 * port and a way to stop. Every virtio device is another process, a vhost-user
 * back-end. libhusk connects to it, learns from it what it is, builds the
 * virtio-mmio transport and the device's entry in the guest's tables from its
 * answers, and hands guest memory and notifications to it. Once the guest's
 * driver has set DRIVER_OK, requests pass between guest and back-end without
 * libhusk.
 *
 * This header is the manual of the library. It is the only header that is
 * installed. It needs the C library and nothing else, and C++ can include it.
 *
 * A VM's life
 *
 *   husk_vm_create()       takes a configuration
 *   husk_vm_add_device()   once for each device, in the order of the guest's
 *   husk_vm_set_console()  where the serial port's output goes
 *   husk_vm_start()        boots; or husk_vm_probe(), to learn what the
 *                          back-ends are without booting
 *   ...                    the embedder's event loop runs
 *   ended()                is called once when the run is over
 *   husk_vm_destroy()      frees everything, in any state
 *
 * The rules of the whole header
 *
 *   Errors
 *     A call that can fail returns 0 or more on success and a negative errno on
 *     failure. The codes that a call can return are listed with it. A call with
 *     a struct husk_err *err fills it on failure with the code and one line for
 *     a person to read, and leaves it alone on success; NULL is allowed.
 *
 *   Threads
 *     A VM belongs to one thread: the one that runs its event loop. All calls
 *     on a VM are made there, but for those that say "any thread". Several VMs
 *     can share a loop; VMs on different loops share nothing. vCPUs are threads
 *     of the library's own.
 *
 *   Callbacks
 *     Callbacks come on the VM's thread, while no lock of the library is held,
 *     and never from a vCPU's thread or a signal handler. They come from inside
 *     ev_run(), but for log() and console_room(), which a call of the library
 *     may also make before it returns. A callback may call husk_vm_stop(),
 *     husk_vm_console_input() and the queries (husk_vm_device(),
 *     husk_vm_device_tree(), husk_vm_stats(), husk_vm_timeline()), and
 *     probed() may also call husk_vm_start(). No callback may destroy its VM.
 *     A callback that takes long delays everything else on the loop, not the
 *     vCPUs.
 *
 *   The loop
 *     The embedder creates a libev loop and runs it. The library adds watchers
 *     to it and takes them away again; it never runs the loop and never breaks
 *     out of it. After husk_vm_destroy() nothing of the VM is left on the loop.
 *     libev is not part of this interface otherwise: struct ev_loop is libev's.
 *
 *   Ownership
 *     Handles are opaque. Strings and arrays that are given to a call are
 *     copied before it returns. File descriptors are borrowed: the library
 *     keeps a duplicate of its own, and the embedder closes what it opened.
 *     Pointers that the library gives out say how long they are valid.
 *     Callbacks get config.ctx as their first argument.
 *
 *   Units
 *     Sizes are bytes. Durations that are given are seconds, as double;
 *     durations that are reported say their unit in their name (_ms). Points in
 *     time are CLOCK_MONOTONIC in nanoseconds.
 *
 *   Sizes and versions
 *     Structs can grow, so that a program and a library of different versions
 *     work together. A struct begins with its size, which the caller sets to
 *     sizeof, and zero means the default in every other field:
 *
 *         struct husk_config config = { .size = sizeof config };
 *         struct husk_stats stats = { .size = sizeof stats };
 *
 *     A struct that the library reads may have any size from sizeof(size_t) up.
 *     Fields beyond its end are zero for the library. A struct that is longer
 *     than the library knows is taken if all bytes that the library does not
 *     know are zero; otherwise the program wants something that this library
 *     cannot do, and the call returns -E2BIG. A size below sizeof(size_t), also
 *     0, is -EINVAL.
 *
 *     A struct that the library fills may have any size from sizeof(size_t) up
 *     too. Nothing is written beyond it, fields that this library does not know
 *     are set to zero, and its size stays as the caller set it. The library
 *     gives struct husk_end out itself, with its own size in it: a program that
 *     may meet an older library asks HUSK_HAS(end, field) before it reads a
 *     field that was added later.
 *
 *     From version 0.2.0 on: a field that was released keeps its offset, type
 *     and meaning. New fields are added at the end, never in padding, for which
 *     there are explicit reserved fields that must be zero. New values of an
 *     enum are added at its end. A struct inside of another one is pointed to
 *     and has a size of its own. struct husk_err is the exception: it never
 *     changes. Version 0.1.0 promises none of this.
 *
 *   What the library leaves alone
 *     The library never prints, exits, reads the environment, changes the
 *     terminal, a signal's handler, the signal mask of the embedder's threads,
 *     a resource limit or the working directory. vCPU threads use the signal
 *     SIGRTMIN, which is blocked there but inside KVM_RUN. A back-end that is
 *     started by exec= is a child process that the library itself waits for: a
 *     program that waits for any child (waitpid(-1)) may take its status away.
 *     It gets some of this program's environment variables, which are read in
 *     the child process.
 *
 * A program that boots a guest:
 *
 *     // cc program.c -lhusk -lfdt -lev -lm
 *     #include <ev.h>
 *     #include <husk.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *     #include <unistd.h>
 *
 *     struct run {
 *         struct ev_loop *loop;
 *         int status;
 *     };
 *
 *     static void on_ended(void *ctx, const struct husk_end *end)
 *     {
 *         struct run *run = (struct run *)ctx;
 *
 *         if (end->text)
 *             fprintf(stderr, "%s: %s\n", husk_outcome_name(end->outcome),
 *                     end->text);
 *         run->status = end->status;
 *         ev_break(run->loop, EVBREAK_ALL);
 *     }
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct run run = { ev_loop_new(0), 125 };
 *         struct husk_config config;
 *         struct husk_vm *vm;
 *         struct husk_err err;
 *
 *         if (argc < 2) {
 *             fprintf(stderr, "usage: program KERNEL [SPEC]...\n");
 *             return 125;
 *         }
 *         memset(&config, 0, sizeof config);
 *         config.size = sizeof config;
 *         config.kernel = argv[1];
 *         config.ctx = &run;
 *         config.ended = on_ended;
 *         if (husk_vm_create(&vm, run.loop, &config, &err) < 0)
 *             goto failed;
 *         for (int i = 2; i < argc; i++)
 *             if (husk_vm_add_device(vm, argv[i], &err) < 0)
 *                 goto failed;
 *         if (husk_vm_set_console(vm, STDOUT_FILENO, &err) < 0 ||
 *             husk_vm_start(vm, &err) < 0)
 *             goto failed;
 *         ev_run(run.loop, 0); // until on_ended() breaks out of it
 *         goto out;
 *     failed:
 *         fprintf(stderr, "%s\n", err.text);
 *     out:
 *         husk_vm_destroy(vm);
 *         ev_loop_destroy(run.loop);
 *         return run.status;
 *     }
 * End of the program.
 */
#ifndef HUSK_H
#define HUSK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HUSK_API __attribute__((visibility("default")))

#define HUSK_VERSION "0.1.0"

struct ev_loop; /* libev's */
struct husk_vm;

/*
 * Whether the struct that object points to has a field, by the size in it: for
 * structs that an older library may have filled.
 */
#define HUSK_HAS(object, field)                                                \
    ((size_t)((const char *)&(object)->field - (const char *)(object)) +       \
         sizeof((object)->field) <=                                            \
     (object)->size)

/*
 * What went wrong. The caller provides it; a failing call fills it. It has no
 * size, since it never changes.
 */
struct husk_err {
    int code;       /* the negative errno that the call returns */
    char text[256]; /* one line in English, cut to fit, without a newline */
};

/*
 * How a run ended. The value is for programs; its name, as the command's record
 * has it, comes from husk_outcome_name(). "The exit port" is the guest's way to
 * give a verdict: a 32-bit write of a value to a port, or a register, that the
 * README names. New values are added at the end.
 */
enum husk_outcome {
    HUSK_PASS,       /* the guest powered off, or wrote 0 to the exit port */
    HUSK_FAIL,       /* the guest wrote 1 to 109, but for 77 */
    HUSK_SKIP,       /* the guest wrote 77: it could not run its test */
    HUSK_PANIC,      /* the guest reported a panic, or wrote 110 */
    HUSK_RESET,      /* the guest asked for a reset, or triple-faulted */
    HUSK_NO_VERDICT, /* the guest wrote a value above 110 */
    HUSK_BACKEND,    /* a device was lost after the guest's first instruction,
                      * and the run did not then end by pass, fail or skip */
    HUSK_ERROR,      /* libhusk, KVM or a back-end failed; text says how */
    HUSK_STOPPED,    /* husk_vm_stop() was called before the run ended */
    HUSK_TIMEOUT,    /* the guest ran longer than config.timeout */
};

/*
 * The outcome's name: "pass", "fail", "skip", "panic", "reset", "no-verdict",
 * "backend", "error", "stopped" or "timeout"; NULL for a value that this
 * library does not know. The string is constant. Any thread.
 */
HUSK_API const char *husk_outcome_name(enum husk_outcome outcome);

/*
 * Everything that is known when a run has ended. The library makes it; it is
 * valid, with the string in it, while ended() runs.
 */
struct husk_end {
    size_t size; /* of the struct as this library has it; see HUSK_HAS() */
    enum husk_outcome outcome;
    /*
     * The exit status that the husk command has for this outcome: the guest's
     * own value for pass (0), fail and skip, 110 panic, 111 reset, 113 no
     * verdict, 114 back-end, 124 timeout, 125 error, 130 stopped.
     */
    int status;
    int64_t guest_value; /* what the guest wrote to the exit port, or -1 */
    const char *text;    /* one line that says why, or NULL */
};

/* How important a message is. A warning is for every user, the rest for those
 * who asked for more. */
enum husk_log { HUSK_LOG_WARNING, HUSK_LOG_INFO, HUSK_LOG_DEBUG };

/*
 * How the guest learns which virtio devices it has. AUTO takes what suits the
 * kernel: the device tree for an ELF kernel that is not Linux; ACPI for Linux
 * and for a kernel with a PVH entry, but the tree for a Linux whose command
 * line has "acpi=off".
 */
enum husk_discovery {
    HUSK_DISCOVERY_AUTO,
    HUSK_DISCOVERY_ACPI,    /* ACPI tables, a device LNRO0005 for each */
    HUSK_DISCOVERY_FDT,     /* a device tree, a node virtio,mmio for each */
    HUSK_DISCOVERY_CMDLINE, /* a virtio_mmio.device= word for each on the
                             * command line, and an MP table */
};

/* As many initrds as a VM can have. */
#define HUSK_MAX_INITRDS 16

/*
 * What a VM is. husk_vm_create() copies it, strings included; the callbacks and
 * ctx are kept until husk_vm_destroy(). Any callback may be NULL.
 */
struct husk_config {
    size_t size; /* sizeof(struct husk_config) */

    /*
     * Bytes of guest memory: 2 MiB to 1 TiB in whole pages of the host's; 0 is
     * 256 MiB. Nothing is allocated until the guest touches it. A size that the
     * host's memory and swap, or the memory limit of this process's cgroup,
     * could never hold is refused by husk_vm_start().
     */
    uint64_t memory;
    uint32_t cpus; /* vCPUs: 1 to 64; 0 is 1 */

    uint32_t n_initrds; /* how many initrds has; HUSK_MAX_INITRDS at most */
    /*
     * Paths of the kernel's image and of the initial RAM disks, which are
     * joined in this order. husk_vm_start() reads the files, each once; they
     * must be regular files. husk_vm_probe() alone needs no kernel.
     */
    const char *kernel;
    const char *append; /* the kernel's command line; NULL is "" */
    const char *const *initrds;

    enum husk_discovery discovery;

    /* A guest's reset boots it again, with the same back-ends and the images
     * that husk_vm_start() read, and does not end the run. */
    bool reset_again;
    /* The guest leaves KVM_RUN for every read of a virtio register, as it must
     * on a KVM without read-only memory slots. Slower; for tests. */
    bool exits_on_read;
    uint8_t reserved[2]; /* zero */

    /*
     * Seconds from husk_vm_start() (or husk_vm_probe()) to HUSK_TIMEOUT, or to
     * HUSK_ERROR where the guest has not run its first instruction by then. 0
     * is no limit.
     */
    double timeout;

    void *ctx; /* the first argument of every callback */

    /*
     * A message for the user: one line without newline, valid during the call.
     * Messages come in the order in which they arose, those of a run before its
     * ended(). While the embedder keeps the loop from running 512 of them wait;
     * what exceeds that is left out, and a message says how many that were.
     * husk_vm_destroy() may call it a last time.
     */
    void (*log)(void *ctx, enum husk_log level, const char *text);

    /*
     * husk_vm_probe() is done: husk_vm_device() and husk_vm_device_tree() know
     * everything. Called once, unless husk_vm_start() was called meanwhile.
     */
    void (*probed)(void *ctx);

    /*
     * The run has ended, or what husk_vm_probe() or husk_vm_start() began has
     * failed after it returned 0. Called exactly once after a call that
     * returned 0, unless the VM is destroyed first or was only probed; never
     * after a call that returned an error. No other callback follows. All
     * output that the console's reader takes has been written.
     */
    void (*ended)(void *ctx, const struct husk_end *end);

    /*
     * The serial port takes input: once when a boot begins, and then each time
     * when husk_vm_console_input() took less than it was given and there is
     * room again.
     */
    void (*console_room)(void *ctx);
};

/*
 * Make a VM on a loop. Nothing is connected, read or allocated for the guest
 * yet. On success *out is the VM, which husk_vm_destroy() frees; on failure it
 * is NULL. The loop must exist until then.
 *   -EINVAL  a field is out of range, config->size is below sizeof(size_t), or
 *            initrds lacks a path; err says which, and what is possible
 *   -E2BIG   config is of a newer version and wants what this library cannot do
 *   -ENOMEM  out of memory
 *   -EMFILE  no descriptor is left: a VM needs two at first
 */
HUSK_API int husk_vm_create(struct husk_vm **out, struct ev_loop *loop,
                            const struct husk_config *config,
                            struct husk_err *err);

/*
 * Take a VM apart, in whatever state it is. vCPUs are stopped and joined.
 * Back-ends that it started get SIGTERM, a second to end, and SIGKILL; those
 * that it connected to see the connection close. Console output that is still
 * buffered is written as far as that needs no waiting. Messages that wait go to
 * log(); ended() is not called. vm may be NULL. Not from a callback.
 */
HUSK_API void husk_vm_destroy(struct husk_vm *vm);

/*
 * Add a device; the guest sees devices in the order of these calls. Before
 * husk_vm_probe() and husk_vm_start(). spec is the path of a vhost-user socket,
 * or key=value pairs separated by commas, as the README lists them. Nothing is
 * connected or started yet. After an error the VM is as it was before.
 *   -EINVAL  the spec is wrong; err says where, and what would be right
 *   -ENOSPC  there are 32 devices already
 *   -EBUSY   the VM was probed or started before
 *   -ENOMEM  out of memory
 */
HUSK_API int husk_vm_add_device(struct husk_vm *vm, const char *spec,
                                struct husk_err *err);

/*
 * Where the output of the guest's serial port goes: to fd, which is borrowed
 * and can be closed after the call. -1, the default, drops it. Before
 * husk_vm_start(); a second call takes the place of the first. vCPUs never wait
 * for the reader: up to 256 KiB are buffered, then output is dropped and
 * counted (husk_stats.console_dropped). When the run ends, the reader gets what
 * is buffered as long as it takes something every second.
 *
 * A pipe or terminal is opened anew, so that O_NONBLOCK on the embedder's
 * descriptor does not change.
 *   -EBUSY   the VM was started before
 *   -EBADF   fd is no open descriptor
 *   -EMFILE  no descriptor is left
 *   -ENOMEM  out of memory
 */
HUSK_API int husk_vm_set_console(struct husk_vm *vm, int fd,
                                 struct husk_err *err);

/*
 * Connect to, or start, all back-ends at once and probe them. probed() follows
 * on the loop, or ended() with HUSK_ERROR if a back-end fails; how long that
 * takes is limited by each device's wait= and deadline=, and by config.timeout.
 * Needs no /dev/kvm and no kernel. husk_vm_start() may be called afterwards, or
 * meanwhile. After an error but -EBUSY only husk_vm_destroy() may follow.
 *   -EBUSY   the VM was probed or started before
 *   -ENOMEM  out of memory
 *   other    connecting to, or starting, a back-end failed at once; err says
 *            which and how
 */
HUSK_API int husk_vm_probe(struct husk_vm *vm, struct husk_err *err);

/*
 * Boot the guest: read the kernel and the initrds, probe the back-ends unless
 * that was done, build the machine meanwhile, load the images and run the
 * vCPUs. ended() follows on the loop. Each file is read here, once: a guest
 * that boots again after a reset gets the same content. The call takes as long
 * as reading the files and building the machine; the guest begins in it, or on
 * the loop as soon as the last back-end has answered.
 *
 * After an error but -EBUSY nothing more happens: no callback but log() is
 * called, and only husk_vm_destroy() may follow.
 *   -EBUSY    the VM was started before, or a call has failed
 *   -ENOENT   no kernel was given, or the kernel or an initrd does not exist
 *   -EINVAL   the kernel or an initrd is empty or not a regular file
 *   -EFBIG    an initrd is larger than guest memory, or the kernel's file than
 *             guest memory and 1 GiB
 *   -ETXTBSY  the kernel or an initrd was written to while it was read
 *   -ENOEXEC  the kernel is damaged, or of a kind that is not supported
 *   -ENODEV   /dev/kvm is missing or cannot be used; err says why
 *   -ENOMEM   the host cannot hold that much memory, or the images do not fit
 *             into guest memory
 *   -ENOSPC   the devices' shared memory exceeds the processor's address space
 *   other     KVM or the connection to a back-end failed; err says at what
 * The errors of loading come from here only if all back-ends had answered, and
 * by ended() otherwise.
 */
HUSK_API int husk_vm_start(struct husk_vm *vm, struct husk_err *err);

/*
 * End the run as HUSK_STOPPED; ended() follows on the loop. A run that has
 * ended stays as it ended. Before husk_vm_start() it makes the run end as soon
 * as it begins. Nothing that a guest or a back-end does can delay it. Any
 * thread, while the VM exists; also a signal handler: it changes no errno.
 */
HUSK_API void husk_vm_stop(struct husk_vm *vm);

/*
 * Offer bytes to the guest's serial port. Returns how many of them were taken,
 * at most size. When that is fewer, 0 included, the port's buffer is full:
 * console_room() says when to offer the rest.
 *   -EAGAIN  the guest does not run: before its boot, during a reboot, after
 *            the end. console_room() follows when a boot begins.
 */
HUSK_API ssize_t husk_vm_console_input(struct husk_vm *vm, const void *data,
                                       size_t size);

/*
 * The flattened device tree that describes the VM, whether its guest gets it or
 * not. From probed() on, or when all back-ends have answered after
 * husk_vm_start(). *blob is memory of malloc() that the caller frees; *size its
 * bytes.
 *   -EAGAIN  the devices are not known yet
 *   -EINVAL  libfdt refused the tree; err has its words
 *   -ENOMEM  out of memory
 */
HUSK_API int husk_vm_device_tree(struct husk_vm *vm, void **blob, size_t *size,
                                 struct husk_err *err);

/*
 * A device: what its back-end answered, and what the guest is shown. Strings
 * and config are the VM's, constant, and valid until husk_vm_destroy().
 */
struct husk_device {
    size_t size;           /* sizeof(struct husk_device) */
    const char *name;      /* of name=, or "virtio" and the index */
    const char *probe;     /* how the back-end was asked: "specs", "messages",
                            * or "none" */
    const uint8_t *config; /* config_size bytes of config space as probed */
    uint64_t address;      /* of its registers, in guest memory */
    uint64_t features;     /* VIRTIO feature bits that the back-end offers */
    uint64_t protocol_features; /* vhost-user ones that it offers */
    uint32_t id;                /* VIRTIO device type */
    uint32_t config_size;       /* bytes of config space that the guest sees */
    uint32_t min_vqs, max_vqs;  /* as the back-end says; 0: it does not */
    uint32_t vqs;               /* queues that the guest sees */
    uint32_t irq;               /* interrupt pin */
    uint32_t round_trips;       /* waits for the back-end until it was ready */
    bool known;      /* the back-end has answered; if not, all but name is 0 */
    bool standalone; /* the spec gave nothing that the back-end did not say */
    uint8_t reserved[2];
};

/*
 * Fill *info for device number index, from 0. In any state.
 *   -ENOENT  there are not so many devices
 *   -EINVAL  info->size is below sizeof(size_t)
 */
HUSK_API int husk_vm_device(const struct husk_vm *vm, unsigned index,
                            struct husk_device *info);

/*
 * Names for people, or NULL where none is known: of a VIRTIO device type
 * ("block"), of a feature bit of that type or of all types ("VIRTIO_F_..."
 * without its prefix), and of a vhost-user protocol feature's bit. The strings
 * are constant. Any thread.
 */
HUSK_API const char *husk_device_type_name(uint32_t id);
HUSK_API const char *husk_feature_name(uint32_t id, unsigned bit);
HUSK_API const char *husk_protocol_feature_name(unsigned bit);

/*
 * Counts and durations of a run. Exits are counted when a machine is taken
 * down, so that they are complete in ended() and after it.
 */
struct husk_stats {
    size_t size; /* sizeof(struct husk_stats) */
    /* returns from KVM_RUN by kind, summed over vCPUs and boots: port I/O, MMIO
     * reads and writes, halts that KVM does not handle, all others */
    uint64_t exits_io, exits_mmio_read, exits_mmio_write, exits_hlt,
        exits_other;
    uint64_t console_dropped; /* bytes of output that were not written */
    /* milliseconds since husk_vm_start() or husk_vm_probe(), 0: it has not
     * come: until the machine is built; until all back-ends have answered;
     * until the first instruction; until the end */
    double setup_ms, probe_ms, first_entry_ms, total_ms;
    uint32_t boots; /* of the kernel; more than one with reset_again */
    uint32_t reserved;
};

/*
 * Fill *stats. In any state.
 *   -EINVAL  stats->size is below sizeof(size_t)
 */
HUSK_API int husk_vm_stats(const struct husk_vm *vm, struct husk_stats *stats);

/*
 * A moment of a VM's first boot. Of the VM: "create", "start", "memory" (guest
 * memory is mapped), "kvm" (KVM's virtual machine exists), "slots" (its memory
 * slots), "chips" (its interrupt controllers), "vcpus", "known" (all back-ends
 * have answered), "loaded" (images and tables are in guest memory), "entry"
 * (the first KVM_RUN), "output" (the guest's first byte), "end". Of each
 * device: "connected" and "ready".
 */
struct husk_moment {
    const char *name; /* as above; constant */
    uint64_t ns;      /* CLOCK_MONOTONIC */
    int32_t device;   /* the device's index, or -1: it is the VM's moment */
    uint32_t reserved;
};

/*
 * The moments that have come, in their order: the first max of them are written
 * to moments[0] to moments[max - 1], each of which has size bytes, namely
 * sizeof(struct husk_moment). The rule for structs that the library fills holds
 * for each of them, but that the size is an argument and not a field. moments
 * may be NULL if max is 0. Returns how many moments there are, which may exceed
 * max. Complete in ended() and after it.
 *   -EINVAL  size is below sizeof(size_t)
 */
HUSK_API ssize_t husk_vm_timeline(const struct husk_vm *vm,
                                  struct husk_moment *moments, size_t size,
                                  size_t max);

#ifdef __cplusplus
}
#endif

#endif
