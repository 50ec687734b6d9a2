/*
 * Ethernet addresses of one station.
 */

#ifndef HUSK_BACKENDS_MAC_H
#define HUSK_BACKENDS_MAC_H

#include <stdbool.h>
#include <stdint.h>

#define MAC_SIZE 6u

/* From text such as 52:54:00:12:34:56; false: it is none. */
bool mac_parse(const char *text, uint8_t *mac);

/* A locally administered address that is always the same for this name. */
void mac_of_name(const char *name, uint8_t *mac);

#endif
