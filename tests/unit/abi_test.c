/*
 * Structs between programs and libraries of different versions: what is taken,
 * what is filled, and that nothing beyond the caller's size is touched.
 */
#include "vmm/abi.h"

#include <errno.h>
#include <ev.h>
#include <stdint.h>
#include <string.h>

#include <criterion/criterion.h>

#define GUARD 0xa5u
#define EXTRA 24u

/* A struct of this library, and room for that of a newer program. */
struct known {
    size_t size;
    uint64_t a, b;
};

union space {
    struct known known;
    uint8_t bytes[sizeof(struct known) + EXTRA];
};

Test(abi, takes_any_size_from_size_t_up)
{
    union space given;
    struct known out;
    struct husk_err err;

    memset(&given, 0xff, sizeof given);
    for (size_t size = 0; size < sizeof(size_t); size++) {
        given.known.size = size;
        memset(&err, 0, sizeof err);
        cr_assert_eq(abi_take(&out, sizeof out, &given, "known", &err),
                     -EINVAL);
        cr_assert_eq(err.code, -EINVAL);
        cr_assert_not_null(strstr(err.text, "known.size"), "%s", err.text);
        cr_assert_eq(abi_take(&out, sizeof out, &given, "known", NULL),
                     -EINVAL);
    }
    /* shorter: the rest is zero, whatever lies behind the caller's */
    for (size_t size = sizeof(size_t); size <= sizeof out; size++) {
        given.known.size = size;
        memset(&out, GUARD, sizeof out);
        cr_assert_eq(abi_take(&out, sizeof out, &given, "known", NULL), 0);
        for (size_t i = sizeof(size_t); i < sizeof out; i++)
            cr_assert_eq(((uint8_t *)&out)[i], i < size ? 0xff : 0,
                         "size %zu, byte %zu", size, i);
    }
}

Test(abi, takes_a_longer_one_whose_rest_is_zero)
{
    union space given;
    struct known out;
    struct husk_err err;

    for (size_t more = 1; more <= EXTRA; more++) {
        memset(&given, 0, sizeof given);
        given.known.size = sizeof out + more;
        given.known.a = 1;
        given.known.b = 2;
        /* not the caller's any more */
        if (more < EXTRA)
            given.bytes[sizeof out + more] = 1;
        cr_assert_eq(abi_take(&out, sizeof out, &given, "known", &err), 0);
        cr_assert_eq(out.a, 1);
        cr_assert_eq(out.b, 2);
        /* each byte that is not known */
        for (size_t at = 0; at < more; at++) {
            given.bytes[sizeof out + at] = 0x80;
            cr_assert_eq(abi_take(&out, sizeof out, &given, "known", &err),
                         -E2BIG);
            cr_assert_eq(err.code, -E2BIG);
            cr_assert_not_null(strstr(err.text, "newer"), "%s", err.text);
            given.bytes[sizeof out + at] = 0;
        }
    }
}

/* Bytes up to end are as in from, zeros up to size, and guards after that. */
static void check_filled(const uint8_t *out, size_t skip, size_t size,
                         const uint8_t *from, size_t known, size_t all)
{
    for (size_t i = skip; i < all; i++)
        cr_assert_eq(out[i],
                     i >= size    ? GUARD
                     : i >= known ? 0
                                  : from[i],
                     "size %zu, byte %zu: %02x", size, i, out[i]);
}

Test(abi, fills_no_more_than_there_is)
{
    struct known from = { .size = sizeof from, .a = ~0ull, .b = ~0ull };
    union space out;

    for (size_t size = 0; size <= sizeof out; size++) {
        memset(&out, GUARD, sizeof out);
        cr_assert_eq(abi_fill(&out, size, &from, sizeof from),
                     size < sizeof(size_t) ? -EINVAL : 0);
        check_filled(out.bytes, 0, size < sizeof(size_t) ? 0 : size,
                     (uint8_t *)&from, sizeof from, sizeof out);

        memset(&out, GUARD, sizeof out);
        out.known.size = size;
        cr_assert_eq(abi_answer(&out, &from, sizeof from),
                     size < sizeof(size_t) ? -EINVAL : 0);
        cr_assert_eq(out.known.size, size);
        if (size >= sizeof(size_t))
            check_filled(out.bytes, sizeof(size_t), size, (uint8_t *)&from,
                         sizeof from, sizeof out);
    }
}

/* A VM that was never started, for the calls themselves. */
struct subject {
    struct ev_loop *loop;
    struct husk_vm *vm;
};

static void make(struct subject *subject)
{
    struct husk_config config = { .size = sizeof config };

    subject->loop = ev_loop_new(0);
    cr_assert_eq(husk_vm_create(&subject->vm, subject->loop, &config, NULL), 0);
    cr_assert_eq(husk_vm_add_device(subject->vm, "/x", NULL), 0);
}

static void unmake(struct subject *subject)
{
    husk_vm_destroy(subject->vm);
    ev_loop_destroy(subject->loop);
}

#define MAX_STRUCT 512u

