/*
 * A network card's receive filter. A command that is malformed, or whose
 * feature was not accepted, changes nothing and is answered with an error.
 */
#include "devices/backends/netfilter.h"

#include <endian.h>
#include <string.h>

enum { CLASS_RX = 0, CLASS_MAC = 1 };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1 };
enum { ANSWER_OK, ANSWER_ERROR };

void filter_reset(struct filter *f)
{
    *f = (struct filter){ .mode.promiscuous = true };
}

static uint8_t set_mode(struct filter *f, uint64_t features, unsigned command,
                        const uint8_t *data, size_t size)
{
    bool *modes[] = {
        &f->mode.promiscuous,  &f->mode.all_multicast, &f->mode.all_unicast,
        &f->mode.no_multicast, &f->mode.no_unicast,    &f->mode.no_broadcast,
    };
    uint64_t needs = command < 2 ? FILTER_F_CTRL_RX : FILTER_F_CTRL_RX_EXTRA;

    if (command >= sizeof modes / sizeof modes[0] || !(features & needs) ||
        size != 1 || data[0] > 1)
        return ANSWER_ERROR;
    *modes[command] = data[0];
    return ANSWER_OK;
}

/* Take a table from the front of data; false: it is not all there. */
static bool take_table(struct filter_table *table, const uint8_t **data,
                       size_t *size)
{
    uint32_t n;

    if (*size < sizeof n)
        return false;
    memcpy(&n, *data, sizeof n);
    n = le32toh(n);
    if (n > (*size - sizeof n) / MAC_SIZE)
        return false;
    table->overflow = n > FILTER_MAX_MACS;
    table->n = table->overflow ? 0 : n;
    memcpy(table->mac, *data + sizeof n, table->n * MAC_SIZE);
    *data += sizeof n + n * MAC_SIZE;
    *size -= sizeof n + n * MAC_SIZE;
    return true;
}

static uint8_t set_tables(struct filter *f, uint64_t features,
                          const uint8_t *data, size_t size)
{
    struct filter_table unicast, multicast;

    if (!(features & FILTER_F_CTRL_RX) || !take_table(&unicast, &data, &size) ||
        !take_table(&multicast, &data, &size) || size)
        return ANSWER_ERROR;
    f->unicast = unicast;
    f->multicast = multicast;
    return ANSWER_OK;
}

static uint8_t set_address(uint64_t features, const uint8_t *data, size_t size,
                           uint8_t *mac)
{
    if (!(features & FILTER_F_CTRL_MAC_ADDR) || size != MAC_SIZE || data[0] & 1)
        return ANSWER_ERROR;
    memcpy(mac, data, MAC_SIZE);
    return ANSWER_OK;
}

uint8_t filter_command(struct filter *f, uint64_t features,
                       const uint8_t *command, size_t size, uint8_t *mac)
{
    if (size < 2)
        return ANSWER_ERROR;
    if (command[0] == CLASS_RX)
        return set_mode(f, features, command[1], command + 2, size - 2);
    if (command[0] == CLASS_MAC && command[1] == MAC_TABLE_SET)
        return set_tables(f, features, command + 2, size - 2);
    if (command[0] == CLASS_MAC && command[1] == MAC_ADDR_SET)
        return set_address(features, command + 2, size - 2, mac);
    return ANSWER_ERROR;
}

static bool in_table(const struct filter_table *table, const uint8_t *address)
{
    for (unsigned i = 0; i < table->n; i++) {
        if (!memcmp(table->mac[i], address, MAC_SIZE))
            return true;
    }
    return table->overflow;
}

bool filter_passes(const struct filter *f, const uint8_t *frame,
                   const uint8_t *mac)
{
    static const uint8_t broadcast[MAC_SIZE] = { 0xff, 0xff, 0xff,
                                                 0xff, 0xff, 0xff };

    if (f->mode.promiscuous)
        return true;
    if (!memcmp(frame, broadcast, MAC_SIZE))
        return !f->mode.no_broadcast;
    if (frame[0] & 1)
        return !f->mode.no_multicast &&
               (f->mode.all_multicast || in_table(&f->multicast, frame));
    return !f->mode.no_unicast &&
           (f->mode.all_unicast || !memcmp(frame, mac, MAC_SIZE) ||
            in_table(&f->unicast, frame));
}
