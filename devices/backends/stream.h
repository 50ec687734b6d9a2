/*
 * Frames on a stream socket: each comes after its length, 4 bytes big-endian,
 * as QEMU's -netdev stream has it. This is the receiving side's buffer.
 */
#ifndef HUSK_BACKENDS_STREAM_H
#define HUSK_BACKENDS_STREAM_H

#include <stddef.h>
#include <stdint.h>

#define STREAM_PREFIX    4u
#define STREAM_MAX_FRAME 65550u

struct stream {
    size_t at, end; /* the bytes that were not taken yet */
    uint8_t bytes[2 * (STREAM_PREFIX + STREAM_MAX_FRAME)];
};

void stream_reset(struct stream *stream);

/*
 * Take the next frame, of at most STREAM_MAX_FRAME bytes.
 *   1   *size bytes of it are in frame
 *   0   more bytes have to be received: see stream_room()
 *   -1  the frame is too long; nothing more can be taken
 */
int stream_next(struct stream *stream, uint8_t *frame, size_t *size);

/* Where to receive *size bytes; never 0 after stream_next() returned 0. */
uint8_t *stream_room(struct stream *stream, size_t *size);

/* size bytes were received there. */
void stream_received(struct stream *stream, size_t size);

#endif
