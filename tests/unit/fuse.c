/* A file system with one file. See fuse.h and linux/fuse.h. */
#include "tests/unit/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE (1u << 20)

union answer {
    struct fuse_init_out init;
    struct fuse_entry_out entry;
    struct fuse_attr_out attr;
    struct fuse_open_out open;
};

static struct fuse_attr attributes(uint64_t node)
{
    struct fuse_attr attr = { .ino = node, .size = SIZE, .nlink = 1 };

    attr.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666;
    return attr;
}

/* Bytes of the answer, or -errno. */
static int answer(const struct fuse_in_header *request, union answer *out)
{
    memset(out, 0, sizeof *out);
    switch (request->opcode) {
    case FUSE_INIT:
        out->init.major = FUSE_KERNEL_VERSION;
        out->init.minor = 31;
        out->init.max_write = 4096;
        return sizeof out->init;
    case FUSE_LOOKUP:
        out->entry.nodeid = 2;
        out->entry.attr = attributes(2);
        return sizeof out->entry;
    case FUSE_GETATTR:
        out->attr.attr = attributes(request->nodeid);
        return sizeof out->attr;
    case FUSE_OPEN:
        return sizeof out->open;
    }
    return -ENOSYS;
}

static void *serve(void *arg)
{
    static char in[1 << 17];
    struct fuse *fuse = arg;
    ssize_t n;

    while ((n = read(fuse->dev, in, sizeof in)) > 0 || errno == EINTR) {
        struct fuse_in_header request;
        struct fuse_out_header header = { .len = sizeof header };
        union answer out;
        struct iovec iov[2] = { { &header, sizeof header }, { &out, 0 } };
        int size;

        if (n < (ssize_t)sizeof request)
            continue;
        memcpy(&request, in, sizeof request);
        if (request.opcode == FUSE_FORGET)
            continue;
        if (atomic_load(&fuse->dead)) {
            atomic_fetch_add(&fuse->unanswered, 1);
            continue;
        }
        size = answer(&request, &out);
        header.unique = request.unique;
        header.error = size < 0 ? size : 0;
        iov[1].iov_len = size < 0 ? 0 : (size_t)size;
        header.len += (uint32_t)iov[1].iov_len;
        n = writev(fuse->dev, iov, 2);
    }
    return NULL;
}

bool fuse_begin(struct fuse *fuse, const char **why)
{
    char options[80];

    memset(fuse, 0, sizeof *fuse);
    fuse->file = -1;
    fuse->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse->dev < 0) {
        *why = "there is no /dev/fuse for this user";
        return false;
    }
    snprintf(fuse->path, sizeof fuse->path, "/tmp/husk-fuse-XXXXXX");
    snprintf(options, sizeof options,
             "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse->dev);
    /* nobody else sees it, and it ends with this process */
    if (unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        !mkdtemp(fuse->path) ||
        mount("husk-test", fuse->path, "fuse", 0, options) < 0) {
        *why = "this user may not mount a file system";
        close(fuse->dev);
        return false;
    }
    fuse->served = pthread_create(&fuse->thread, NULL, serve, fuse) == 0;
    snprintf(options, sizeof options, "%s/file", fuse->path);
    fuse->file = open(options, O_RDWR | O_CLOEXEC);
    *why = "the file system does not open its file";
    return fuse->served && fuse->file >= 0;
}

void fuse_die(struct fuse *fuse)
{
    atomic_store(&fuse->dead, true);
}

void fuse_end(struct fuse *fuse)
{
    umount2(fuse->path, MNT_FORCE); /* whoever waits gets an error */
    umount2(fuse->path, MNT_DETACH);
    rmdir(fuse->path);
    if (fuse->served)
        pthread_join(fuse->thread, NULL);
    close(fuse->dev);
}
