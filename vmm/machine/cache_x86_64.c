/* Caches are coherent whatever type a guest's mapping has: KVM maps a slot's
 * memory as write-back. */
#include "vmm/machine/cache.h"

void cache_clean(const void *start, size_t size)
{
    (void)start;
    (void)size;
}
