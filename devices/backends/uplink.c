/*
 * CONFIG_CHANGE messages to the front-end, vhost-user "Back-end message types".
 * A channel that fails is closed with a line; the connection goes on.
 */
#include "devices/backends/uplink.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backends/complain.h"

static void send_out(struct uplink *up)
{
    const uint8_t *bytes = (const uint8_t *)&up->out;

    while (up->out_done < VU_HEADER_SIZE) {
        ssize_t n = send(up->fd, bytes + up->out_done,
                         VU_HEADER_SIZE - up->out_done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            ev_io_start(up->loop, &up->writable);
            return;
        }
        if (n < 0) {
            complain("CONFIG_CHANGE: %s", strerror(errno));
            uplink_close(up);
            return;
        }
        up->out_done += (size_t)n;
    }
    ev_io_stop(up->loop, &up->writable);
    if (up->changed && !up->awaiting)
        uplink_config_changed(up);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop, (void)events;
    send_out(w->data);
}

/* The whole answer is there: judge it. */
static void judge(struct uplink *up)
{
    struct vu_header header;
    uint64_t value;

    memcpy(&header, up->in, sizeof header);
    memcpy(&value, up->in + VU_HEADER_SIZE, sizeof value);
    up->in_done = 0;
    if (!up->awaiting || header.request != VU_BACKEND_CONFIG_CHANGE_MSG ||
        (header.flags & (VU_VERSION_MASK | VU_REPLY)) !=
            (VU_VERSION | VU_REPLY) ||
        header.size != sizeof value) {
        complain("CONFIG_CHANGE: an answer to something else (request %u, "
                 "flags 0x%x, %u bytes)",
                 header.request, header.flags, header.size);
        uplink_close(up);
        return;
    }
    up->awaiting = false;
    if (value)
        complain("CONFIG_CHANGE: the front-end answered %llu",
                 (unsigned long long)value);
    if (up->changed)
        uplink_config_changed(up);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct uplink *up = w->data;
    ssize_t n = recv(up->fd, up->in + up->in_done, sizeof up->in - up->in_done,
                     MSG_DONTWAIT);

    (void)loop, (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        uplink_close(up);
        return;
    }
    up->in_done += (size_t)n;

    uint32_t size;

    memcpy(&size, up->in + offsetof(struct vu_header, size), sizeof size);
    if (up->in_done == sizeof up->in ||
        (up->in_done >= VU_HEADER_SIZE && size != sizeof(uint64_t)))
        judge(up);
}

void uplink_init(struct uplink *up, struct ev_loop *loop)
{
    *up = (struct uplink){ .loop = loop, .fd = -1 };
    ev_init(&up->readable, on_readable);
    ev_init(&up->writable, on_writable);
    up->readable.data = up->writable.data = up;
}

void uplink_open(struct uplink *up, int fd, bool acked)
{
    uplink_close(up);
    up->fd = fd;
    up->acked = acked;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    ev_io_set(&up->readable, fd, EV_READ);
    ev_io_set(&up->writable, fd, EV_WRITE);
    ev_io_start(up->loop, &up->readable);
}

void uplink_close(struct uplink *up)
{
    if (up->fd < 0)
        return;
    ev_io_stop(up->loop, &up->readable);
    ev_io_stop(up->loop, &up->writable);
    close(up->fd);
    up->fd = -1;
    up->awaiting = up->changed = false;
    up->out_done = up->in_done = 0;
}

void uplink_config_changed(struct uplink *up)
{
    if (up->fd < 0)
        return;
    if (up->awaiting || ev_is_active(&up->writable)) {
        up->changed = true;
        return;
    }
    up->changed = false;
    up->awaiting = up->acked;
    up->out = (struct vu_header){
        .request = VU_BACKEND_CONFIG_CHANGE_MSG,
        .flags = VU_VERSION | (up->acked ? VU_NEED_REPLY : 0),
    };
    up->out_done = 0;
    send_out(up);
}
