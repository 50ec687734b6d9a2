/*
 * A thread that does for one device what may never return, so that neither a
 * vCPU nor the loop waits for it:
 *
 *   close()  of a descriptor that the back-end sent: a TCP socket lingers, a
 *            file on FUSE waits for whoever serves it. What lies unread in a
 *            socket is closed with the socket.
 *   write()  to an eventfd that the back-end shares: it can keep the counter
 *            full and make the description blocking at any time.
 *
 * The thread starts with the first such call and ends when it has nothing to
 * do. If a call does not return, what else the device has for it waits as well;
 * a device has one thread at most. All functions may be called on any thread,
 * and none waits. Without a helper (NULL) each acts at once.
 */
#ifndef HUSK_DEVICES_HELPER_H
#define HUSK_DEVICES_HELPER_H

#include <stdbool.h>

struct helper;

/* -ENOMEM  out of memory */
int helper_new(struct helper **out);

/* Give it up. Whatever is still to be closed is closed by the thread, if ever.
 * Every eventfd that was rung must have been retired. */
void helper_free(struct helper *helper);

/* Close a descriptor that came from a back-end. */
void helper_close(struct helper *helper, int fd);

/* Shut a connected Unix socket down and close it. */
void helper_hang_up(struct helper *helper, int fd);

/* Signal an eventfd that a back-end shares. Full means signalled already. */
void helper_ring(struct helper *helper, int fd);

/* Close an eventfd that may have been rung. */
void helper_retire(struct helper *helper, int fd);

/* More is to be closed than an honest back-end ever leaves: no more
 * descriptors must be accepted from it. */
bool helper_is_stuck(struct helper *helper);

#endif
