/*
 * Requests about memory that is shared: the guest's, and the inflight buffer.
 */

#ifndef HUSK_BACKENDS_REQUEST_MEMORY_H
#define HUSK_BACKENDS_REQUEST_MEMORY_H

#include "devices/backends/request.h"

enum answer request_set_mem_table(struct session *s);
enum answer request_get_max_mem_slots(struct session *s);
enum answer request_add_mem_reg(struct session *s);
enum answer request_rem_mem_reg(struct session *s);
enum answer request_get_inflight_fd(struct session *s);
enum answer request_set_inflight_fd(struct session *s);

#endif
