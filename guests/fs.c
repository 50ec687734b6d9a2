/*
 * The first file system device (VIRTIO 1.2, 5.11): prints its tag, opens a FUSE
 * session and looks a name up in its root directory. FUSE's layouts are those
 * of linux/fuse.h, protocol 7.31.
 *
 *   lookup=NAME   may be left out
 */
#include "virtio.h"

#define ID_FS         26u
#define TAG_SIZE      36u
#define QUEUE_REQUEST 1u /* 0 is for requests that cannot wait */
#define PATIENCE      30000u
#define FUSE_LOOKUP   1u
#define FUSE_INIT     26u
#define FUSE_ROOT     1u
#define FUSE_MAJOR    7u
#define FUSE_MINOR    31u
#define NAME_SIZE     256u

struct fuse_in {
    uint32_t size, opcode;
    uint64_t unique, node;
    uint32_t uid, gid, pid, padding;
};

struct fuse_out {
    uint32_t size;
    int32_t error;
    uint64_t unique;
};

struct fuse_init_in {
    uint32_t major, minor, max_readahead, flags;
};

struct fuse_init_out {
    uint32_t major, minor, max_readahead, flags;
    uint32_t more[12];
};

/* Up to the first field of the attributes, the inode's number. */
struct fuse_entry_out {
    uint64_t node, generation, entry_valid, attr_valid;
    uint32_t entry_valid_ns, attr_valid_ns;
    uint64_t inode;
    uint64_t more[10];
};

static struct {
    struct fuse_in in;
    uint8_t body[NAME_SIZE];
} request;

static struct {
    struct fuse_out out;
    uint8_t body[256];
} answer;

/* One request; its answer's error, 0 or a positive number. */
static uint32_t call(struct queue *q, uint32_t opcode, uint64_t node,
                     const void *body, uint32_t body_size, uint32_t out_size)
{
    static uint64_t unique;
    const uint32_t in_size = (uint32_t)sizeof request.in + body_size;
    struct segment segments[2] = {
        { &request, in_size, false },
        { &answer, (uint32_t)sizeof answer.out + out_size, true },
    };
    uint32_t used;

    memset(&answer, 0, sizeof answer);
    request.in = (struct fuse_in){
        .size = in_size,
        .opcode = opcode,
        .unique = ++unique,
        .node = node,
    };
    memcpy(request.body, body, body_size);
    if (!queue_ask(q, segments, 2, &used, PATIENCE))
        exit_fail("request %u is not answered", opcode);
    if (used < sizeof answer.out || answer.out.size > used ||
        answer.out.unique != unique)
        exit_fail("request %u: answer of %u bytes says %u, number %lu", opcode,
                  used, answer.out.size, answer.out.unique);
    if (answer.out.error > 0)
        exit_fail("request %u: error %u above 0", opcode,
                  (unsigned)answer.out.error);
    return 0 - (uint32_t)answer.out.error;
}

static void begin(struct virtio *dev, struct queue *q)
{
    const char *error;

    if (!tree_find(dev, ID_FS, false))
        exit_fail("there is no file system device");
    error = virtio_open(dev);
    if (error == NULL)
        error = virtio_negotiate(dev, virtio_wanted());
    if (error == NULL)
        error = queue_init(q, dev, QUEUE_REQUEST, 16);
    if (error != NULL)
        exit_fail("virtio%u: %s", dev->number, error);
    virtio_start(dev);
}

static void print_tag(const struct virtio *dev)
{
    char tag[TAG_SIZE + 1];

    if (dev->config_size < TAG_SIZE)
        exit_fail("config space of %u bytes holds no tag", dev->config_size);
    virtio_config_read(dev, 0, tag, TAG_SIZE);
    tag[TAG_SIZE] = '\0';
    print("fs: tag %s\n", tag);
}

static void start_session(struct queue *q)
{
    static const struct fuse_init_in in = { FUSE_MAJOR, FUSE_MINOR, 0, 0 };
    struct fuse_init_out out;
    uint32_t error = call(q, FUSE_INIT, 0, &in, sizeof in, sizeof out);

    if (error != 0)
        exit_fail("init: error %u", error);
    memcpy(&out, answer.body, sizeof out);
    if (out.major != FUSE_MAJOR)
        exit_fail("init: major version %u", out.major);
    print("fs: init %u.%02u\n", out.major, out.minor);
}

static void look_up(struct queue *q, const char *name)
{
    struct fuse_entry_out out;
    uint32_t error = call(q, FUSE_LOOKUP, FUSE_ROOT, name,
                          (uint32_t)strlen(name) + 1, sizeof out);

    if (error != 0)
        exit_fail("lookup %s: error %u", name, error);
    memcpy(&out, answer.body, sizeof out);
    print("fs: lookup %s inode %lu\n", name, out.inode);
}

int guest_main(void)
{
    struct virtio dev;
    struct queue queue;
    char name[NAME_SIZE];

    begin(&dev, &queue);
    print_tag(&dev);
    start_session(&queue);
    if (option_text("lookup", name, sizeof name))
        look_up(&queue, name);
    print("pass\n");
    return 0;
}
