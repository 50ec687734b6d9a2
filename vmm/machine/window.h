/*
 * A register window: pages that the guest reads at memory speed while its
 * writes leave KVM_RUN, or signal an eventfd. A leaf header.
 *
 * All windows lie side by side in one read-only memory slot. Without a KVM
 * virtual machine (in tests, or before one stands) a window is plain memory.
 */
#ifndef HUSK_VMM_MACHINE_WINDOW_H
#define HUSK_VMM_MACHINE_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/cache.h"
#include "vmm/machine/mem.h"

/* The space for all windows. */
struct windows {
    uint8_t *map;
    size_t size;
    gpa_t base;
    int vm_fd; /* borrowed; -1 while there is no virtual machine */
};

struct window {
    const struct windows *all;
    uint8_t *page; /* what the guest reads; written under the device's lock */
    size_t size;   /* whole pages */
    gpa_t base;
};

/* Reserve size bytes, whole pages, at guest address base.
 *   -ENOMEM  out of memory */
int windows_init(struct windows *all, gpa_t base, size_t size);
void windows_fini(struct windows *all);

/* Cut a window of size bytes, whole pages, out of it at offset. */
void window_init(struct window *window, const struct windows *all,
                 size_t offset, size_t size);

/*
 * From now on a 32-bit write of value at offset signals eventfd and does not
 * leave KVM_RUN. It stays so while the virtual machine lives. Any thread.
 *   -ENODEV  there is no virtual machine
 *   -ENOSPC  KVM has no room for more; -EEXIST: done before
 */
int window_notify(const struct window *window, uint32_t offset, uint32_t value,
                  int eventfd);

/* Bytes of the page were written: the guest sees them from now on, however it
 * maps the window. Under the device's lock. */
static inline void window_publish(const struct window *window, uint32_t offset,
                                  size_t size)
{
    cache_clean(window->page + offset, size);
}

/*
 * Replace all that the window holds, at one instant for the guest. Under the
 * device's lock.
 *   -ENOMEM  out of memory; the window is as it was
 */
int window_replace(struct window *window, const void *content);

#endif
