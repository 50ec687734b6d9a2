/*
 * The probe against a model of a back-end, in one thread: both dialects, the
 * rule that weighs answers against the command line, and numbers that no
 * back-end may give. What a single answer may look like is in answer_test.c.
 */
#include "devices/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/virtio.h"
#include "tests/unit/interview.h"
#include "tests/unit/model.h"

/* Requests, in order, and nothing else. */
static void expect_log(const struct interview *in, const uint32_t *requests,
                       unsigned n)
{
    for (unsigned i = 0; i < n && i < in->model.n_log; i++)
        cr_assert_eq(in->model.log[i].request, requests[i],
                     "message %u is %u, not %u", i, in->model.log[i].request,
                     requests[i]);
    cr_assert_eq(in->model.n_log, n, "%u messages, not %u", in->model.n_log, n);
}

Test(probe, specs, .timeout = 10)
{
    static const uint32_t order[] = {
        VU_SET_OWNER,
        VU_GET_FEATURES,
        VU_GET_PROTOCOL_FEATURES,
        VU_SET_PROTOCOL_FEATURES,
        VU_GET_BACKEND_SPECS,
        VU_GET_QUEUE_NUM,
        VU_GET_CONFIG,
    };
    struct interview in;

    interview_init(&in);
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(in.probe.is.dialect, DIALECT_SPECS);
    cr_assert_eq(in.probe.is.id, 42);
    cr_assert_eq(in.probe.is.config_size, 20);
    cr_assert_eq(in.probe.is.min_vqs, 1);
    cr_assert_eq(in.probe.is.max_vqs, 2);
    cr_assert_eq(in.probe.is.vqs, 2);
    cr_assert(in.probe.is.standalone);
    cr_assert_str_empty(in.probe.note);
    cr_assert_eq(in.fe.is->config_size, 20);
    cr_assert_arr_eq(in.fe.config, in.model.config, 20);
    cr_assert_eq(in.fe.is->features, in.model.features);
    cr_assert_eq(in.fe.is->protocol, in.model.protocol);
    cr_assert_eq(in.fe.acked, in.model.protocol & ~VU_PF_STANDALONE);
    cr_assert_eq(in.model.protocol_accepted, in.model.protocol);
    expect_log(&in, order, 7);
    cr_assert_eq(in.fe.waits, 4);
    cr_assert_eq(in.writes, 4, "%u writes", in.writes);
    cr_assert_eq(in.timeouts, 0);
    interview_fini(&in);
}

Test(probe, messages, .timeout = 10)
{
    static const uint32_t order[] = {
        VU_SET_OWNER,
        VU_GET_FEATURES,
        VU_GET_PROTOCOL_FEATURES,
        VU_SET_PROTOCOL_FEATURES,
        VU_GET_DEVICE_ID,
        VU_GET_QUEUE_NUM,
        VU_GET_CONFIG_SIZE,
        VU_GET_MIN_VQ,
        VU_GET_CONFIG,
    };
    struct interview in;

    interview_init(&in);
    in.model.probe = MODEL_MESSAGES;
    in.model.queue_num = 3;
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(in.probe.is.dialect, DIALECT_MESSAGES);
    cr_assert_eq(in.probe.is.id, 42);
    cr_assert_eq(in.probe.is.config_size, 20);
    cr_assert_eq(in.probe.is.min_vqs, 1);
    cr_assert_eq(in.probe.is.max_vqs, 3);
    cr_assert_eq(in.probe.is.vqs, 3);
    cr_assert(in.probe.is.standalone);
    cr_assert_arr_eq(in.fe.config, in.model.config, 20);
    expect_log(&in, order, 9);
    cr_assert_eq(in.fe.waits, 5);
    cr_assert_eq(in.writes, 5, "%u writes", in.writes);
    interview_fini(&in);
}

