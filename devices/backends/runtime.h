/*
 * The runtime of husk's own back-ends: each is one program that is one whole
 * VIRTIO device, a vhost-user back-end that answers the probe. A device says
 * what it is in a struct backend and serves queues; the connection, the rings,
 * the guest's memory, options and signals are done here. One libev loop, one
 * thread, one front-end at a time.
 *
 * Every program takes:
 *   --socket-path=PATH     listen there, serve one front-end after another
 *   --fd=N                 a connected socket, served until it ends; or a
 *                          listening one
 *   --print-capabilities   what it is, as JSON (vhost-user.json's convention)
 *   --help, --version
 * It ends with status 0 on SIGTERM and SIGINT; each error is one line on
 * stderr and status 1.
 */
#ifndef HUSK_BACKENDS_RUNTIME_H
#define HUSK_BACKENDS_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backends/ring.h"

#define DEVICE_MAX_CONFIG 4096u
#define DEVICE_MAX_QUEUES 256u

struct ev_loop;
struct session;
struct device;
struct queue; /* one virtqueue of the connected front-end */

struct backend_option {
    const char *name;  /* without dashes; NULL ends the table */
    const char *value; /* what --help calls the value; NULL: it has none */
    const char *help;
    /* 0, or -1 after complain() */
    int (*set)(struct device *dev, const char *value);
};

/* What a device is before its options and init() change it. */
struct backend_shape {
    uint32_t id; /* VIRTIO device type */
    uint32_t config_size;
    uint32_t min_vqs, max_vqs;
    uint64_t features; /* the device type's own; the runtime adds the rest */
};

/* NULL is allowed for each call but handle(). */
struct backend {
    const char *type; /* as in --print-capabilities; the program is husk-TYPE */
    const char *about;
    const char *const *capabilities; /* NULL-ended, or NULL */
    const struct backend_option *options;
    struct backend_shape shape;

    /* After the options: fill in dev. 0, or -1 after complain(). */
    int (*init)(struct device *dev);
    void (*fini)(struct device *dev);
    /* The driver accepted other features; see device_features(). */
    void (*features)(struct device *dev);
    /*
     * A queue may be used from start() on, until stop(). stop() keeps no chain
     * that does not complete by itself soon: it gives or returns them.
     */
    void (*start)(struct queue *queue);
    void (*stop)(struct queue *queue);
    /* Take chains until there are none, or queue_hold(). */
    void (*handle)(struct queue *queue);
    /* The guest writes config space; in range. 0 or -errno. */
    int (*write_config)(struct device *dev, uint32_t offset, const void *data,
                        uint32_t size);
    /* The guest's reset, or the front-end is gone. No queue is started. */
    void (*reset)(struct device *dev);
    void (*hangup)(
        struct device *dev); /* SIGHUP; if NULL it ends the program */
};

struct device {
    const struct backend *backend;
    void *state; /* the device's own */
    struct ev_loop *loop;
    struct backend_shape shape;
    uint8_t config[DEVICE_MAX_CONFIG];
    struct session *session; /* the runtime's: who is connected */
};

/* The whole program; returns its exit status. */
int backend_main(const struct backend *backend, void *state, int argc,
                 char **argv);

/* One line on stderr, with the program's name before it. Returns -1. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A decimal number within limits; -1 after complain(), naming the option. */
int parse_number(const char *option, const char *text, uint64_t min,
                 uint64_t max, uint64_t *value);

/* For an option that sets max_vqs, 1 to DEVICE_MAX_QUEUES. */
int device_set_queues(struct device *dev, const char *value);

/* Features that the driver accepted; 0 while there is none. */
uint64_t device_features(const struct device *dev);

/* A little-endian number in config space. */
void device_put16(struct device *dev, unsigned at, uint16_t value);
void device_put32(struct device *dev, unsigned at, uint32_t value);
void device_put64(struct device *dev, unsigned at, uint64_t value);

/* config was changed: tell the front-end. */
void device_config_changed(struct device *dev);

/* Queue number index between its start() and stop(), else NULL. */
struct queue *device_queue(struct device *dev, unsigned index);

unsigned queue_index(const struct queue *queue);
struct device *queue_device(const struct queue *queue);

/* See ring_take(), ring_give() and ring_return(). The runtime tells the driver,
 * once for all that is given before the loop waits again. */
struct chain *queue_take(struct queue *queue);
void queue_give(struct queue *queue, struct chain *chain, uint32_t written);
void queue_return(struct queue *queue, struct chain *chain);

/* No handle() for new chains until queue_wake(), which calls it soon. */
void queue_hold(struct queue *queue);
void queue_wake(struct queue *queue);

/* The guest broke the device type's rules: stop the queue, say why. */
void queue_break(struct queue *queue, const char *why);

#endif
