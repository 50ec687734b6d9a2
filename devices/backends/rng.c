/*
 * husk-rng: an entropy device, VIRTIO 1.2 section 5.4. Each buffer is filled
 * with bytes of the host's getrandom(), at most its first 64 KiB. No config
 * space, one queue.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "devices/backends/runtime.h"

#define MAX_BYTES 65536u

static void rng_handle(struct queue *queue)
{
    uint8_t bytes[4096];
    struct chain *chain;

    while ((chain = queue_take(queue))) {
        size_t done = 0;

        while (done < chain->writable_size && done < MAX_BYTES) {
            size_t want = chain->writable_size - done;
            ssize_t n =
                getrandom(bytes, want < sizeof bytes ? want : sizeof bytes, 0);

            if (n < 0 && errno != EINTR) {
                queue_break(queue, strerror(errno));
                break;
            }
            if (n > 0)
                done += chain_write(chain, done, bytes, (size_t)n);
        }
        queue_give(queue, chain, (uint32_t)done);
    }
    explicit_bzero(bytes, sizeof bytes);
}

static const struct backend rng = {
    .type = "rng",
    .about = "A source of entropy",
    .shape = { .id = 4, .min_vqs = 1, .max_vqs = 1 },
    .handle = rng_handle,
};

int main(int argc, char **argv)
{
    return backend_main(&rng, NULL, argc, argv);
}