/* Without MQ the fence is GET_FEATURES, and max vqs is what else is known. */
Test(probe, without_mq, .timeout = 10)
{
    for (int dialect = MODEL_SPECS; dialect <= MODEL_MESSAGES; dialect++) {
        struct interview in;

        interview_init(&in);
        in.model.protocol &= ~VU_PF_MQ;
        in.model.probe = (enum model_probe)dialect;
        in.model.min_vqs = 4;
        in.model.max_vqs = 7;
        cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
        cr_assert_eq(in.probe.is.vqs, dialect == MODEL_SPECS ? 7 : 4);
        cr_assert_eq(model_count(&in.model, VU_GET_QUEUE_NUM), 0);
        cr_assert_eq(model_count(&in.model, VU_GET_FEATURES), 2);
        cr_assert_eq(in.model.log[5].request, VU_GET_FEATURES);
        cr_assert(in.probe.is.standalone);
        interview_fini(&in);
    }
}

/* Three round trips, one more for a config space, one more for `messages`. */
Test(probe, round_trips, .timeout = 20)
{
    static const uint32_t sizes[] = { 0, 1, 256, 257, 4096 };

    for (unsigned i = 0; i < 5; i++) {
        for (int dialect = MODEL_SPECS; dialect <= MODEL_MESSAGES; dialect++) {
            struct interview in;
            unsigned want = dialect == MODEL_MESSAGES ? 4 : 3;
            unsigned pieces = (sizes[i] + 255) / 256;

            want += sizes[i] > 0;
            interview_init(&in);
            in.model.probe = (enum model_probe)dialect;
            in.model.config_size = sizes[i];
            cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
            cr_assert_eq(in.fe.waits, want, "%u round trips, not %u",
                         in.fe.waits, want);
            cr_assert_eq(in.writes, want, "%u writes, not %u", in.writes, want);
            cr_assert_eq(model_count(&in.model, VU_GET_CONFIG), pieces);
            cr_assert_arr_eq(in.fe.config, in.model.config, sizes[i]);
            interview_fini(&in);
        }
    }
}

/* A descriptor is one write more, whatever else is asked is not. */
Test(probe, all_that_is_served, .timeout = 10)
{
    uint64_t served = VU_PF_MQ | VU_PF_REPLY_ACK | VU_PF_BACKEND_REQ |
                      VU_PF_CONFIG | VU_PF_RESET_DEVICE |
                      VU_PF_CONFIGURE_MEM_SLOTS | VU_PF_STATUS;
    const struct model_entry *entry;
    struct interview in;
    int fd = eventfd(0, EFD_CLOEXEC);

    interview_init(&in);
    in.model.protocol = served | VU_PF_STANDALONE;
    in.probe.backend_req_fd = fd;
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(in.fe.acked, served);
    cr_assert_eq(in.model.protocol_accepted, served | VU_PF_STANDALONE);
    entry = model_last(&in.model, VU_SET_BACKEND_REQ_FD);
    cr_assert_not_null(entry);
    cr_assert_eq(entry->n_fds, 1);
    cr_assert_eq(in.fe.max_slots, 8);
    cr_assert_eq(in.fe.waits, 4);
    cr_assert_eq(in.writes, 5);
    interview_fini(&in);
    close(fd);
}

/* Of 64 bits that are offered only those are taken whose messages are served,
 * and 21 never. */
Test(probe, protocol_features, .timeout = 20)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t mask = UINT64_C(1) << bit;
        bool serves = mask & (FRONTEND_PROTOCOL | VU_PF_STANDALONE) &&
                      mask != VU_PF_BACKEND_REQ;
        struct interview in;

        interview_init(&in);
        in.model.protocol = VU_PF_STANDALONE | mask;
        in.model.config_size = 0;
        cr_assert_eq(interview_run(&in), 0, "bit %u: %s", bit, in.fe.err.text);
        cr_assert_eq(in.model.protocol_accepted,
                     VU_PF_STANDALONE | (serves ? mask : 0),
                     "bit %u gave 0x%llx", bit,
                     (unsigned long long)in.model.protocol_accepted);
        cr_assert_eq(model_count(&in.model, VU_SET_BACKEND_REQ_FD), 0);
        interview_fini(&in);
    }
    {
        struct interview in;

        interview_init(&in);
        in.model.protocol = UINT64_MAX;
        cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
        cr_assert_eq(in.model.protocol_accepted,
                     (FRONTEND_PROTOCOL & ~VU_PF_BACKEND_REQ) |
                         VU_PF_STANDALONE);
        interview_fini(&in);
    }
}

