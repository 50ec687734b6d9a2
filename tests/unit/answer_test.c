/*
 * What a single answer may look like: each field of its header changed, each
 * byte the last one, descriptors attached, config space that was not asked for,
 * and random damage. Whatever comes, the front-end says what was wrong, keeps
 * no descriptor and waits no longer than it must.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "devices/names.h"
#include "devices/probe.h"
#include "tests/unit/interview.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* All requests of a probe that have an answer, and its size. */
static const struct {
    uint32_t request;
    size_t size;
} asked[] = {
    { VU_GET_FEATURES, 8 },  { VU_GET_PROTOCOL_FEATURES, 8 },
    { VU_GET_QUEUE_NUM, 8 }, { VU_GET_MAX_MEM_SLOTS, 8 },
    { VU_GET_DEVICE_ID, 4 }, { VU_GET_CONFIG_SIZE, 4 },
    { VU_GET_MIN_VQ, 4 },    { VU_GET_CONFIG, 32 },
};

static void begin(struct interview *in, unsigned i,
                  void (*bend)(struct model *m, struct model_reply *reply),
                  uint64_t arg)
{
    interview_init(in);
    in->model.probe = MODEL_MESSAGES;
    in->model.protocol |= VU_PF_CONFIGURE_MEM_SLOTS;
    in->model.bend_request = asked[i].request;
    in->model.bend = bend;
    in->model.arg = arg;
}

/* The text names the device and the request. */
static void expect_named(const struct interview *in, unsigned i)
{
    const char *name = names_request(asked[i].request);

    cr_assert_not_null(strstr(in->fe.err.text, name), "no %s in: %s", name,
                       in->fe.err.text);
}

static void bend_request(struct model *m, struct model_reply *reply)
{
    reply->header.request = (uint32_t)m->arg;
}

Test(answer, of_another_request, .timeout = 20)
{
    for (unsigned i = 0; i < COUNT(asked); i++) {
        uint32_t right = asked[i].request;
        const uint32_t wrong[] = { 0,
                                   right - 1,
                                   right + 1,
                                   right | 0x10000,
                                   right | 0x80000000,
                                   0xffffffff };

        for (unsigned k = 0; k < COUNT(wrong); k++) {
            struct interview in;

            begin(&in, i, bend_request, wrong[k]);
            cr_assert_eq(interview_run(&in), -EPROTO, "%u answered as %u: %s",
                         right, wrong[k], in.fe.err.text);
            cr_assert_not(probe_again(&in.probe));
            interview_fini(&in);
        }
    }
}

static void bend_flags(struct model *m, struct model_reply *reply)
{
    reply->header.flags = (uint32_t)m->arg;
}

Test(answer, with_other_flags, .timeout = 20)
{
    static const uint32_t flags[] = {
        0,
        VU_REPLY,
        VU_VERSION,
        VU_VERSION | VU_NEED_REPLY,
        VU_REPLY | 2,
        VU_REPLY | 3,
        2,
        3,
        0xfffffffb,
        0xfffffffc,
        0xffffffff,
    };

    for (unsigned i = 0; i < COUNT(asked); i++) {
        for (unsigned k = 0; k < COUNT(flags); k++) {
            struct interview in;

            begin(&in, i, bend_flags, flags[k]);
            cr_assert_eq(interview_run(&in), -EPROTO,
                         "answer to %u with flags 0x%x: %s", asked[i].request,
                         flags[k], in.fe.err.text);
            expect_named(&in, i);
            cr_assert_not(probe_again(&in.probe));
            interview_fini(&in);
        }
    }
}

static void bend_size(struct model *m, struct model_reply *reply)
{
    reply->size = m->arg;
    reply->header.size = (uint32_t)m->arg;
}

/* Too short or too long, and all of it there. */
Test(answer, of_another_size, .timeout = 20)
{
    for (unsigned i = 0; i < COUNT(asked); i++) {
        size_t right = asked[i].size;
        const size_t wrong[] = { 0,         1,    right - 1, right + 1,
                                 right + 8, 2048, 4096 };

        if (asked[i].request == VU_GET_DEVICE_ID)
            continue; /* every size has a meaning there */
        for (unsigned k = 0; k < COUNT(wrong); k++) {
            bool empty_config = asked[i].request == VU_GET_CONFIG &&
                                wrong[k] < sizeof(struct vu_config);
            struct interview in;

            begin(&in, i, bend_size, wrong[k]);
            cr_assert_eq(interview_run(&in),
                         empty_config ? -EREMOTEIO : -EPROTO,
                         "%zu bytes to %u: %s", wrong[k], asked[i].request,
                         in.fe.err.text);
            expect_named(&in, i);
            interview_fini(&in);
        }
    }
}

static void bend_header_size(struct model *m, struct model_reply *reply)
{
    reply->header.size = (uint32_t)m->arg;
}

