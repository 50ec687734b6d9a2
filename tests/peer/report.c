/*
 * What the peer says: the transcript, notes, violations and the counts at the
 * end. stderr gets one line for each thing that a person should see; the
 * transcript goes to the file that --log names.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

uint64_t peer_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + 1;
}

static void write_log(struct peer *p, const char *kind, const char *text)
{
    if (!p->log)
        return;
    fprintf(p->log, "%" PRIu64 " %s%s\n", peer_now() - p->start, kind, text);
    fflush(p->log);
}

void peer_log(struct peer *p, const char *format, ...)
{
    char text[512];
    va_list args;

    if (!p->log)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    write_log(p, "", text);
}

void peer_note(struct peer *p, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "peer: note: %s\n", text);
    write_log(p, "note: ", text);
}

int peer_violation(struct peer *p, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "peer: violation: %s\n", text);
    write_log(p, "peer: violation: ", text);
    p->violated = true;
    return p->options.lenient ? 0 : -1;
}

void peer_stats(struct peer *p)
{
    const struct stats *s = &p->stats;
    char text[256];

    if (!p->options.stats)
        return;
    snprintf(text, sizeof text,
             "connections=%u messages=%u batches=%u waits=%u "
             "handshake-waits=%u kicks=%" PRIu64 " buffers=%" PRIu64
             " calls=%" PRIu64 " config-changes=%" PRIu64,
             s->connections, s->messages, s->batches, s->waits,
             s->handshake_waits, s->kicks, s->buffers, s->calls, s->changes);
    fprintf(stderr, "peer: stats: %s\n", text);
    write_log(p, "stats: ", text);
}

static void describe(char *text, size_t size, const struct message *m)
{
    const uint8_t *b = m->payload;
    struct wire_state s;
    struct wire_addr a;
    struct wire_config c;
    struct wire_region r;
    uint64_t v;

    text[0] = '\0';
    switch (m->header.request) {
    case WIRE_SET_FEATURES:
    case WIRE_SET_PROTOCOL_FEATURES:
    case WIRE_SET_STATUS:
    case WIRE_SET_VRING_KICK:
    case WIRE_SET_VRING_CALL:
    case WIRE_SET_VRING_ERR:
        memcpy(&v, b, sizeof v);
        snprintf(text, size, " value=0x%" PRIx64, v);
        break;
    case WIRE_SET_VRING_NUM:
    case WIRE_SET_VRING_BASE:
    case WIRE_GET_VRING_BASE:
    case WIRE_SET_VRING_ENABLE:
    case WIRE_VRING_KICK:
        memcpy(&s, b, sizeof s);
        snprintf(text, size, " ring=%" PRIu32 " num=0x%" PRIx32, s.index,
                 s.num);
        break;
    case WIRE_SET_VRING_ADDR:
        memcpy(&a, b, sizeof a);
        snprintf(text, size,
                 " ring=%" PRIu32 " desc=0x%" PRIx64 " avail=0x%" PRIx64
                 " used=0x%" PRIx64,
                 a.index, a.desc, a.avail, a.used);
        break;
    case WIRE_GET_CONFIG:
    case WIRE_SET_CONFIG:
        memcpy(&c, b, sizeof c);
        snprintf(text, size, " offset=%" PRIu32 " bytes=%" PRIu32, c.offset,
                 c.size);
        break;
    case WIRE_SET_MEM_TABLE:
    case WIRE_ADD_MEM_REG:
        memcpy(&r, b + 8, sizeof r);
        snprintf(text, size,
                 " guest=0x%" PRIx64 " size=0x%" PRIx64 " user=0x%" PRIx64,
                 r.guest, r.size, r.user);
        break;
    default:
        break;
    }
}

void peer_log_message(struct peer *p, const struct message *m)
{
    const struct wire_shape *shape = wire_shape(m->header.request);
    char text[200] = "";

    if (!p->log)
        return;
    if (shape && m->header.size >= shape->min)
        describe(text, sizeof text, m);
    peer_log(p,
             "c%u b%u < %s (%" PRIu32 ") flags=0x%" PRIx32 " size=%" PRIu32
             " fds=%u%s",
             p->c.number, m->batch, wire_name(m->header.request),
             m->header.request, m->header.flags, m->header.size, m->n_fds,
             text);
}