/* Without bit 30 there are no protocol features at all. */
Test(probe, without_bit_30, .timeout = 10)
{
    static const uint32_t order[] = { VU_SET_OWNER, VU_GET_FEATURES };
    struct interview in;

    interview_init(&in);
    in.model.features &= ~VHOST_F_PROTOCOL_FEATURES;
    in.probe.given.has_id = in.probe.given.has_vqs = true;
    in.probe.given.id = 5;
    in.probe.given.vqs = 3;
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    expect_log(&in, order, 2);
    cr_assert_eq(in.fe.acked, 0);
    cr_assert_eq(in.probe.is.id, 5);
    cr_assert_eq(in.probe.is.vqs, 3);
    cr_assert_not(in.probe.is.standalone);
    cr_assert_eq(in.fe.waits, 1);
    interview_fini(&in);
}

/* Bit 18 is not there: 41 is never sent, and never the bit. */
Test(probe, traditional, .timeout = 10)
{
    struct interview in;

    interview_init(&in);
    in.model.protocol &= ~VU_PF_STANDALONE;
    in.probe.given.has_id = in.probe.given.has_config_size = true;
    in.probe.given.id = 9;
    in.probe.given.config_size = 20;
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(model_count(&in.model, VU_GET_BACKEND_SPECS), 0);
    cr_assert_eq(model_count(&in.model, VU_SET_PROTOCOL_FEATURES), 1);
    cr_assert_eq(in.model.protocol_accepted, in.model.protocol);
    cr_assert_eq(in.probe.is.dialect, DIALECT_NONE);
    cr_assert_eq(in.probe.is.id, 9);
    cr_assert_eq(in.probe.is.vqs, 2, "not GET_QUEUE_NUM's");
    cr_assert_arr_eq(in.fe.config, in.model.config, 20);
    cr_assert_not(in.probe.is.standalone);
    cr_assert_eq(in.fe.waits, 3, "%u round trips", in.fe.waits);
    interview_fini(&in);
}

Test(probe, off, .timeout = 10)
{
    struct interview in;

    interview_init(&in);
    in.probe.given.mode = PROBE_OFF;
    in.probe.given.has_id = true;
    in.probe.given.id = 9;
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(model_count(&in.model, VU_GET_BACKEND_SPECS), 0);
    cr_assert_eq(in.model.protocol_accepted,
                 in.model.protocol & ~VU_PF_STANDALONE);
    /* CONFIG is offered and no size was given: a line says so */
    cr_assert_not_null(strstr(in.probe.note, "config-size="), "%s",
                       in.probe.note);
    cr_assert_eq(in.probe.is.config_size, 0);
    interview_fini(&in);
}

