/*
 * The state of the test back-end: what it was told to be, what the front-end
 * did so far, the rings, and what is still to be sent. One connection at a
 * time, one thread.
 */
#ifndef PEER_PEER_H
#define PEER_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "wire.h"

enum dialect {
    DIALECT_SPECS,
    DIALECT_MESSAGES,
    DIALECT_NONE,
    DIALECT_SHARED_OBJECT,
    DIALECT_IGNORE,
};

/* What happens when request 41 arrives. */
enum at41 {
    AT41_ANSWER,
    AT41_HANGUP,
    AT41_IGNORE,
    AT41_SILENCE,
    AT41_ZERO,
    AT41_U64,
    AT41_SHORT,
};

enum fault_kind {
    FAULT_DIE,
    FAULT_HANG,
    FAULT_CUT,    /* value: bytes of the reply that are sent */
    FAULT_ATTACH, /* value: descriptors added to the reply */
    FAULT_SET_REQUEST,
    FAULT_SET_FLAGS,
    FAULT_SET_SIZE,
    FAULT_SET_PAYLOAD, /* offset, width */
};

struct fault {
    enum fault_kind kind;
    uint32_t request;
    unsigned nth; /* only the nth message of that request; 0: each one */
    uint64_t value;
    uint32_t offset;
    unsigned width;
};

/* What the nth word of a mapping is XORed with: its offset in the region. */
#define SHM_PATTERN UINT64_C(0x6879646500000000)

enum shm_mode { SHM_READ_ONLY, SHM_WRITABLE, SHM_REFUSED };

struct shm_map {
    uint8_t id;
    uint64_t offset, size;
    enum shm_mode mode;
};

#define MAX_SHM_MAPS 8u
#define MAX_FAULTS   32u
#define MAX_SHMEM    256u

enum ignore_kick { IGNORE_NONE, IGNORE_SURE, IGNORE_HARD };

/* Fixed once parsed. */
struct options {
    const char *socket_path;
    int fd, listen_fd;
    const char *log_path;
    enum dialect dialect;
    enum at41 at41;
    uint32_t id, config_size, min_vqs, max_vqs;
    uint64_t queue_num;
    uint64_t features, protocol;
    uint32_t mem_slots;
    uint64_t shmem[MAX_SHMEM];
    unsigned n_shmem;
    struct shm_map shm_map[MAX_SHM_MAPS];
    unsigned n_shm_maps;
    const char *shm_file;                        /* NULL: files of its own */
    unsigned shm_delay, shm_unmap, shm_truncate; /* milliseconds */
    unsigned latency, drip, kick_limit, answer_limit, connections;
    bool drips; /* drip was given, perhaps as 0 */
    uint32_t specs_extra;
    bool no_call, echo, refuse_features, truncate_memory, stats;
    bool allow_inband, lenient, forbid_probe, reconnected, no_poison;
    bool faults_once, forget;
    enum ignore_kick ignore_kick;
    unsigned spurious; /* milliseconds between two; 0 is never */
    uint8_t fill;
    uint32_t refuse_num; /* 0 refuses none */
    unsigned config_change, config_changes;
    uint32_t backend_request;
    uint64_t vring_err_after;
    struct fault fault[MAX_FAULTS];
    unsigned n_faults;
};

/* How far the setup of a ring has come: the order on the wire. */
enum phase {
    PHASE_NONE,
    PHASE_NUM,
    PHASE_ADDR,
    PHASE_BASE,
    PHASE_ERR,
    PHASE_CALL,
    PHASE_KICK,
};

struct ring {
    enum phase phase;
    bool started, enabled;
    bool refused; /* its size was refused: never served */
    bool broken;  /* the guest's descriptors made no sense, or told to err */
    uint32_t num;
    struct wire_addr addr; /* as the front-end gave it */
    uint8_t *desc, *avail, *used;
    uint16_t avail_idx, used_idx;
    bool avail_wrap, used_wrap;
    int kick, call, err;
    int old_kick;   /* of the time before the ring was stopped, or -1 */
    bool kick_seen; /* since it was started */
    uint64_t since; /* when it was first found to run; 0: it does not */
    bool pending;   /* a kick, or a reason to look without one */
    bool call_owed; /* in-band, waiting for the channel */
};

