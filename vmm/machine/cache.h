/*
 * Register windows are written by husk through the cache. A guest may read them
 * past it, where its own mapping is a device's: there the lines must be cleaned
 * after each change. A leaf header; the file is chosen by architecture.
 */
#ifndef HUSK_VMM_MACHINE_CACHE_H
#define HUSK_VMM_MACHINE_CACHE_H

#include <stddef.h>

/* The guest sees these bytes before anything that is done after the call. */
void cache_clean(const void *start, size_t size);

#endif