/* The size of its answer tells who speaks. */
Test(probe, answer_sizes, .timeout = 20)
{
    static const struct {
        size_t size;
        enum dialect dialect;
    } sizes[] = {
        { 0, DIALECT_NONE },     { 1, DIALECT_NONE },     { 3, DIALECT_NONE },
        { 4, DIALECT_MESSAGES }, { 5, DIALECT_NONE },     { 8, DIALECT_NONE },
        { 12, DIALECT_NONE },    { 15, DIALECT_NONE },    { 16, DIALECT_SPECS },
        { 17, DIALECT_SPECS },   { 20, DIALECT_SPECS },   { 24, DIALECT_SPECS },
        { 4095, DIALECT_SPECS }, { 4096, DIALECT_SPECS },
    };

    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned mode = PROBE_AUTO; mode <= PROBE_MESSAGES; mode++) {
            enum dialect dialect = sizes[i].dialect;
            struct interview in;
            bool fits;
            int rc;

            interview_init(&in);
            in.model.probe = MODEL_BYTES;
            in.model.probe_size = sizes[i].size;
            in.probe.given.mode = (enum probe_mode)mode;
            in.probe.given.has_id = true;
            in.probe.given.id = 42;
            rc = interview_run(&in);
            fits = mode == PROBE_AUTO ||
                   (mode == PROBE_SPECS && dialect == DIALECT_SPECS) ||
                   (mode == PROBE_MESSAGES && dialect == DIALECT_MESSAGES);
            if (fits) {
                cr_assert_eq(rc, 0, "%zu bytes: %s", sizes[i].size,
                             in.fe.err.text);
                cr_assert_eq(in.probe.is.dialect, dialect, "%zu bytes: %d",
                             sizes[i].size, in.probe.is.dialect);
                cr_assert_eq(in.probe.is.id, 42);
            } else {
                cr_assert_eq(rc, -EPROTO, "%zu bytes, mode %u: %d",
                             sizes[i].size, mode, rc);
                cr_assert_not_null(strstr(in.fe.err.text, "probe="), "%s",
                                   in.fe.err.text);
                cr_assert_not(probe_again(&in.probe));
            }
            cr_assert_eq(model_count(&in.model, VU_GET_CONFIG_SIZE),
                         fits && dialect == DIALECT_MESSAGES,
                         "42 after an answer of %zu bytes", sizes[i].size);
            cr_assert_eq(in.timeouts, 0);
            interview_fini(&in);
        }
    }
}

/* What ignores 41, or answers it otherwise, is used without a probe: no
 * deadline is spent, and the bit is taken back. */
Test(probe, no_probe_comes_out, .timeout = 20)
{
    for (unsigned mq = 0; mq < 2; mq++) {
        for (unsigned refuses = 0; refuses < 2; refuses++) {
            struct interview in;

            interview_init(&in);
            in.model.probe = refuses ? MODEL_BYTES : MODEL_IGNORES;
            if (!mq)
                in.model.protocol &= ~VU_PF_MQ;
            in.probe.given.has_id = in.probe.given.has_vqs = true;
            in.probe.given.has_config_size = true;
            in.probe.given.id = 26;
            in.probe.given.vqs = 2;
            in.probe.given.config_size = 20;
            cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
            cr_assert_eq(in.timeouts, 0);
            cr_assert_eq(in.probe.is.dialect, DIALECT_NONE);
            cr_assert_eq(model_count(&in.model, VU_SET_PROTOCOL_FEATURES), 2);
            cr_assert_eq(in.model.protocol_accepted,
                         in.model.protocol & ~VU_PF_STANDALONE);
            cr_assert_eq(in.probe.is.id, 26);
            cr_assert_eq(in.probe.is.vqs, 2);
            cr_assert_eq(in.probe.is.config_size, 20);
            cr_assert_arr_eq(in.fe.config, in.model.config, 20);
            cr_assert_not(in.probe.is.standalone);
            cr_assert_leq(in.fe.waits, 4);
            /* a later connection does not try again */
            interview_again(&in);
            cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
            cr_assert_eq(model_count(&in.model, VU_GET_BACKEND_SPECS), 0);
            cr_assert_eq(model_count(&in.model, VU_SET_PROTOCOL_FEATURES), 1);
            cr_assert_eq(in.model.protocol_accepted,
                         in.model.protocol & ~VU_PF_STANDALONE);
            interview_fini(&in);
        }
    }
}

/* What hangs up or falls silent at 41 is connected to again, and only then. */
Test(probe, hang_up_and_silence, .timeout = 20)
{
    for (int probe = MODEL_HANGS_UP; probe <= MODEL_SILENT; probe++) {
        for (unsigned mode = PROBE_AUTO; mode <= PROBE_MESSAGES; mode++) {
            int want = probe == MODEL_HANGS_UP ? -EPIPE : -ETIMEDOUT;
            struct interview in;

            interview_init(&in);
            in.model.probe = (enum model_probe)probe;
            in.probe.given.mode = (enum probe_mode)mode;
            in.probe.given.has_id = true;
            in.probe.given.id = 26;
            cr_assert_eq(interview_run(&in), want, "%s", in.fe.err.text);
            cr_assert_not_null(strstr(in.fe.err.text, "41"), "%s",
                               in.fe.err.text);
            cr_assert_eq(probe_again(&in.probe), mode == PROBE_AUTO);
            if (mode == PROBE_AUTO) {
                interview_again(&in);
                cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
                cr_assert_eq(model_count(&in.model, VU_GET_BACKEND_SPECS), 0);
                cr_assert_eq(in.model.protocol_accepted,
                             in.model.protocol & ~VU_PF_STANDALONE);
                cr_assert_eq(in.probe.is.id, 26);
            }
            cr_assert_not(probe_again(&in.probe), "a third connection");
            interview_fini(&in);
        }
    }
}

