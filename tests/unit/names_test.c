/* Names: the ones that people know, and none for what nobody has named. */
#include "devices/names.h"

#include <string.h>

#include <criterion/criterion.h>

#include "devices/vhost_user.h"

Test(names, requests, .timeout = 10)
{
    cr_assert_str_eq(names_request(VU_GET_CONFIG), "GET_CONFIG");
    cr_assert_str_eq(names_request(VU_SET_VRING_KICK), "SET_VRING_KICK");
    cr_assert_str_eq(names_request(VU_GET_STATUS), "GET_STATUS");
    /* the probe by its number: it has two names */
    cr_assert_not_null(strstr(names_request(VU_GET_BACKEND_SPECS), "41"));
    /* something for every number */
    for (uint32_t i = 0; i < 1000; i++)
        cr_assert_gt(strlen(names_request(i)), 2u);
    cr_assert_gt(strlen(names_request(0xffffffff)), 2u);
    cr_assert_str_eq(names_request(0xffffffff), names_request(0));
}

Test(names, devices, .timeout = 10)
{
    cr_assert_str_eq(names_device(1), "network");
    cr_assert_str_eq(names_device(2), "block");
    cr_assert_str_eq(names_device(4), "entropy");
    cr_assert_str_eq(names_device(26), "file system");
    cr_assert_null(names_device(0));
    cr_assert_null(names_device(14));
    cr_assert_null(names_device(63));
    cr_assert_null(names_device(0x10001));
    cr_assert_null(names_device(0xffffffff));
}

/* Low bits mean something else to each type, those from 24 on do not. */
Test(names, features, .timeout = 10)
{
    cr_assert_str_eq(names_feature(2, 5), "RO");
    cr_assert_str_eq(names_feature(1, 5), "MAC");
    cr_assert_null(names_feature(63, 5));
    cr_assert_str_eq(names_feature(2, 32), "VERSION_1");
    cr_assert_str_eq(names_feature(0xffffffff, 32), "VERSION_1");
    cr_assert_str_eq(names_feature(63, 40), "RING_RESET");
    cr_assert_null(names_feature(2, 63));
    cr_assert_null(names_feature(2, 64));
    cr_assert_null(names_feature(2, 0xffffffff));
}

Test(names, protocol_features, .timeout = 10)
{
    cr_assert_str_eq(names_protocol(3), "REPLY_ACK");
    cr_assert_str_eq(names_protocol(16), "STATUS");
    cr_assert_not_null(strstr(names_protocol(18), "STANDALONE"));
    cr_assert_null(names_protocol(20));
    cr_assert_null(names_protocol(63));
    cr_assert_null(names_protocol(0xffffffff));
}
