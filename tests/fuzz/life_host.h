/*
 * The host of a device whose life is fuzzed: where its back-end listens, and
 * descriptors of every kind that a back-end can send.
 */
#ifndef HUSK_TESTS_LIFE_HOST_H
#define HUSK_TESTS_LIFE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost_user.h"

#define LIFE_PAGE 4096u

/* What connect() finds at the back-end's path. */
enum life_path {
    LIFE_LISTENS,
    LIFE_ABSENT,
    LIFE_REFUSES,
    LIFE_BUSY, /* its backlog is full */
    LIFE_PATHS,
};

enum life_file {
    LIFE_MEMORY, /* four pages; life_cut() changes that */
    LIFE_SEALED, /* two pages that stay */
    LIFE_READ_ONLY,
    LIFE_EVENT,
    LIFE_PIPE,
    LIFE_SOCKET,
    LIFE_NULL,
    LIFE_PROC,
    LIFE_TERMINAL,
    LIFE_FOLDER,
    LIFE_EPOLL,
    LIFE_HUGE, /* where the host has such pages; else as LIFE_MEMORY */
    LIFE_FILES,
};

/* Once a process. */
void life_host_init(void);

/* Where the back-end is. */
const char *life_path(void);
void life_path_set(enum life_path path);

/* A connection to LIFE_LISTENS, non-blocking, or -1. */
int life_accept(void);

int life_file(enum life_file file);
/* LIFE_MEMORY gets so many bytes. */
void life_cut(uint64_t size);

/* Send a request of the back-end's, or its first bytes alone. */
void life_ask(int channel, const struct vu_header *header, const void *payload,
              unsigned bytes, int fd, unsigned n_fds);
/* Take the answers. */
void life_drain(int channel);

#endif
