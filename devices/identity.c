/* Comparing what a device is with what it was. See identity.h. */
#include "devices/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool identity_differs(const struct identity *is, const struct identity *was,
                      uint64_t needed, char *text, size_t size)
{
    uint64_t missing = needed & ~is->features;

    if (is->id != was->id || is->config_size != was->config_size ||
        is->vqs != was->vqs)
        snprintf(text, size,
                 "another device came back: id %u, %u queues, "
                 "%u bytes of config space; it was id %u, %u, %u",
                 is->id, is->vqs, is->config_size, was->id, was->vqs,
                 was->config_size);
    else if (missing)
        snprintf(text, size,
                 "the back-end came back without features that "
                 "it offered: 0x%" PRIx64,
                 missing);
    else if (is->inband != was->inband)
        snprintf(text, size,
                 "the back-end came back %s in-band "
                 "notifications",
                 was->inband ? "without" : "with");
    else if (memcmp(&is->shm, &was->shm, sizeof is->shm))
        snprintf(text, size,
                 "the back-end came back with other shared "
                 "memory regions");
    else
        return false;
    return true;
}