/* More than any message may have is refused before it comes. */
Test(answer, that_is_too_large, .timeout = 20)
{
    static const uint32_t sizes[] = { 4097,       8192,       0x10008,
                                      0x7fffffff, 0x80000000, 0xfffffff4,
                                      0xffffffff };

    for (unsigned i = 0; i < COUNT(asked); i++) {
        for (unsigned k = 0; k < COUNT(sizes); k++) {
            struct interview in;

            begin(&in, i, bend_header_size, sizes[k]);
            cr_assert_eq(interview_run(&in), -EPROTO, "size %u: %s", sizes[k],
                         in.fe.err.text);
            expect_named(&in, i);
            cr_assert_eq(in.timeouts, 0);
            cr_assert_not(probe_again(&in.probe));
            interview_fini(&in);
        }
    }
}

/* A header that promises more than follows: a missed deadline, or what comes
 * next is taken for it and then makes no sense. */
Test(answer, that_promises_more, .timeout = 20)
{
    for (unsigned i = 0; i < COUNT(asked); i++) {
        for (uint32_t more = 1; more < 64; more++) {
            struct interview in;
            int rc;

            begin(&in, i, bend_header_size, asked[i].size + more);
            in.probe.given.has_id = true; /* no way out without a probe */
            in.probe.given.id = 42;
            in.probe.given.mode = PROBE_MESSAGES;
            rc = interview_run(&in);
            cr_assert(rc == -ETIMEDOUT || rc == -EPROTO, "%d: %s", rc,
                      in.fe.err.text);
            interview_fini(&in);
        }
    }
}

static void bend_cut(struct model *m, struct model_reply *reply)
{
    reply->cut = m->arg;
}

Test(answer, cut_at_each_byte, .timeout = 20)
{
    for (unsigned i = 0; i < COUNT(asked); i++) {
        for (size_t cut = 0; cut < VU_HEADER_SIZE + asked[i].size; cut++) {
            struct interview in;

            begin(&in, i, bend_cut, cut);
            cr_assert_eq(interview_run(&in), -EPIPE, "%u cut after %zu: %s",
                         asked[i].request, cut, in.fe.err.text);
            expect_named(&in, i);
            cr_assert_eq(in.timeouts, 0);
            cr_assert_eq(probe_again(&in.probe),
                         asked[i].request == VU_GET_DEVICE_ID);
            interview_fini(&in);
        }
    }
}

/* The same with the last answer whole: nothing is lost that was needed. */
Test(answer, hang_up_behind_the_last, .timeout = 10)
{
    struct interview in;

    begin(&in, COUNT(asked) - 1, bend_cut, VU_HEADER_SIZE + 32);
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_arr_eq(in.fe.config, in.model.config, 20);
    interview_fini(&in);
}

static void bend_silent(struct model *m, struct model_reply *reply)
{
    (void)reply;
    m->silent = true;
}

Test(answer, never, .timeout = 20)
{
    for (unsigned i = 0; i < COUNT(asked); i++) {
        struct interview in;

        begin(&in, i, bend_silent, 0);
        cr_assert_eq(interview_run(&in), -ETIMEDOUT);
        cr_assert_eq(in.timeouts, 1);
        expect_named(&in, i);
        cr_assert_not_null(strstr(in.fe.err.text, "deadline="), "%s",
                           in.fe.err.text);
        cr_assert_eq(probe_again(&in.probe),
                     asked[i].request == VU_GET_DEVICE_ID);
        interview_fini(&in);
    }
}

Test(answer, a_byte_at_a_time, .timeout = 20)
{
    struct interview in;

    for (int dialect = MODEL_SPECS; dialect <= MODEL_MESSAGES; dialect++) {
        interview_init(&in);
        in.model.probe = (enum model_probe)dialect;
        in.model.config_size = 600;
        cr_assert_eq(interview_drip(&in), 0, "%s", in.fe.err.text);
        cr_assert_eq(in.probe.is.id, 42);
        cr_assert_arr_eq(in.fe.config, in.model.config, 600);
        interview_fini(&in);
    }
}

static void bend_fds(struct model *m, struct model_reply *reply)
{
    reply->n_fds = (unsigned)m->arg;
}

/* No answer here has descriptors: one is as wrong as 253, and none stays. */
Test(answer, with_descriptors, .timeout = 20)
{
    static const unsigned counts[] = { 1, 8, 9, 253 };

    for (unsigned i = 0; i < COUNT(asked); i++) {
        for (unsigned k = 0; k < COUNT(counts); k++) {
            char number[8];
            struct interview in;

            snprintf(number, sizeof number, "%u", counts[k]);
            begin(&in, i, bend_fds, counts[k]);
            cr_assert_eq(interview_run(&in), -EPROTO, "%s", in.fe.err.text);
            expect_named(&in, i);
            cr_assert_not_null(strstr(in.fe.err.text, number), "%s",
                               in.fe.err.text);
            interview_fini(&in); /* counts descriptors */
        }
    }
}

struct echo {
    uint32_t offset, size, bytes; /* said and sent */
    int rc;
};