/* A call that fills a struct which begins with its size. */
static void check_call(const struct subject *subject,
                       int (*call)(const struct husk_vm *vm, void *out),
                       size_t known)
{
    union {
        size_t size;
        uint8_t bytes[MAX_STRUCT];
    } whole, out;

    memset(&whole, GUARD, sizeof whole);
    whole.size = known;
    cr_assert_eq(call(subject->vm, &whole), 0);
    for (size_t size = 0; size < known + EXTRA; size++) {
        memset(&out, GUARD, sizeof out);
        out.size = size;
        cr_assert_eq(call(subject->vm, &out),
                     size < sizeof(size_t) ? -EINVAL : 0);
        cr_assert_eq(out.size, size);
        check_filled(out.bytes, sizeof(size_t),
                     size < sizeof(size_t) ? sizeof(size_t) : size, whole.bytes,
                     known, sizeof out);
    }
}

static int ask_device(const struct husk_vm *vm, void *out)
{
    return husk_vm_device(vm, 0, out);
}

static int ask_stats(const struct husk_vm *vm, void *out)
{
    return husk_vm_stats(vm, out);
}

Test(abi, device_and_stats)
{
    struct husk_device info = { .size = sizeof info };
    struct subject subject;

    make(&subject);
    check_call(&subject, ask_device, sizeof(struct husk_device));
    check_call(&subject, ask_stats, sizeof(struct husk_stats));
    cr_assert_eq(husk_vm_device(subject.vm, 0, &info), 0);
    cr_assert_str_eq(info.name, "virtio0");
    cr_assert_str_eq(info.probe, "none");
    cr_assert(!info.known);
    unmake(&subject);
}

/* Moments in an array of a newer program's, and of an older one's. */
Test(abi, moments)
{
    struct subject subject;
    uint8_t bytes[3 * MAX_STRUCT];
    struct husk_moment moment;

    make(&subject);
    cr_assert_eq(husk_vm_probe(subject.vm, NULL), -ENOENT); /* "start" */
    for (size_t size = 0; size < sizeof moment + EXTRA; size++) {
        ssize_t n;

        memset(bytes, GUARD, sizeof bytes);
        n = husk_vm_timeline(subject.vm, (void *)bytes, size, 2);
        cr_assert_eq(n, size < sizeof(size_t) ? -EINVAL : 2, "%zd", n);
        for (size_t i = 0; i < 2 && n > 0; i++) {
            memset(&moment, 0, sizeof moment);
            memcpy(&moment, bytes + i * size,
                   size < sizeof moment ? size : sizeof moment);
            cr_assert_str_eq(moment.name, i ? "start" : "create");
            if (size >= sizeof moment)
                cr_assert_eq(moment.device, -1);
            for (size_t k = sizeof moment; k < size; k++)
                cr_assert_eq(bytes[i * size + k], 0);
        }
        for (size_t k = n > 0 ? 2 * size : 0; k < sizeof bytes; k++)
            cr_assert_eq(bytes[k], GUARD, "size %zu, byte %zu", size, k);
    }
    /* as many as there is room for */
    memset(bytes, GUARD, sizeof bytes);
    cr_assert_eq(husk_vm_timeline(subject.vm, (void *)bytes, sizeof moment, 1),
                 2);
    cr_assert_eq(bytes[sizeof moment], GUARD);
    cr_assert_eq(husk_vm_timeline(subject.vm, NULL, sizeof moment, 0), 2);
    unmake(&subject);
}

/* A newer program's configuration, and an older one's. */
Test(abi, config)
{
    struct {
        struct husk_config config;
        uint64_t newer;
    } given = { .config = { .size = sizeof given, .cpus = 65 } };
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_err err;
    struct husk_vm *vm;

    given.newer = 1;
    cr_assert_eq(husk_vm_create(&vm, loop, &given.config, &err), -E2BIG);
    cr_assert_null(vm);
    cr_assert_not_null(strstr(err.text, "husk_config"), "%s", err.text);
    given.newer = 0; /* now it is looked at: there are no 65 vCPUs */
    cr_assert_eq(husk_vm_create(&vm, loop, &given.config, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "65 vCPUs"), "%s", err.text);
    given.config.size = offsetof(struct husk_config, cpus);
    cr_assert_eq(husk_vm_create(&vm, loop, &given.config, &err), 0);
    husk_vm_destroy(vm);
    given.config.size = 0;
    cr_assert_eq(husk_vm_create(&vm, loop, &given.config, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "sizeof"), "%s", err.text);
    given.config = (struct husk_config){ .size = sizeof given.config,
                                         .reserved = { 0, 1 } };
    cr_assert_eq(husk_vm_create(&vm, loop, &given.config, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "reserved"), "%s", err.text);
    ev_loop_destroy(loop);
}

/* A field that an older library's struct does not reach. */
Test(abi, has)
{
    struct husk_end end = { .size = offsetof(struct husk_end, guest_value) };

    cr_assert(HUSK_HAS(&end, outcome));
    cr_assert(HUSK_HAS(&end, status));
    cr_assert(!HUSK_HAS(&end, guest_value));
    end.size += sizeof end.guest_value - 1;
    cr_assert(!HUSK_HAS(&end, guest_value));
    end.size++;
    cr_assert(HUSK_HAS(&end, guest_value));
    cr_assert(!HUSK_HAS(&end, text));
    end.size = sizeof end;
    cr_assert(HUSK_HAS(&end, text));
}
