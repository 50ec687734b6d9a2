/*
 * Names for people: of requests, device types and feature bits. husk shows
 * them and never decides by them.
 */
#ifndef HUSK_DEVICES_NAMES_H
#define HUSK_DEVICES_NAMES_H

#include <stdint.h>

/* "GET_CONFIG"; "request N" for numbers without a name is "a request". */
const char *names_request(uint32_t request);

/* The device type of VIRTIO 1.2, section 5, or NULL where none is assigned. */
const char *names_device(uint32_t id);

/* A feature bit of that device type, or of all types; NULL if none is known. */
const char *names_feature(uint32_t id, unsigned bit);

/* A vhost-user protocol feature bit, or NULL. */
const char *names_protocol(unsigned bit);

#endif