static const struct echo echoes[] = {
    { 0, 20, 20, 0 },
    { 1, 20, 20, -EPROTO },
    { 4, 20, 20, -EPROTO },
    { 0xffffffff, 20, 20, -EPROTO },
    { 0, 19, 20, -EPROTO },
    { 0, 21, 20, -EPROTO },
    { 0, 19, 19, -EPROTO },
    { 0, 21, 21, -EPROTO },
    { 0, 256, 256, -EPROTO },
    { 0, 20, 4084, -EPROTO },
    { 0, 4084, 4084, -EPROTO },
    { 0, 0xffffffff, 20, -EPROTO },
    { 0, 0xfffffff0, 20, -EPROTO },
    { 0xffffffec, 20, 20, -EPROTO },
    { 0, 20, 0, -EPROTO },
    { 0, 20, 19, -EPROTO },
    { 0, 1, 1, -EPROTO },
    { 0, 0, 0, -EREMOTEIO },
    { 0, 0, 20, -EREMOTEIO },
};

static void bend_echo(struct model *m, struct model_reply *reply)
{
    const struct echo *echo = &echoes[m->arg];
    struct vu_config head = { echo->offset, echo->size, 0 };

    memcpy(reply->payload, &head, sizeof head);
    reply->size = sizeof head + echo->bytes;
    reply->header.size = (uint32_t)reply->size;
}

/* Config space comes back as it was asked for, or not at all. */
Test(answer, config_echo, .timeout = 20)
{
    for (unsigned k = 0; k < COUNT(echoes); k++) {
        struct interview in;

        begin(&in, COUNT(asked) - 1, bend_echo, k);
        cr_assert_eq(interview_run(&in), echoes[k].rc, "echo %u: %s", k,
                     in.fe.err.text);
        if (echoes[k].rc)
            expect_named(&in, COUNT(asked) - 1);
        interview_fini(&in);
    }
}

static void bend_second(struct model *m, struct model_reply *reply)
{
    struct vu_config head;

    memcpy(&head, reply->payload, sizeof head);
    if (head.offset == 256 * m->arg) {
        head.offset ^= 256;
        memcpy(reply->payload, &head, sizeof head);
    }
}

/* Pieces of config space in another order. */
Test(answer, config_pieces_exchanged, .timeout = 10)
{
    for (unsigned k = 0; k < 4; k++) {
        struct interview in;

        begin(&in, COUNT(asked) - 1, bend_second, k);
        in.model.config_size = 1024;
        cr_assert_eq(interview_run(&in), -EPROTO);
        interview_fini(&in);
    }
}

/* A refused or empty answer to 41 is no error, and 42 no answer to it. */
Test(answer, to_the_probe_with_another_number, .timeout = 10)
{
    for (uint32_t other = 40; other < 45; other++) {
        struct interview in;
        int rc;

        interview_init(&in);
        in.model.bend_request = VU_GET_BACKEND_SPECS;
        in.model.bend = bend_request;
        in.model.arg = other;
        rc = interview_run(&in);
        cr_assert_eq(rc, other == 41 ? 0 : -EPROTO, "%u: %s", other,
                     in.fe.err.text);
        interview_fini(&in);
    }
}

static uint32_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (uint32_t)(*seed >> 16);
}

static void bend_random(struct model *m, struct model_reply *reply)
{
    uint8_t *header = (uint8_t *)&reply->header;
    uint32_t damage = next_random(&m->arg);

    if (damage % 4 == 0)
        header[damage / 4 % 12] ^= (uint8_t)(1 << damage / 64 % 8);
    for (uint32_t n = damage / 1024 % 4; n > 0 && reply->size; n--)
        reply->payload[next_random(&m->arg) % reply->size] =
            (uint8_t)next_random(&m->arg);
    if (damage % 16 == 1)
        reply->n_fds = damage / 16 % 12;
    if (damage % 16 == 2)
        reply->cut = damage / 16 % 40;
    if (damage % 16 == 3 || damage % 16 == 5)
        reply->size = damage / 16 % 64;
    if (damage % 16 == 5)
        reply->header.size = (uint32_t)reply->size;
}

/*
 * Damage that nobody thought of. Whatever it does, the probe ends; and when it
 * ends well, what it found is in range.
 */
Test(answer, random_damage, .timeout = 60)
{
    unsigned well = 0;

    for (uint64_t seed = 1; seed <= 6000; seed++) {
        unsigned i = (unsigned)(seed % COUNT(asked));
        struct interview in;
        int rc;

        begin(&in, i, bend_random, seed * 0x9e3779b97f4a7c15u);
        in.model.config_size = seed % 3 ? 20 : 700;
        rc = interview_run(&in);
        if (rc == 0) {
            well++;
            cr_assert(in.probe.is.vqs >= 1 && in.probe.is.vqs <= 256,
                      "seed %llu: %u queues", (unsigned long long)seed,
                      in.probe.is.vqs);
            cr_assert_leq(in.probe.is.config_size, 4096);
            cr_assert_eq(in.fe.is->config_size, in.probe.is.config_size);
            cr_assert_neq(in.probe.is.id, 0);
        }
        interview_fini(&in);
    }
    cr_assert(well > 100 && well < 5900, "%u went well", well);
}
