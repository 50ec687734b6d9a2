/*
 * Config space through GET_CONFIG and SET_CONFIG: read whole, in pieces of at
 * most 256 bytes that share a write, and shown only when all have come.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "devices/frontend.h"

/* Header and bytes of one message. */
struct config_message {
    struct vu_config head;
    uint8_t bytes[VU_MAX_CONFIG];
};

static int piece_done(struct frontend *fe,
                      const struct frontend_pending *pending,
                      const uint8_t *payload, size_t size)
{
    struct vu_config head = { 0, 0, 0 };
    uint32_t offset = pending->arg, want = pending->max - sizeof head;
    bool again = fe->config_again;

    if (size >= sizeof head)
        memcpy(&head, payload, sizeof head);
    if (head.size == 0)
        return frontend_lose(fe, -EREMOTEIO,
                             "the back-end refused GET_CONFIG "
                             "of %u bytes at %u",
                             want, offset);
    if (size != pending->max || head.offset != offset || head.size != want)
        return frontend_lose(fe, -EPROTO,
                             "GET_CONFIG asked for %u bytes at "
                             "%u, the answer of %zu bytes holds %u at %u",
                             want, offset, size, head.size, head.offset);
    memcpy(fe->config_in + offset, payload + sizeof head, want);
    if (--fe->config_due)
        return 0;
    /* a single piece is whole even if it is old: changes that never cease
     * would keep all of them from the guest */
    if (!again || fe->is->config_size <= VU_MAX_CONFIG) {
        memcpy(fe->config, fe->config_in, fe->is->config_size);
        if (fe->config_arrived)
            fe->config_arrived(fe->ctx);
    }
    fe->config_again = false;
    return again ? frontend_config_refresh(fe) : 0;
}

int frontend_config_refresh(struct frontend *fe)
{
    if (!(fe->acked & VU_PF_CONFIG) || fe->is->config_size == 0)
        return 0;
    if (fe->config_due) { /* under way: what comes may be old already */
        fe->config_again = true;
        return 0;
    }
    for (uint32_t offset = 0; offset < fe->is->config_size;
         offset += VU_MAX_CONFIG) {
        struct config_message message = { { 0, 0, 0 }, { 0 } };
        uint32_t left = fe->is->config_size - offset, size;
        uint32_t length = left < VU_MAX_CONFIG ? left : VU_MAX_CONFIG;
        int rc;

        message.head.offset = offset;
        message.head.size = length;
        size = (uint32_t)sizeof message.head + length;
        rc = frontend_send(fe, VU_GET_CONFIG, &message, size, NULL, 0);
        if (rc == 0)
            rc = frontend_expect(
                fe, (struct frontend_pending){ .request = VU_GET_CONFIG,
                                               .arg = offset,
                                               .min = 0,
                                               .max = size,
                                               .done = piece_done });
        if (rc < 0)
            return rc;
        fe->config_due++;
    }
    return 0;
}

int frontend_send_config(struct frontend *fe, uint32_t offset, const void *data,
                         uint32_t size)
{
    struct config_message message = { { offset, size, 0 }, { 0 } };

    if (!(fe->acked & VU_PF_CONFIG))
        return 0;
    memcpy(message.bytes, data, size);
    return frontend_send(fe, VU_SET_CONFIG, &message,
                         sizeof message.head + size, NULL, 0);
}

int frontend_config_write(struct frontend *fe, uint32_t offset,
                          const void *data, uint32_t size, uint64_t deadline)
{
    int rc;

    if (!(fe->acked & VU_PF_CONFIG))
        return 0;
    rc = frontend_send_config(fe, offset, data, size);
    if (rc == 0)
        rc = frontend_config_refresh(fe);
    return rc < 0 ? rc : frontend_wait(fe, deadline);
}