static void hang_up_instead(struct model *m, struct model_reply *reply)
{
    (void)m;
    reply->cut = 0;
}

/* A hang-up at any other request is not the probe's fault. */
Test(probe, hang_up_elsewhere, .timeout = 20)
{
    static const uint32_t requests[] = {
        VU_GET_FEATURES,  VU_GET_PROTOCOL_FEATURES,
        VU_GET_QUEUE_NUM, VU_GET_CONFIG_SIZE,
        VU_GET_MIN_VQ,    VU_GET_CONFIG,
    };

    for (unsigned i = 0; i < 6; i++) {
        struct interview in;

        interview_init(&in);
        in.model.probe = MODEL_MESSAGES;
        in.model.bend_request = requests[i];
        in.model.bend = hang_up_instead;
        cr_assert_eq(interview_run(&in), -EPIPE, "request %u: %s", requests[i],
                     in.fe.err.text);
        cr_assert_not(probe_again(&in.probe), "again at request %u",
                      requests[i]);
        interview_fini(&in);
    }
}

/* An answer that is no probe, and then a hang-up at the fence: still 41's
 * doing. */
Test(probe, refusal_and_hang_up, .timeout = 10)
{
    struct interview in;

    interview_init(&in);
    in.model.probe = MODEL_BYTES;
    in.model.bend_request = VU_GET_QUEUE_NUM;
    in.model.bend = hang_up_instead;
    in.probe.given.has_id = true;
    in.probe.given.id = 26;
    cr_assert_eq(interview_run(&in), -EPIPE, "%s", in.fe.err.text);
    cr_assert(probe_again(&in.probe));
    in.model.bend = NULL;
    interview_again(&in);
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(model_count(&in.model, VU_GET_BACKEND_SPECS), 0);
    interview_fini(&in);
}

