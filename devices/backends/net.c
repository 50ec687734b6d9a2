/*
 * husk-net: a network card, VIRTIO 1.2 section 5.1, on a tap device or on a
 * unix stream socket where each frame comes after its length, 4 bytes
 * big-endian, as QEMU's -netdev stream has it. One pair of queues, no offloads,
 * with a control queue and a receive filter. A frame waits while the guest has
 * no buffer, and nothing more is read; a frame that is too short, too long or
 * filtered is dropped.
 *
 * A few lines over 500: transmit, receive and the peer's coming and going work
 * on the same fields and call one another.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backends/listener.h"
#include "devices/backends/mac.h"
#include "devices/backends/netfilter.h"
#include "devices/backends/runtime.h"
#include "devices/backends/stream.h"
#include "devices/backends/tap.h"

#define F_MTU    (UINT64_C(1) << 3)
#define F_MAC    (UINT64_C(1) << 5)
#define F_STATUS (UINT64_C(1) << 16)

enum {
    CONFIG_MAC = 0,
    CONFIG_STATUS = 6,
    CONFIG_PAIRS = 8,
    CONFIG_MTU = 10,
    CONFIG_SIZE = 12
};
enum { RECEIVE, TRANSMIT, CONTROL };
enum mode { NONE, TAP, LISTEN, CONNECT };

#define LINK_UP     1u
#define HEADER_SIZE 12u /* struct virtio_net_hdr of VERSION_1 */
#define MIN_FRAME   14u
#define MAX_FRAME   STREAM_MAX_FRAME

struct net {
    struct device *dev;
    enum mode mode;
    const char *path; /* or the tap's name */
    bool has_mac;
    uint8_t mac[MAC_SIZE]; /* what a reset goes back to */
    int fd;                /* tap or peer; -1: none */
    struct listener listener;
    struct filter filter;

    struct stream stream; /* from the socket */

    /* one frame on its way to the guest, if frame_size, after its header */
    size_t frame_size;
    uint8_t frame[HEADER_SIZE + MAX_FRAME];

    /* one frame that the peer has not taken all of, with what goes before */
    struct queue *tx;
    size_t out_at, out_end;
    uint8_t out[HEADER_SIZE + MAX_FRAME];

    ev_io readable, writable, accept;
};

static void set_link(struct net *net, bool up)
{
    uint16_t status = up ? LINK_UP : 0;

    if (net->dev->config[CONFIG_STATUS] == status)
        return;
    device_put16(net->dev, CONFIG_STATUS, status);
    device_config_changed(net->dev);
}

static void watch_input(struct net *net)
{
    if (net->fd < 0 || !device_queue(net->dev, RECEIVE))
        return;
    ev_io_stop(net->dev->loop, &net->readable);
    ev_io_set(&net->readable, net->fd, EV_READ);
    ev_io_start(net->dev->loop, &net->readable);
}

static void meet_peer(struct net *net, int fd)
{
    net->fd = fd;
    stream_reset(&net->stream);
    net->out_at = net->out_end = 0;
    set_link(net, true);
    watch_input(net);
}

static void lose_peer(struct net *net, const char *why)
{
    complain("peer: %s", why);
    ev_io_stop(net->dev->loop, &net->readable);
    ev_io_stop(net->dev->loop, &net->writable);
    close(net->fd);
    net->fd = -1;
    stream_reset(&net->stream);
    net->out_at = net->out_end = 0;
    set_link(net, false);
    if (net->mode == LISTEN)
        ev_io_start(net->dev->loop, &net->accept);
    if (net->tx)
        queue_wake(net->tx);
}

/* transmit */

