/*
 * Copying to and from chains, and cutting lists of pieces. Knows neither rings
 * nor guest memory.
 */
#include "devices/backends/chain.h"

#include <string.h>

unsigned iov_slice(struct iovec *to, unsigned max, const struct iovec *from,
                   unsigned n, size_t offset, size_t size)
{
    unsigned made = 0;

    for (unsigned i = 0; i < n && size && made < max; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }

        size_t len = from[i].iov_len - offset;

        if (len > size)
            len = size;
        to[made++] = (struct iovec){
            .iov_base = (uint8_t *)from[i].iov_base + offset,
            .iov_len = len,
        };
        offset = 0;
        size -= len;
    }
    return made;
}

void iov_trim(struct iovec **iov, unsigned *n, size_t bytes)
{
    while (*n && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        ++*iov;
        --*n;
    }
    if (*n && bytes) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
}

size_t chain_read(const struct chain *chain, size_t offset, void *to,
                  size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_readable && done < size; i++) {
        struct iovec part;

        if (offset >= chain->readable[i].iov_len) {
            offset -= chain->readable[i].iov_len;
            continue;
        }
        iov_slice(&part, 1, &chain->readable[i], 1, offset, size - done);
        memcpy((uint8_t *)to + done, part.iov_base, part.iov_len);
        done += part.iov_len;
        offset = 0;
    }
    return done;
}

size_t chain_write(const struct chain *chain, size_t offset, const void *from,
                   size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_writable && done < size; i++) {
        struct iovec part;

        if (offset >= chain->writable[i].iov_len) {
            offset -= chain->writable[i].iov_len;
            continue;
        }
        iov_slice(&part, 1, &chain->writable[i], 1, offset, size - done);
        memcpy(part.iov_base, (const uint8_t *)from + done, part.iov_len);
        done += part.iov_len;
        offset = 0;
    }
    return done;
}
