/*
 * The runtime of husk's own back-ends: each is one program that is one whole
 * VIRTIO device, a vhost-user back-end that answers the probe. A device says
 * what it is in a struct backend and processes chains; connections, rings, the
 * guest's memory, options and signals are the runtime's. One libev loop, one
 * thread, one front-end at a time.
 *
 * The files are a stack: each calls only what stands in a line below its own
 * (tests/layers checks that). What comes up is a call through struct backend or
 * struct session_calls, or a watcher of the loop.
 *
 *   block console loop net rng | the devices, each with its main()
 *   block_request | what a driver wants of a disk
 *   runtime | options, signals, one connection after another
 *   message | which function acts on which request
 *   request_memory request_ring | what each of them does
 *   request | its answer
 *   session | one connection: messages in and out
 *   queue uplink listener | a virtqueue's life; CONFIG_CHANGE; a socket's path
 *   ring | chains, taken and given back
 *   inflight | the buffer of chains in flight
 *   record_packed record_split | a ring's part of it
 *   record | what both have in common
 *   packed split | the formats in guest memory
 *   gather | a chain while its descriptors are read
 *   ring_state layout | data that others work on
 *   memory backend | guest memory; what a device is to the runtime
 *   disk tap terminal backlog netfilter | parts of devices
 *   complain chain stream mac block_layout | messages to the user; data alone
 *
 * Every program takes:
 *   --socket-path=PATH     listen there, serve one front-end after another
 *   --fd=N                 a connected socket, served until it ends; or a
 *                          listening one
 *   --print-capabilities   what it is, as JSON (vhost-user.json's convention)
 *   --help, --version
 * It ends with status 0 on SIGTERM and SIGINT; each error is one line on
 * stderr and status 1.
 */

#ifndef HUSK_BACKENDS_RUNTIME_H
#define HUSK_BACKENDS_RUNTIME_H

#include "devices/backends/backend.h"
#include "devices/backends/complain.h"
#include "devices/backends/queue.h"
#include "devices/backends/session.h"

/* The whole program; returns its exit status. */
int backend_main(const struct backend *backend, void *state, int argc,
                 char **argv);

#endif