/* Send what is in out; false: it has to wait. */
static bool send_out(struct net *net)
{
    while (net->out_at < net->out_end) {
        ssize_t n =
            write(net->fd, net->out + net->out_at, net->out_end - net->out_at);

        if (n > 0) {
            net->out_at += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            ev_io_stop(net->dev->loop, &net->writable);
            ev_io_set(&net->writable, net->fd, EV_WRITE);
            ev_io_start(net->dev->loop, &net->writable);
            return false;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (net->mode == TAP) {
            break; /* the interface is down, or does not like the frame */
        } else {
            lose_peer(net, strerror(errno));
        }
    }
    net->out_at = net->out_end = 0;
    ev_io_stop(net->dev->loop, &net->writable);
    return true;
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct net *net = w->data;

    (void)loop, (void)events;
    if (send_out(net) && net->tx)
        queue_wake(net->tx);
}

/* Copy a chain's frame to out, with what goes before it there. */
static void load_out(struct net *net, const struct chain *chain)
{
    size_t lead = net->mode == TAP ? HEADER_SIZE : STREAM_PREFIX;
    size_t size = chain->readable_size - HEADER_SIZE;
    uint32_t prefix = htonl((uint32_t)size);

    /* without offloads the guest's header says nothing: zeros to the tap */
    memset(net->out, 0, lead);
    if (net->mode != TAP)
        memcpy(net->out, &prefix, sizeof prefix);
    net->out_end = lead + chain_read(chain, HEADER_SIZE, net->out + lead, size);
    net->out_at = 0;
}

static void transmit(struct net *net, struct queue *queue)
{
    struct chain *chain;

    net->tx = queue;
    while (send_out(net)) {
        chain = queue_take(queue);
        if (!chain)
            return;
        if (net->fd >= 0 && chain->readable_size >= HEADER_SIZE + MIN_FRAME &&
            chain->readable_size <= HEADER_SIZE + MAX_FRAME)
            load_out(net, chain);
        queue_give(queue, chain, 0);
    }
    queue_hold(queue);
}

/* receive */

/* One read: the number of bytes, or 0. */
static size_t read_peer(struct net *net, void *to, size_t size)
{
    ssize_t n;

    if (net->fd < 0)
        return 0;
    do
        n = read(net->fd, to, size);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return (size_t)n;
    if (n < 0 && errno == EAGAIN)
        watch_input(net);
    else if (net->mode != TAP)
        lose_peer(net, n ? strerror(errno) : "hung up");
    return 0;
}

static bool next_from_tap(struct net *net)
{
    size_t n = read_peer(net, net->frame, sizeof net->frame);

    net->frame_size = n > HEADER_SIZE ? n - HEADER_SIZE : 0;
    return n;
}

static bool next_from_socket(struct net *net)
{
    for (;;) {
        int rc = stream_next(&net->stream, net->frame + HEADER_SIZE,
                             &net->frame_size);

        if (rc > 0)
            return true;
        if (rc < 0) {
            lose_peer(net, "a frame that is too long");
            return false;
        }

        size_t size;
        uint8_t *room = stream_room(&net->stream, &size);

        size = read_peer(net, room, size);
        if (!size)
            return false;
        stream_received(&net->stream, size);
    }
}

/* Have a frame for the guest in frame; false: there is none now. */
static bool next_frame(struct net *net)
{
    /* bounded: frames that are filtered could keep the loop here for ever */
    for (unsigned n = 0; n < 256 && !net->frame_size; n++) {
        if (!(net->mode == TAP ? next_from_tap(net) : next_from_socket(net)))
            return false;
        if (net->frame_size < MIN_FRAME ||
            !filter_passes(&net->filter, net->frame + HEADER_SIZE,
                           net->dev->config + CONFIG_MAC))
            net->frame_size = 0;
    }
    if (!net->frame_size) /* go on at the loop's next turn */
        ev_feed_event(net->dev->loop, &net->readable, EV_CUSTOM);
    return net->frame_size;
}

static void receive(struct net *net, struct queue *queue)
{
    while (next_frame(net)) {
        struct chain *chain = queue_take(queue);
        size_t size = HEADER_SIZE + net->frame_size;

        if (!chain)
            return; /* the frame waits for the guest's buffers */
        if (chain->writable_size < size) {
            queue_return(queue, chain); /* it may do for a shorter one */
        } else {
            memset(net->frame, 0, HEADER_SIZE);
            net->frame[HEADER_SIZE - 2] = 1; /* num_buffers */
            chain_write(chain, 0, net->frame, size);
            queue_give(queue, chain, (uint32_t)size);
        }
        net->frame_size = 0;
    }
    queue_hold(queue); /* buffers wait for frames */
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct net *net = w->data;
    struct queue *queue = device_queue(net->dev, RECEIVE);

    (void)events;
    ev_io_stop(loop, w);
    if (queue)
        queue_wake(queue);
}

/* control */

static void control(struct net *net, struct queue *queue)
{
    struct chain *chain;

    while ((chain = queue_take(queue))) {
        uint8_t command[FILTER_MAX_COMMAND];
        size_t size = chain_read(chain, 0, command, sizeof command);
        uint8_t ack;

        if (!chain->writable_size) {
            queue_break(queue, "a command without a place for its answer");
            queue_give(queue, chain, 0);
            return;
        }
        if (size < chain->readable_size)
            size = 0; /* longer than any that is known */
        ack = filter_command(&net->filter, device_features(net->dev), command,
                             size, net->dev->config + CONFIG_MAC);
        chain_write(chain, 0, &ack, 1);
        queue_give(queue, chain, 1);
    }
}

static void net_handle(struct queue *queue)
{
    struct net *net = queue_device(queue)->state;

    switch (queue_index(queue)) {
    case RECEIVE:
        receive(net, queue);
        break;
    case TRANSMIT:
        transmit(net, queue);
        break;
    default:
        control(net, queue);
    }
}

static void net_start(struct queue *queue)
{
    struct net *net = queue_device(queue)->state;

    if (queue_index(queue) != RECEIVE)
        return;
    if (!net->frame_size && net->stream.at == net->stream.end) {
        queue_hold(queue);
        watch_input(net);
    }
}

static void net_stop(struct queue *queue)
{
    struct net *net = queue_device(queue)->state;

    if (queue_index(queue) == RECEIVE)
        ev_io_stop(net->dev->loop, &net->readable);
    else if (queue_index(queue) == TRANSMIT)
        net->tx = NULL;
}

static void net_reset(struct device *dev)
{
    struct net *net = dev->state;

    filter_reset(&net->filter);
    memcpy(dev->config + CONFIG_MAC, net->mac, MAC_SIZE);
}

/* opening and options */

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
    struct net *net = w->data;
    int fd =
        accept4(net->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    ev_io_stop(loop, w);
    meet_peer(net, fd);
}

static int open_tap(struct net *net)
{
    int fd = tap_open(net->path, HEADER_SIZE);

    if (fd < 0)
        return -1;
    meet_peer(net, fd);
    return 0;
}

static int open_listener(struct net *net)
{
    if (listener_open(&net->listener, "unix", net->path) < 0)
        return -1;
    ev_io_init(&net->accept, on_accept, net->listener.fd, EV_READ);
    net->accept.data = net;
    ev_io_start(net->dev->loop, &net->accept);
    return 0;
}

static int open_connection(struct net *net)
{
    int fd = listener_connect("unix-connect", net->path);

    if (fd < 0)
        return -1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    meet_peer(net, fd);
    return 0;
}

static int net_init(struct device *dev)
{
    struct net *net = dev->state;

    net->dev = dev;
    if (net->mode == NONE)
        return complain("give one of --tap, --unix and --unix-connect (see "
                        "--help)");
    if (!net->has_mac)
        mac_of_name(net->path, net->mac);
    ev_init(&net->readable, on_readable);
    ev_init(&net->writable, on_writable);
    net->readable.data = net->writable.data = net;
    net_reset(dev);
    device_put16(dev, CONFIG_PAIRS, 1);
    return net->mode == TAP      ? open_tap(net)
           : net->mode == LISTEN ? open_listener(net)
                                 : open_connection(net);
}

static void net_fini(struct device *dev)
{
    struct net *net = dev->state;

    listener_close(&net->listener);
    if (net->fd >= 0)
        close(net->fd);
}

static int set_mode(struct device *dev, enum mode mode, const char *path)
{
    struct net *net = dev->state;

    if (net->mode != NONE)
        return complain("give only one of --tap, --unix and --unix-connect");
    net->mode = mode;
    net->path = path;
    return 0;
}

static int set_tap(struct device *dev, const char *value)
{
    return set_mode(dev, TAP, value);
}

static int set_unix(struct device *dev, const char *value)
{
    return set_mode(dev, LISTEN, value);
}

static int set_connect(struct device *dev, const char *value)
{
    return set_mode(dev, CONNECT, value);
}

static int set_mac(struct device *dev, const char *value)
{
    struct net *net = dev->state;

    if (!mac_parse(value, net->mac))
        return complain("--mac=%s: give the address of one station, such as "
                        "52:54:00:12:34:56",
                        value);
    net->has_mac = true;
    return 0;
}

static int set_mtu(struct device *dev, const char *value)
{
    uint64_t mtu;

    if (parse_number("mtu", value, 68, 65535, &mtu) < 0)
        return -1;
    device_put16(dev, CONFIG_MTU, (uint16_t)mtu);
    dev->shape.features |= F_MTU;
    return 0;
}

static const struct backend_option options[] = {
    { "tap", "NAME", "a tap device of the host", set_tap },
    { "unix", "PATH", "listen there, for one peer at a time", set_unix },
    { "unix-connect", "PATH", "connect to a peer there", set_connect },
    { "mac", "ADDRESS", "the card's address; by default made of the above",
      set_mac },
    { "mtu", "BYTES", "the MTU in config space, 68 to 65535; none", set_mtu },
    { 0 },
};

static const struct backend net_backend = {
    .type = "net",
    .about = "A network card",
    .options = options,
    .shape = { .id = 1,
               .config_size = CONFIG_SIZE,
               .min_vqs = 2,
               .max_vqs = 3,
               .features = F_MAC | F_STATUS | FILTER_FEATURES },
    .init = net_init,
    .fini = net_fini,
    .start = net_start,
    .stop = net_stop,
    .handle = net_handle,
    .reset = net_reset,
};

int main(int argc, char **argv)
{
    static struct net state = { .fd = -1, .listener = { .fd = -1 } };

    return backend_main(&net_backend, &state, argc, argv);
}
