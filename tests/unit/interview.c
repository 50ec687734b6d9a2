/* Probing a model in one thread. See interview.h. */
#include "tests/unit/interview.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/unit/far.h"

#define MAX_STEPS 100000

void interview_init(struct interview *in)
{
    memset(in, 0, sizeof *in);
    in->opened = far_open_fds();
    in->fe.name = "virtio7";
    in->fe.stop_fd = in->fe.call_fd = in->fe.err_fd = -1;
    in->fe.inflight_fd = -1;
    in->fe.deadline = 5;
    in->probe.backend_req_fd = -1;
    frontend_init(&in->fe, model_init(&in->model));
    probe_start(&in->probe, &in->fe);
}

void interview_again(struct interview *in)
{
    wire_fini(&in->fe.wire);
    frontend_init(&in->fe, model_again(&in->model));
    probe_start(&in->probe, &in->fe);
}

static int step(struct interview *in)
{
    unsigned before = far_writes();
    int rc = probe_step(&in->probe);

    in->writes += far_writes() - before;
    return rc;
}

static int finish(struct interview *in, int rc)
{
    cr_assert_eq(rc < 0, in->fe.lost, "returned %d: %s", rc, in->fe.err.text);
    if (rc < 0) {
        cr_assert_eq(in->fe.err.code, rc);
        cr_assert_eq(strncmp(in->fe.err.text, "virtio7: ", 9), 0, "%s",
                     in->fe.err.text);
        cr_assert_eq(frontend_pump(&in->fe), -ENOTCONN);
    } else {
        model_serve(&in->model); /* what needs no answer */
    }
    return rc;
}

int interview_run(struct interview *in)
{
    for (unsigned n = 0; n < MAX_STEPS; n++) {
        int rc = step(in);

        if (rc != -EAGAIN)
            return finish(in, rc);
        cr_assert_neq(frontend_events(&in->fe), 0);
        if (model_serve(&in->model) == 0) {
            /* it may just have hung up */
            rc = step(in);
            if (rc != -EAGAIN)
                return finish(in, rc);
            in->timeouts++;
            return finish(in, frontend_timeout(&in->fe));
        }
    }
    cr_assert_fail("it does not end");
    return 0;
}

int interview_drip(struct interview *in)
{
    int near = in->model.fd, far, proxy;

    /* the model answers into a socket of its own, emptied byte by byte */
    proxy = far_open(&far);
    for (unsigned n = 0; n < MAX_STEPS; n++) {
        uint8_t bytes[16384];
        ssize_t size;
        int rc = step(in);

        if (rc != -EAGAIN) {
            close(far);
            close(proxy);
            return finish(in, rc);
        }
        size = recv(near, bytes, sizeof bytes, MSG_DONTWAIT);
        if (size > 0) {
            far_raw(proxy, bytes, (size_t)size, 0);
            in->model.fd = far;
            model_serve(&in->model);
            in->model.fd = near;
        }
        size = recv(proxy, bytes, 1, MSG_DONTWAIT);
        cr_assert_eq(size, 1, "the probe waits for more than comes");
        far_raw(near, bytes, 1, 0);
    }
    cr_assert_fail("it does not end");
    return 0;
}

void interview_fini(struct interview *in)
{
    frontend_fini(&in->fe);
    model_fini(&in->model);
    cr_assert_eq(far_open_fds(), in->opened, "%d descriptors left",
                 (int)(far_open_fds() - in->opened));
}
