/* Addresses from text; see mac.h. */
#include "devices/backends/mac.h"

#include <stdio.h>
#include <string.h>

bool mac_parse(const char *text, uint8_t *mac)
{
    unsigned byte[MAC_SIZE];
    char end;

    if (strlen(text) != 17 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &byte[0], &byte[1], &byte[2],
               &byte[3], &byte[4], &byte[5], &end) != 6 ||
        byte[0] & 1)
        return false;
    for (unsigned i = 0; i < MAC_SIZE; i++)
        mac[i] = (uint8_t)byte[i];
    return true;
}

/* FNV-1a */
void mac_of_name(const char *name, uint8_t *mac)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    memcpy(mac, &hash, MAC_SIZE);
    mac[0] = (mac[0] & 0xfc) | 0x02; /* local, of one station */
}