/* The rule. What is given is checked, what is not is taken. */
Test(probe, rule, .timeout = 20)
{
    static const struct {
        const char *given; /* i: id, q: queues, c: config size */
        uint32_t id, vqs, config_size;
        bool answers;
        int rc;
        const char *says[2]; /* both sides */
    } rows[] = {
        { "", 0, 0, 0, true, 0, { "", "" } },
        { "", 0, 0, 0, false, -ENODEV, { "id=N", "bit 18" } },
        { "q", 0, 2, 0, false, -ENODEV, { "id=N", "config-size=N" } },
        { "i", 42, 0, 0, false, 0, { "", "" } },
        { "iqc", 42, 3, 20, false, 0, { "", "" } },
        { "iqc", 42, 3, 20, true, 0, { "", "" } },
        { "i", 42, 0, 0, true, 0, { "", "" } },
        { "i", 43, 0, 0, true, -EINVAL, { "43", "42" } },
        { "i", 1, 0, 0, true, -EINVAL, { "id=1", "42" } },
        { "q", 0, 1, 0, true, -EINVAL, { "vqs=1", "2 to 4" } },
        { "q", 0, 2, 0, true, 0, { "", "" } },
        { "q", 0, 3, 0, true, 0, { "", "" } },
        { "q", 0, 4, 0, true, 0, { "", "" } },
        { "q", 0, 5, 0, true, -EINVAL, { "vqs=5", "2 to 4" } },
        { "q", 0, 256, 0, true, -EINVAL, { "vqs=256", "2 to 4" } },
        { "c", 0, 0, 20, true, 0, { "", "" } },
        { "c", 0, 0, 19, true, -EINVAL, { "config-size=19", "20" } },
        { "c", 0, 0, 0, true, -EINVAL, { "config-size=0", "20" } },
        { "c", 0, 0, 4096, true, -EINVAL, { "config-size=4096", "20" } },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct interview in;
        struct probe_given *given = &in.probe.given;

        for (int dialect = MODEL_SPECS; dialect <= MODEL_MESSAGES; dialect++) {
            interview_init(&in);
            in.model.probe =
                rows[i].answers ? (enum model_probe)dialect : MODEL_IGNORES;
            in.model.min_vqs = 2;
            in.model.max_vqs = 4;
            in.model.queue_num = 4;
            given->has_id = strchr(rows[i].given, 'i') != NULL;
            given->has_vqs = strchr(rows[i].given, 'q') != NULL;
            given->has_config_size = strchr(rows[i].given, 'c') != NULL;
            given->id = rows[i].id;
            given->vqs = rows[i].vqs;
            given->config_size = rows[i].config_size;
            cr_assert_eq(interview_run(&in), rows[i].rc, "row %u: %s", i,
                         in.fe.err.text);
            for (unsigned k = 0; k < 2 && rows[i].rc; k++)
                cr_assert_not_null(strstr(in.fe.err.text, rows[i].says[k]),
                                   "row %u: no '%s' in: %s", i, rows[i].says[k],
                                   in.fe.err.text);
            if (rows[i].rc == 0) {
                cr_assert_eq(in.probe.is.id, 42);
                cr_assert_eq(in.probe.is.vqs, given->has_vqs ? given->vqs : 4u);
                cr_assert_eq(in.probe.is.config_size,
                             rows[i].answers || given->has_config_size ? 20u
                                                                       : 0u);
            }
            cr_assert_not(probe_again(&in.probe));
            interview_fini(&in);
        }
    }
}

/* Without MQ, vqs= is needed too. */
Test(probe, what_is_needed, .timeout = 10)
{
    struct interview in;

    for (unsigned has = 0; has < 4; has++) {
        interview_init(&in);
        in.model.protocol &= ~(VU_PF_MQ | VU_PF_STANDALONE);
        in.probe.given.has_id = has & 1;
        in.probe.given.has_vqs = has & 2;
        in.probe.given.id = in.probe.given.vqs = 1;
        cr_assert_eq(interview_run(&in), has == 3 ? 0 : -ENODEV);
        if (has != 3) {
            cr_assert_eq(strstr(in.fe.err.text, "id=N") != NULL, !(has & 1),
                         "%s", in.fe.err.text);
            cr_assert_eq(strstr(in.fe.err.text, "vqs=N") != NULL, !(has & 2),
                         "%s", in.fe.err.text);
            cr_assert_null(strstr(in.fe.err.text, "bit 18"), "%s",
                           in.fe.err.text);
        }
        interview_fini(&in);
    }
    for (unsigned mode = PROBE_SPECS; mode <= PROBE_MESSAGES; mode++) {
        interview_init(&in);
        in.model.protocol &= ~VU_PF_STANDALONE;
        in.probe.given.has_id = true;
        in.probe.given.id = 1;
        in.probe.given.mode = (enum probe_mode)mode;
        cr_assert_eq(interview_run(&in), -ENODEV);
        cr_assert_not_null(strstr(in.fe.err.text, "bit 18"));
        interview_fini(&in);
    }
}

