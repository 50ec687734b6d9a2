/*
 * A device from its SPEC to its end: connecting or starting the back-end,
 * probing it, its place on the bus, and what the loop does for it while the
 * guest runs.
 */
#ifndef HUSK_VMM_LINK_DEVICE_H
#define HUSK_VMM_LINK_DEVICE_H

#include <ev.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "devices/channel.h"
#include "devices/frontend.h"
#include "devices/probe.h"
#include "devices/shm.h"
#include "devices/transport.h"
#include "vmm/link/child.h"
#include "vmm/machine/machine.h"
#include "vmm/link/spec.h"

struct device;

/* What a device tells its VM. Loop thread, but for wake(). */
struct device_events {
    void (*ready)(void *ctx, struct device *device);
    /* before it was ready: nothing can be done; err is the device's line */
    void (*failed)(void *ctx, const struct husk_err *err);
    /* after that: it is lost, and the VM goes on */
    void (*lost)(void *ctx, struct device *device);
    /* what device_reboot() caused is done, or the device lost */
    void (*settled)(void *ctx, struct device *device);
    void (*log)(void *ctx, enum husk_log level, const char *text);
    void (*wake)(void *ctx); /* call device_wake() on the loop; any thread */
    void *ctx;
};

enum restore_step {
    RESTORE_STATUS,
    RESTORE_INFLIGHT,
    RESTORE_RINGS,
    RESTORE_CONFIG,
    RESTORE_END,
};

enum device_state {
    DEVICE_NEW,
    DEVICE_CONNECTING, /* until there is a connection */
    DEVICE_PROBING,
    DEVICE_READY,
    DEVICE_PAUSING,   /* away: until the next try */
    DEVICE_RESTORING, /* away: back, and being told where things stood */
    DEVICE_LOST,
};

struct device {
    struct ev_loop *loop;
    struct device_events events;
    struct spec spec;
    enum device_state state;
    struct child child;
    struct helper *helper; /* owned */
    struct frontend fe;
    struct probe probe;
    struct channel channel;
    struct transport transport;
    bool has_transport;
    struct shm shm;
    int call_fd; /* a duplicate of the pin's, owned; -1 before it has a place */
    int err_fd;  /* eventfd, owned */
    gpa_t base;
    uint32_t gsi;

    ev_io socket, hang_up, err, requests, control, output;
    ev_timer shm_timer; /* the next look at what is mapped */
    ev_timer timer;     /* the next try, or the deadline of what is due */
    uint64_t taken;     /* answers that had come when the deadline began */
    int hang_up_fd;     /* an epoll of its own, for EPOLLRDHUP alone; owned */
    uint64_t t_connected, t_ready; /* the first time; ns, 0: not yet */
    ev_tstamp started, pause; /* of connecting: since when, until the next */
    ev_tstamp
        leaving_since;    /* the back-end before is being killed; 0: is not */
    unsigned ring_errors; /* said so far */

    /* set by the loop, seen to by whoever holds the device's lock */
    atomic_bool hung_up, ring_error, config_changed, faulted;
    atomic_bool wake_again; /* the loop found the lock held */
    atomic_bool watching;   /* the loop takes answers that are due */
    bool notify;     /* lock: an answer that is due is to interrupt the guest */
    bool told;       /* lock: the loss has been told */
    bool away;       /* lock: the back-end is gone and may come back */
    bool fresh;      /* lock: no back-end had the rings that there are */
    bool torn;       /* lock: one had them, but for one that was reset since */
    bool must_reset; /* lock: the guest must, since nobody knows where they
                      * stand: the back-end that came back has none */
    /* lock: what the guest wrote to config space and no back-end may have
     * seen: as many bytes as it has, and as many that say which; or NULL */
    uint8_t *unsaid;
    struct identity is;   /* fixed when it was ready first */
    uint8_t *config;      /* config space as it was then; owned */
    unsigned round_trips; /* until then */
    enum restore_step step;
    uint64_t epoch; /* of the transport, when the restoring began */
    ev_tstamp away_since, back_since;
    double back_off; /* seconds to the next try */
    bool slow_kicks; /* lock: said that some leave KVM_RUN */
    bool warned;     /* that requests may be done twice */
    bool settling;   /* loop: a reboot waits for the back-end's answers */
    char line[160];  /* of the back-end's output, so far */
    size_t line_size;
    ev_tstamp lines_since; /* when this second of lines began */
    unsigned lines;        /* in it */
    uint64_t lines_left_out;
};

