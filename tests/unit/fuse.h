/*
 * A file system that this process serves, and stops serving: whatever call
 * reaches it then never returns.
 */
#ifndef HUSK_TESTS_FUSE_H
#define HUSK_TESTS_FUSE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct fuse {
    int dev, file; /* file: of a MiB, open for reading and writing */
    char path[40];
    bool served;
    atomic_bool dead;
    atomic_uint unanswered;
    pthread_t thread;
};

/* False where this user may not mount; why says so. */
bool fuse_begin(struct fuse *fuse, const char **why);

/* From now on nothing is answered. */
void fuse_die(struct fuse *fuse);

/* Calls that wait return. fuse->file stays the caller's to close, before or
 * after this. */
void fuse_end(struct fuse *fuse);

#endif
