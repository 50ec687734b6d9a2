/* System calls that return -errno and retry EINTR. */
#ifndef HUSK_VMM_MACHINE_SYS_H
#define HUSK_VMM_MACHINE_SYS_H

#include <stddef.h>
#include <stdint.h>

/* ioctl() with a pointer argument. Not for KVM_RUN: there EINTR is the kick. */
int sys_ioctl(int fd, unsigned long request, void *arg);

/* The same for requests that take a number. */
int sys_ioctl_number(int fd, unsigned long request, unsigned long arg);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t sys_now(void);

/* The host's page size, in bytes. */
size_t sys_page_size(void);

/* A non-blocking eventfd, close-on-exec, or -errno. */
int sys_eventfd(void);

/* Close *fd unless it is -1, and make it -1. */
void sys_close(int *fd);

#endif