/* device must be all zero. spec text as of husk_vm_add_device(). */
int device_init(struct device *device, struct ev_loop *loop, const char *spec,
                unsigned index, const struct mem *mem, int stop_fd,
                const struct device_events *events, struct husk_err *err);
/* A back-end that was started has until deadline to end by itself. */
void device_fini(struct device *device, uint64_t deadline);

/* Connect or start, and probe. ready() or failed() follows, perhaps at once.
 *   -errno  it failed at once; failed() does not follow */
int device_start(struct device *device, struct husk_err *err);

/* Bytes of window that a ready device needs. */
size_t device_window_size(const struct device *device);

/* Guest memory faulted, or may: true if this device's shared memory is to
 * blame, which is lost then. Any thread. */
bool device_faulted(struct device *device);

/* Give the shared memory regions of a ready device their places, from base up;
 * *end is where the last one ends. */
void device_place_shm(struct device *device, gpa_t base, gpa_t *end);

/* A ready device gets its registers and interrupt. */
int device_place(struct device *device, const struct window *window,
                 const struct mem *mem, uint32_t gsi, int call_fd, int ack_fd,
                 struct husk_err *err);

/* Put it on the bus of a machine. */
int device_attach(struct device *device, struct machine *machine,
                  struct husk_err *err);

/* The machine is gone: reset the device for the next one. settled() follows,
 * perhaps at once. */
void device_reboot(struct device *device);

/* See to what the vCPUs left for the loop. */
void device_wake(struct device *device);

/* What follows is for the device's own files. */

/* Forget what is unsaid. Under the device's lock. */
void device_drop_unsaid(struct device *device);

extern const struct channel_ops device_channel_ops;

/* Seconds of a clock that nobody sets. */
ev_tstamp device_now(void);

/* A line that begins with the device's name. */
void device_say(struct device *device, enum husk_log level, const char *text);

/* Connect or start, from scratch: what there was of a connection is dropped.
 *   -errno  it failed at once; err is the device's line */
int device_connect(struct device *device, struct husk_err *err);
/* The timer's turn: try again. */
void device_connect_on(struct device *device);
void device_stop_child(struct device *device);
void device_pause(struct device *device, double seconds);
/* A started back-end that hung up: what became of it says more. */
bool device_last_words(struct device *device, struct husk_err *err);
void device_on_control(struct ev_loop *loop, ev_io *watcher, int revents);
void device_on_output(struct ev_loop *loop, ev_io *watcher, int revents);

/* Go on with the probe, as far as the answers reach. */
void device_probe_on(struct device *device);
/* Before it was ready: the end of the attempt. */
void device_give_up(struct device *device, const struct husk_err *err);

/* Whether the loss of its back-end is the end of the device. */
bool device_may_return(const struct device *device);
/* The back-end is gone: see that it comes back. Under the device's lock. */
void device_away(struct device *device);
/* An attempt to get it back failed. */
void device_retry(struct device *device, const struct husk_err *err);
/* It is there again, and has said what it is. */
void device_returned(struct device *device);
/* Go on with telling it where things stood, as far as the answers reach. */
void device_restore_on(struct device *device);
/* Watch a ready connection: its end, and the back-end's requests. */
int device_watch_ready(struct device *device);
/* frontend.config_arrived, once there is a transport */
void device_config_arrived(void *ctx);
/* It is lost for good. Under no lock. */
void device_lose(struct device *device, const char *line);

/* Watch the connection for POLLIN, POLLOUT, both or nothing. */
void device_watch(struct device *device, short events);
/* (Re)start the deadline of what is due. */
void device_arm(struct device *device);
void device_stop_watchers(struct device *device);

/* transport_ops.leave: under the device's lock, on any thread, before it is let
 * go. */
void device_leave(void *ctx);

#endif
