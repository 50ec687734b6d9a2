/* Frames out of bytes; see stream.h. */
#include "devices/backends/stream.h"

#include <arpa/inet.h>
#include <string.h>

void stream_reset(struct stream *s)
{
    s->at = s->end = 0;
}

int stream_next(struct stream *s, uint8_t *frame, size_t *size)
{
    size_t have = s->end - s->at;
    uint32_t length;

    if (have < STREAM_PREFIX)
        return 0;
    memcpy(&length, s->bytes + s->at, sizeof length);
    length = ntohl(length);
    if (length > STREAM_MAX_FRAME)
        return -1;
    if (have - STREAM_PREFIX < length)
        return 0;
    memcpy(frame, s->bytes + s->at + STREAM_PREFIX, length);
    s->at += STREAM_PREFIX + length;
    *size = length;
    return 1;
}

uint8_t *stream_room(struct stream *s, size_t *size)
{
    /* an incomplete frame and its prefix fill half of the buffer at most */
    memmove(s->bytes, s->bytes + s->at, s->end - s->at);
    s->end -= s->at;
    s->at = 0;
    *size = sizeof s->bytes - s->end;
    return s->bytes + s->end;
}

void stream_received(struct stream *s, size_t size)
{
    s->end += size;
}
