/* Register windows. See window.h. */
#include "vmm/machine/window.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/machine/sys.h"

int windows_init(struct windows *all, gpa_t base, size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    memset(all, 0, sizeof *all);
    all->vm_fd = -1;
    if (map == MAP_FAILED)
        return -errno;
    all->map = map;
    all->size = size;
    all->base = base;
    return 0;
}

void windows_fini(struct windows *all)
{
    if (all->map)
        munmap(all->map, all->size);
    memset(all, 0, sizeof *all);
    all->vm_fd = -1;
}

void window_init(struct window *window, const struct windows *all,
                 size_t offset, size_t size)
{
    window->all = all;
    window->page = all->map + offset;
    window->size = size;
    window->base = all->base + offset;
}

int window_notify(const struct window *window, uint32_t offset, uint32_t value,
                  int eventfd)
{
    struct kvm_ioeventfd event = {
        .addr = window->base + offset,
        .len = 4,
        .datamatch = value,
        .fd = eventfd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
    };

    if (window->all->vm_fd < 0)
        return -ENODEV;
    return sys_ioctl(window->all->vm_fd, KVM_IOEVENTFD, &event);
}

/*
 * Two steps of the generation around a change in place tear now and then: the
 * guest reads without a lock. A page that is exchanged whole cannot.
 */
int window_replace(struct window *window, const void *content)
{
    void *copy = mmap(NULL, window->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (copy == MAP_FAILED)
        return -errno;
    memcpy(copy, content, window->size);
    cache_clean(copy, window->size); /* before the guest can see it */
    if (mremap(copy, window->size, window->size, MREMAP_MAYMOVE | MREMAP_FIXED,
               window->page) == MAP_FAILED) {
        int rc = -errno;

        munmap(copy, window->size);
        return rc;
    }
    return 0;
}