struct region {
    struct wire_region wire;
    uint8_t *host; /* where its first byte is mapped */
    void *map;
    size_t map_size;
};

#define MAX_REGIONS 64u

struct message {
    struct wire_header header;
    uint8_t payload[WIRE_MAX_PAYLOAD];
    int fd[256];
    unsigned n_fds;
    unsigned batch;
};

/* What became of request 41 on this connection. */
enum probe {
    PROBE_NONE,
    PROBE_ASKED,
    PROBE_SPECS,
    PROBE_MESSAGES,
    PROBE_FAILED,
    PROBE_UNSURE, /* a fault was played on the reply: no rule applies */
};

struct chunk {
    struct chunk *next;
    uint8_t *data;
    size_t size, sent;
    int fd[256];
    unsigned n_fds;
    uint32_t request;
    bool hangup; /* after the last byte */
};

/* The channel for the back-end's own requests. */
struct channel {
    int fd;
    bool waiting;
    uint32_t request; /* the one that waits for its answer */
    bool refused;     /* which has to be a refusal */
    uint64_t deadline;
    uint8_t in[WIRE_HEADER + 8];
    size_t in_size;
    unsigned changes; /* CONFIG_CHANGE messages sent */
    uint64_t next_change;
    bool asked_unknown;
};

/* How far the mappings have come in this life of the device. */
struct shm {
    unsigned mapped, unmapped;
    uint64_t since; /* the device runs, or the last mapping was asked for */
    bool cut;
    int fd[MAX_SHM_MAPS];
};

struct connection {
    int fd;
    unsigned number;
    pid_t pid;
    bool hung; /* neither reads nor answers any more */

    /* the message that is being read */
    struct message in;
    size_t in_size;
    bool in_header;
    unsigned batch; /* counts how often the socket was found empty */
    unsigned batch_messages;
    unsigned count[WIRE_REQUESTS];

    uint64_t told; /* requests whose reply has left, by number */

    /* judged state */
    bool owner;
    bool first_ring; /* a ring message has been seen */
    bool table, slots;
    uint64_t acked;
    bool acked_set;
    unsigned ack_batch; /* batch of the message that acknowledged bit 18 */
    enum probe probe;
    bool fence;
    uint64_t features;
    bool features_set;   /* since the last reset */
    bool features_fresh; /* no SET_STATUS came behind it yet */
    bool await_read;     /* FEATURES_OK is to be read back */
    bool reset_owed;     /* SET_STATUS 0 came, RESET_DEVICE did not */
    bool ran;            /* rings were started since the last RESET_DEVICE */
    uint8_t status;

    struct ring ring[WIRE_MAX_RINGS];
    struct region region[MAX_REGIONS];
    unsigned n_regions;
    struct channel channel;
    struct shm shm;
    uint8_t *inflight;
    size_t inflight_size;
    bool inflight_given;

    struct chunk *out, **out_end;
    uint64_t flush_at; /* when the queued replies go; 0 is at once */
    uint64_t drip_at;
    bool flushing; /* the first of the queued replies has begun to leave */
    bool closing;  /* the back-end hangs up on its own account */
};

struct stats {
    unsigned connections, messages, batches, waits, handshake_waits;
    uint64_t kicks, buffers, calls, changes;
};

struct segment {
    uint8_t *data;
    uint32_t size;
    bool write;
};

#define MAX_SEGMENTS 65536u

struct peer {
    struct options options;
    FILE *log;
    uint64_t start;
    int listener;
    bool violated;
    bool faults_done;
    pid_t probe_failed_by; /* the front-end that must not set bit 18 again */
    pid_t rings_seen_by;   /* the front-end that ran rings before */
    uint8_t *config;
    uint32_t config_bytes;
    uint64_t served;
    uint64_t next_spurious;
    struct stats stats;
    struct segment *segment;
    struct connection c;
};