/* Numbers of queues and bytes that no device has. */
Test(probe, numbers_out_of_range, .timeout = 20)
{
    static const struct {
        bool messages, no_mq;
        uint32_t min, max;
        uint64_t queue_num;
        uint32_t config_size, id;
        int rc;
    } rows[] = {
        { false, true, 0, 0, 0, 20, 42, -EPROTO },
        { false, true, 0, 1, 0, 20, 42, 0 },
        { false, true, 1, 256, 0, 20, 42, 0 },
        { false, true, 1, 257, 0, 20, 42, -EPROTO },
        { false, true, 1, 0x10001, 0, 20, 42, -EPROTO },
        { false, true, 1, 0x10000001, 0, 20, 42, -EPROTO },
        { false, true, 1, 0xffffffff, 0, 20, 42, -EPROTO },
        { false, true, 3, 2, 0, 20, 42, -EPROTO },
        { false, true, 0xffffffff, 2, 0, 20, 42, -EPROTO },
        { false, true, 0xffffffff, 0xffffffff, 0, 20, 42, -EPROTO },
        { false, true, 256, 256, 0, 20, 42, 0 },
        { false, false, 1, 4, 0, 20, 42, -EPROTO },
        { false, false, 1, 4, 257, 20, 42, -EPROTO },
        { false, false, 1, 4, 0x10001, 20, 42, -EPROTO },
        { false, false, 1, 4, 0xffffffff, 20, 42, -EPROTO },
        { false, false, 1, 4, UINT64_C(0x100000004), 20, 42, -EPROTO },
        { false, false, 1, 4, UINT64_MAX, 20, 42, -EPROTO },
        { false, false, 3, 4, 2, 20, 42, -EPROTO },
        { true, false, 1, 0, 0, 20, 42, -EPROTO },
        { true, false, 1, 0, 257, 20, 42, -EPROTO },
        { true, false, 1, 0, UINT64_C(0x100000001), 20, 42, -EPROTO },
        { true, false, 5, 0, 4, 20, 42, -EPROTO },
        { true, false, 4, 0, 4, 20, 42, 0 },
        { true, true, 0, 0, 0, 20, 42, -EPROTO },
        { true, true, 1, 0, 0, 20, 42, 0 },
        { true, true, 257, 0, 0, 20, 42, -EPROTO },
        { true, true, 0x10001, 0, 0, 20, 42, -EPROTO },
        { true, true, 0xffffffff, 0, 0, 20, 42, -EPROTO },
        { false, false, 1, 2, 2, 4096, 42, 0 },
        { false, false, 1, 2, 2, 4097, 42, -EPROTO },
        { false, false, 1, 2, 2, 0x10010, 42, -EPROTO },
        { false, false, 1, 2, 2, 0xffffff00, 42, -EPROTO },
        { false, false, 1, 2, 2, 0xffffffff, 42, -EPROTO },
        { true, false, 1, 2, 2, 4097, 42, -EPROTO },
        { true, false, 1, 2, 2, 0xffffffff, 42, -EPROTO },
        { false, false, 1, 2, 2, 20, 0, -EPROTO },
        { false, false, 1, 2, 2, 20, 0xffffffff, 0 },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct interview in;

        interview_init(&in);
        in.model.probe = rows[i].messages ? MODEL_MESSAGES : MODEL_SPECS;
        if (rows[i].no_mq)
            in.model.protocol &= ~VU_PF_MQ;
        in.model.min_vqs = rows[i].min;
        in.model.max_vqs = rows[i].max;
        in.model.queue_num = rows[i].queue_num;
        in.model.config_size = rows[i].config_size;
        in.model.id = rows[i].id;
        cr_assert_eq(interview_run(&in), rows[i].rc, "row %u: %s", i,
                     in.fe.err.text);
        if (rows[i].rc)
            cr_assert_not(probe_again(&in.probe));
        interview_fini(&in);
    }
}

/* Two answers to one question, both in range. */
Test(probe, queue_numbers_disagree, .timeout = 10)
{
    static const struct {
        uint32_t max;
        uint64_t queue_num;
    } rows[] = { { 4, 3 }, { 3, 4 }, { 256, 2 }, { 2, 256 } };

    for (unsigned i = 0; i < 4; i++) {
        char number[2][8];
        struct interview in;

        interview_init(&in);
        in.model.max_vqs = rows[i].max;
        in.model.queue_num = rows[i].queue_num;
        cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
        cr_assert_eq(in.probe.is.vqs, rows[i].max < rows[i].queue_num
                                          ? rows[i].max
                                          : rows[i].queue_num);
        snprintf(number[0], sizeof number[0], "%u", rows[i].max);
        snprintf(number[1], sizeof number[1], "%u",
                 (unsigned)rows[i].queue_num);
        cr_assert_not_null(strstr(in.probe.note, number[0]), "%s",
                           in.probe.note);
        cr_assert_not_null(strstr(in.probe.note, number[1]), "%s",
                           in.probe.note);
        interview_fini(&in);
    }
}

