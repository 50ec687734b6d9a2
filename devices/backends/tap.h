/*
 * A tap device of the host.
 */
#ifndef HUSK_BACKENDS_TAP_H
#define HUSK_BACKENDS_TAP_H

/*
 * Attach to a tap that exists, or make one where that is allowed. Each frame
 * has a struct virtio_net_hdr of header_size bytes before it; no offloads. The
 * descriptor, which does not block, or -1 after complain().
 */
int tap_open(const char *name, int header_size);

#endif