/* report.c */
uint64_t peer_now(void); /* milliseconds, monotonic, never 0 */
void peer_log(struct peer *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void peer_note(struct peer *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Returns -1, or 0 where the peer was told to be lenient. */
int peer_violation(struct peer *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void peer_stats(struct peer *p);
void peer_log_message(struct peer *p, const struct message *m);

/* options.c; returns 0, or the status to exit with, or -1 to go on */
int options_parse(struct options *o, int argc, char **argv, uint8_t **config,
                  uint32_t *config_bytes);

/* help.c */
void options_help(void);

/* form.c and order.c: 0 if m is allowed, -1 if not */
int form_judge(struct peer *p, const struct message *m);
int order_judge(struct peer *p, const struct message *m);
/* order_ring.c: the part of order_judge() for messages that name a ring */
int order_ring(struct peer *p, const struct message *m);
/* The gate before rings and memory; what names the message. */
int order_gate(struct peer *p, const char *what);
bool order_any_started(const struct connection *c);
bool order_acked(const struct connection *c, unsigned feature);

/* memory.c */
int memory_table(struct peer *p, const struct message *m);
int memory_add(struct peer *p, const struct message *m);
uint8_t *memory_user(const struct connection *c, uint64_t user, uint64_t size);
uint8_t *memory_guest(const struct connection *c, uint64_t guest,
                      uint64_t size);
void memory_drop(struct connection *c);

/* device.c: does what m asks, takes m's descriptors; -1 hangs up */
int device_handle(struct peer *p, struct message *m);
void device_drop(struct connection *c);

/* ring.c */
void ring_init(struct ring *r);
void ring_fini(struct ring *r);
int ring_kick_given(struct peer *p, unsigned index, int fd);
void ring_start(struct peer *p, unsigned index);
uint32_t ring_stop(struct peer *p, unsigned index);
void ring_read_kick(struct peer *p, unsigned index);
void ring_run(struct peer *p, unsigned index);
void ring_call(struct peer *p, unsigned index);
void ring_break(struct peer *p, unsigned index, const char *why);
bool ring_runs(const struct connection *c, const struct ring *r);
/* Judges whether each ring that runs was kicked in time. */
int ring_tick(struct peer *p, uint64_t now);
/* How many buffers were served; sets *call if the driver wants to know. */
unsigned split_run(struct peer *p, unsigned index, bool *call);
unsigned packed_run(struct peer *p, unsigned index, bool *call);
/* Fill or echo n segments of the peer; returns the bytes written. */
uint32_t ring_serve(struct peer *p, unsigned n);
/* Add a piece of guest memory to the peer's segments; false if it is none. */
bool ring_segment(struct peer *p, unsigned *n, uint64_t guest, uint32_t size,
                  bool write);

/* channel.c */
int channel_set(struct peer *p, int fd);
int channel_read(struct peer *p);
int channel_tick(struct peer *p);
/* Whether the device runs, and may speak. */
bool channel_open(const struct connection *c);
void channel_call(struct peer *p, unsigned index);
/* False if it could not be sent; fd may be -1. */
bool channel_send(struct peer *p, uint32_t request, const void *payload,
                  uint32_t size, int fd, bool refused);

/* shm.c */
void shm_tick(struct peer *p, uint64_t now);
void shm_drop(struct connection *c);

/* output.c */
void output_reply(struct peer *p, const struct message *m, const void *payload,
                  uint32_t size, int fd);
int output_flush(struct peer *p);          /* -1: the connection is over */
uint64_t output_due(const struct peer *p); /* 0: nothing waits for a time */
void output_drop(struct connection *c);
const struct fault *fault_find(const struct peer *p, enum fault_kind kind,
                               const struct message *m);
bool fault_on_reply(const struct peer *p, const struct message *m);

#endif
