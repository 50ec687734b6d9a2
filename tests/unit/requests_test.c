/*
 * A back-end that floods its channel or the error eventfd: so much is served in
 * a window, the rest later, and nothing that still matters is lost. The tests
 * end the windows, not the clock.
 */
#include "vmm/link/requests.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/helper.h"

#define FLOOD 1000
#define TURNS                                                                  \
    500 /* of the loop, more than a flood needs that nothing holds             \
         */
#define LIMIT 100
#define STEP  16

struct flood {
    struct ev_loop *loop;
    struct requests requests;
    struct lines lines;
    struct helper *helper;
    int far;
    unsigned changed, calls, errors;
};

static void on_changed(void *ctx)
{
    ((struct flood *)ctx)->changed++;
}

static void on_call(void *ctx)
{
    ((struct flood *)ctx)->calls++;
}

static void on_failed(void *ctx)
{
    ((struct flood *)ctx)->errors++;
}

static bool on_shm(void *ctx)
{
    (void)ctx;
    return true;
}

static void on_line(void *ctx, enum husk_log level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static void flood_init(struct flood *flood)
{
    static const struct requests_ops ops = { on_changed, on_call, on_failed,
                                             on_shm };
    struct frontend fe = { .acked =
                               VU_PF_BACKEND_REQ | VU_PF_INBAND_NOTIFICATIONS };

    memset(flood, 0, sizeof *flood);
    flood->loop = ev_loop_new(0);
    flood->lines = (struct lines){ .name = "virtio0", .log = on_line };
    cr_assert_eq(helper_new(&flood->helper), 0);
    requests_init(&flood->requests, flood->loop, &flood->lines, NULL, &ops,
                  flood);
    flood->requests.window = 3600;
    cr_assert_eq(requests_start(&flood->requests), 0);
    cr_assert_eq(requests_open(&flood->requests, flood->helper), 0);
    flood->far = dup(flood->requests.channel.far);
    requests_serve(&flood->requests, &fe);
}

static void flood_fini(struct flood *flood)
{
    close(flood->far);
    requests_fini(&flood->requests);
    helper_free(flood->helper);
    ev_loop_destroy(flood->loop);
}

/* So many requests, in one piece. */
static void ask(struct flood *flood, uint32_t request, uint32_t size,
                unsigned n)
{
    char bytes[FLOOD * (sizeof(struct vu_header) + 8)] = "";
    size_t length = sizeof(struct vu_header) + size;
    struct vu_header header = { request, VU_VERSION, size };

    for (unsigned i = 0; i < n; i++)
        memcpy(bytes + i * length, &header, sizeof header);
    cr_assert_eq(send(flood->far, bytes, n * length, 0), (ssize_t)(n * length));
}

static void turn(struct flood *flood)
{
    for (unsigned i = 0; i < TURNS; i++)
        ev_run(flood->loop, EVRUN_NOWAIT);
}

static void end_window(struct flood *flood)
{
    cr_assert(ev_is_active(&flood->requests.on_window), "no window");
    ev_invoke(flood->loop, &flood->requests.on_window, EV_TIMER);
}

Test(requests, config_changes, .timeout = 20)
{
    struct flood flood;
    unsigned windows = 0, served = 0;

    flood_init(&flood);
    ask(&flood, VU_BACKEND_CONFIG_CHANGE_MSG, 0, FLOOD);
    turn(&flood);
    while (flood.requests.channel.served < FLOOD) {
        served = flood.requests.channel.served - served;
        cr_assert(served >= LIMIT && served < LIMIT + STEP, "%u in window %u",
                  served, windows);
        cr_assert_eq(flood.changed, windows + 1);
        served = flood.requests.channel.served;
        end_window(&flood);
        windows++;
        turn(&flood);
    }
    cr_assert(windows >= FLOOD / (LIMIT + STEP) && windows < FLOOD / LIMIT);
    /* the last change is reported after all of them have come */
    end_window(&flood);
    cr_assert_eq(flood.changed, windows + 2);
    end_window(&flood);
    turn(&flood);
    cr_assert_eq(flood.changed, windows + 2);
    cr_assert_not(ev_is_active(&flood.requests.on_window), "it goes on");
    ask(&flood, VU_BACKEND_CONFIG_CHANGE_MSG, 0, 1);
    turn(&flood);
    cr_assert_eq(flood.changed, windows + 3, "one alone is reported at once");
    flood_fini(&flood);
}

Test(requests, calls, .timeout = 20)
{
    struct flood flood;

    flood_init(&flood);
    ask(&flood, VU_BACKEND_VRING_CALL, 8, LIMIT / 2);
    turn(&flood);
    cr_assert_eq(flood.calls, LIMIT / 2, "fewer than the limit wait");
    ask(&flood, VU_BACKEND_VRING_CALL, 8, FLOOD);
    turn(&flood);
    cr_assert(flood.calls >= LIMIT && flood.calls < LIMIT + STEP, "%u",
              flood.calls);
    while (flood.calls < FLOOD + LIMIT / 2) {
        end_window(&flood);
        turn(&flood);
    }
    cr_assert_eq(flood.calls, FLOOD + LIMIT / 2);
    flood_fini(&flood);
}

Test(requests, errors, .timeout = 20)
{
    const uint64_t one = 1;
    struct flood flood;

    flood_init(&flood);
    for (unsigned window = 1; window < 5; window++) {
        for (unsigned i = 0; i < TURNS; i++) {
            cr_assert_eq(write(flood.requests.err_fd, &one, sizeof one), 8);
            ev_run(flood.loop, EVRUN_NOWAIT);
        }
        cr_assert_eq(flood.errors, window);
        end_window(&flood);
    }
    turn(&flood);
    cr_assert_eq(flood.errors, 5, "the last one is lost");
    flood_fini(&flood);
}

/* A connection that ends while its requests are held back. */
Test(requests, closed_in_a_window, .timeout = 20)
{
    struct frontend fe = { .acked = VU_PF_BACKEND_REQ };
    struct flood flood;

    flood_init(&flood);
    ask(&flood, VU_BACKEND_CONFIG_CHANGE_MSG, 0, FLOOD);
    turn(&flood);
    requests_close(&flood.requests);
    cr_assert_not(ev_is_active(&flood.requests.on_window));
    turn(&flood);
    cr_assert_eq(flood.changed, 1);
    cr_assert_eq(requests_open(&flood.requests, flood.helper), 0);
    close(flood.far);
    flood.far = dup(flood.requests.channel.far);
    requests_serve(&flood.requests, &fe);
    ask(&flood, VU_BACKEND_CONFIG_CHANGE_MSG, 0, 1);
    turn(&flood);
    cr_assert_eq(flood.changed, 2, "the next one's first change waits");
    flood_fini(&flood);
}
