/*
 * What a device is to the runtime: a table of calls, and a struct that both
 * share. The calls are made from the loop's thread only.
 */

#ifndef HUSK_BACKENDS_BACKEND_H
#define HUSK_BACKENDS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_MAX_CONFIG 4096u
#define DEVICE_MAX_QUEUES 256u

struct ev_loop;
struct session;
struct device;
struct queue; /* a virtqueue of the connected front-end; see queue.h */

struct backend_option {
    const char *name;  /* without dashes; NULL ends the table */
    const char *value; /* what --help calls the value; NULL: it has none */
    const char *help;
    /* 0, or -1 after complain() */
    int (*set)(struct device *dev, const char *value);
};

/* What a device is; its options and init() may change it. */
struct backend_shape {
    uint32_t id; /* VIRTIO device type */
    uint32_t config_size;
    uint32_t min_vqs, max_vqs;
    uint64_t features; /* the device type's own; session.c adds the rest */
};

/* Each call may be NULL, except handle(). */
struct backend {
    const char *type; /* as in --print-capabilities; the program is husk-TYPE */
    const char *about;
    const char *const *capabilities; /* NULL-ended, or NULL */
    const struct backend_option *options;
    struct backend_shape shape;

    /* After the options: complete dev. 0, or -1 after complain(). */
    int (*init)(struct device *dev);
    void (*fini)(struct device *dev);
    /* SET_FEATURES changed what the driver accepted; see device_features(). */
    void (*features)(struct device *dev);
    /*
     * A queue may be used from start() to stop(). At stop() the device gives or
     * returns each chain that does not complete by itself.
     */
    void (*start)(struct queue *queue);
    void (*stop)(struct queue *queue);
    /* Take chains until there are none, or call queue_hold(). */
    void (*handle)(struct queue *queue);
    /* The driver writes config space; the range is valid. 0 or -errno. */
    int (*write_config)(struct device *dev, uint32_t offset, const void *data,
                        uint32_t size);
    /* The driver reset the device, or the front-end disconnected. All queues
     * are stopped. */
    void (*reset)(struct device *dev);
    /* SIGHUP; NULL: it ends the program. */
    void (*hangup)(struct device *dev);
};

struct device {
    const struct backend *backend;
    void *state; /* the device's own */
    struct ev_loop *loop;
    struct backend_shape shape;
    uint8_t config[DEVICE_MAX_CONFIG];
    struct session *session; /* session.c's; NULL: no front-end is connected */
};

/* The set() of an option for max_vqs, 1 to DEVICE_MAX_QUEUES. */
int device_set_queues(struct device *dev, const char *value);

/* A little-endian number in config space. */
void device_put16(struct device *dev, unsigned at, uint16_t value);
void device_put32(struct device *dev, unsigned at, uint32_t value);
void device_put64(struct device *dev, unsigned at, uint64_t value);

#endif
