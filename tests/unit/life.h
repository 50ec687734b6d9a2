/*
 * A whole device of vmm/link and a model of its back-end behind a socket, in
 * the test's own thread. No loop runs: life_run() invokes the watchers whose
 * descriptors are ready, and life_tick() the timer, whose time passes on a
 * clock of the test's. Every callback of the VM's expects that the device's
 * lock is free.
 */
#ifndef HUSK_TESTS_LIFE_H
#define HUSK_TESTS_LIFE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "tests/unit/folder.h"
#include "tests/unit/model.h"
#include "vmm/link/device.h"

#define LIFE_LINES  300
#define LIFE_BASE   0xd0000000u
#define LIFE_RESET  (VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define LIFE_CONFIG 20u /* bytes of the model's config space */

struct life {
    struct device device;
    struct ev_loop *loop;
    struct model model;
    struct mem mem;
    struct windows all;
    struct window window;
    struct folder folder;
    int listener; /* -1: nothing listens */
    int call_fd, stop_fd;
    unsigned opened; /* descriptors before it all */
    atomic_bool woken;
    bool backwards; /* watchers are invoked in the other order */
    bool silent;    /* device_silence() was called: no callback may come */

    /* what was reported */
    unsigned n_ready, n_failed, n_lost, n_settled, n_lines;
    struct husk_err err; /* of failed(), or of device_start() */
    char line[LIFE_LINES][320];
};

/* A device whose SPEC is the socket's path with these pairs before it, or these
 * pairs alone if exec= is among them. The model offers all that husk serves. */
void life_init(struct life *life, const char *pairs);
/* Expects that no descriptor and no process is left. */
void life_fini(struct life *life);

/* The model listens, or no longer does. */
void life_listen(struct life *life);
void life_deafen(struct life *life);

/* device_start(), and what follows at once. */
int life_start(struct life *life);

/* All that can be done without time passing. */
void life_run(struct life *life);
/* The same, after something has come from another process: waits for it for
 * milliseconds, 10000 where it must come. False: nothing came. */
bool life_wait(struct life *life, int milliseconds);
/* The device's timer is over: so many seconds have passed. Then life_run(). */
double life_tick(struct life *life);
/* The test's clock alone. */
void life_pass(double seconds);

/* life_start() up to KNOWN. */
void life_know(struct life *life);
/* From KNOWN to SERVING. */
void life_put(struct life *life);
/* Both. */
void life_place(struct life *life);
/* The same up to a driver that runs, with ring 0 ready; features are those that
 * it accepts. */
void life_drive(struct life *life, uint64_t features);

/* The back-end hangs up; from PAUSING up to SERVING. */
void life_hang_up(struct life *life);
void life_come_back(struct life *life);

/* A guest's accesses: the model answers while they wait. */
void life_write(struct life *life, uint32_t offset, uint32_t value);
void life_write_config(struct life *life, uint32_t offset, uint8_t value);
uint32_t life_read(const struct life *life, uint32_t offset);
/* The driver's steps up to DRIVER_OK. */
void life_go(struct life *life, uint64_t features);
/* Ring index of num entries, made ready. */
void life_ready(struct life *life, uint32_t index, uint32_t num);

/* An eventfd that the device's helper signals: a kick or call_fd. It is waited
 * for, and emptied. */
bool life_rung(int fd);

/* This process can open n more descriptors; LIFE_ALL: as many as before. */
#define LIFE_ALL 0xffffu
void life_limit(unsigned n);

void life_expect(const struct life *life, enum device_state state);
/* Lines that hold text. */
unsigned life_said(const struct life *life, const char *text);
/* failed() or device_start() said text. */
void life_expect_failed(const struct life *life, int code, const char *text);

#endif