/* What stands alone, and where the config space comes from. */
Test(probe, stands_alone, .timeout = 10)
{
    static const uint8_t bytes[20] = { 1, 2, 3 };
    struct interview in;

    for (unsigned bits = 0; bits < 8; bits++) {
        bool status = bits & 1, config = bits & 2, empty = bits & 4;

        interview_init(&in);
        if (!status)
            in.model.protocol &= ~VU_PF_STATUS;
        if (!config)
            in.model.protocol &= ~VU_PF_CONFIG;
        if (empty)
            in.model.config_size = 0;
        cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
        cr_assert_eq(in.probe.is.standalone, status && (config || empty),
                     "status %d, config %d, empty %d", status, config, empty);
        cr_assert_eq(in.probe.note[0] != 0, !config && !empty);
        cr_assert_eq(in.probe.is.config_size, config && !empty ? 20u : 0u);
        interview_fini(&in);
    }
    /* no CONFIG: config= stands in, and must fit what was said */
    interview_init(&in);
    in.model.protocol &= ~VU_PF_CONFIG;
    in.probe.given.has_config_size = true;
    in.probe.given.config_size = 20;
    in.probe.given.config = bytes;
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(in.probe.is.config_size, 20);
    cr_assert_arr_eq(in.fe.config, bytes, 20);
    cr_assert_not(in.probe.is.standalone);
    interview_fini(&in);
    /* where CONFIG is offered it is an error */
    interview_init(&in);
    in.probe.given.has_config_size = true;
    in.probe.given.config_size = 20;
    in.probe.given.config = bytes;
    cr_assert_eq(interview_run(&in), -EINVAL);
    cr_assert_not_null(strstr(in.fe.err.text, "config="));
    interview_fini(&in);
    /* and a size alone, without either, is one too */
    for (unsigned probes = 0; probes < 2; probes++) {
        interview_init(&in);
        in.model.protocol &= ~(VU_PF_CONFIG | VU_PF_STANDALONE);
        if (probes) {
            in.model.protocol |= VU_PF_STANDALONE;
            in.model.probe = MODEL_IGNORES;
        }
        in.probe.given.has_id = in.probe.given.has_config_size = true;
        in.probe.given.id = 26;
        in.probe.given.config_size = 20;
        cr_assert_eq(interview_run(&in), -EINVAL, "%s", in.fe.err.text);
        cr_assert_not_null(strstr(in.fe.err.text, "config=HEX"));
        interview_fini(&in);
    }
}

Test(probe, refused_at_the_handshake, .timeout = 10)
{
    struct interview in;

    interview_init(&in);
    in.model.features &= ~VIRTIO_F_VERSION_1;
    cr_assert_eq(interview_run(&in), -ENODEV);
    cr_assert_not_null(strstr(in.fe.err.text, "VERSION_1"));
    cr_assert_eq(in.model.n_log, 2);
    interview_fini(&in);
}

/* A back-end that comes back is asked the same, and its answers are new. */
Test(probe, again_from_the_start, .timeout = 10)
{
    struct interview in;

    interview_init(&in);
    cr_assert_eq(interview_run(&in), 0);
    in.model.config[3] ^= 0xff;
    in.model.config_size = 24;
    interview_again(&in);
    cr_assert_eq(in.fe.acked, 0);
    cr_assert_eq(interview_run(&in), 0, "%s", in.fe.err.text);
    cr_assert_eq(in.probe.is.dialect, DIALECT_SPECS);
    cr_assert_eq(in.fe.is->config_size, 24);
    cr_assert_arr_eq(in.fe.config, in.model.config, 24);
    interview_fini(&in);
}
