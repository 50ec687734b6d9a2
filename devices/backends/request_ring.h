/*
 * Requests about one virtqueue.
 */

#ifndef HUSK_BACKENDS_REQUEST_RING_H
#define HUSK_BACKENDS_REQUEST_RING_H

#include "devices/backends/request.h"

enum answer request_set_vring_num(struct session *s);
enum answer request_set_vring_addr(struct session *s);
enum answer request_set_vring_base(struct session *s);
enum answer request_get_vring_base(struct session *s);
enum answer request_set_vring_kick(struct session *s);
enum answer request_set_vring_call(struct session *s);
enum answer request_set_vring_err(struct session *s);
enum answer request_set_vring_enable(struct session *s);

#endif
