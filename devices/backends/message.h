/*
 * A vhost-user message as a whole, for struct session_calls.
 */

#ifndef HUSK_BACKENDS_MESSAGE_H
#define HUSK_BACKENDS_MESSAGE_H

#include "devices/backends/session.h"

enum verdict message_handle(struct session *session);

#endif
