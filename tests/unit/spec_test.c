/* A device's SPEC: what each key takes and refuses, commas, and exec=. */
#include "vmm/link/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "vmm/link/words.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct husk_err err;

static void parse(struct spec *spec, const char *text)
{
    cr_assert_eq(spec_parse(spec, text, 3, &err), 0, "%s: %s", text, err.text);
}

/* Refused, with a text that says so and what would be right. */
static void refuse(const char *text, const char *says)
{
    struct spec spec;

    err.text[0] = 0;
    cr_assert_eq(spec_parse(&spec, text, 3, &err), -EINVAL, "%.60s", text);
    cr_assert_eq(strncmp(err.text, "device 3: ", 10), 0, "%s", err.text);
    cr_assert_not_null(strstr(err.text, says), "%.60s: no '%s' in: %s", text,
                       says, err.text);
    spec_fini(&spec);
    spec_fini(&spec); /* safe to repeat */
    cr_assert_eq(spec_parse(&spec, text, 3, NULL), -EINVAL);
    spec_fini(&spec);
}

Test(spec, defaults, .timeout = 10)
{
    struct spec spec;

    parse(&spec, "/run/rng.sock");
    cr_assert_str_eq(spec.name, "virtio3");
    cr_assert_str_eq(spec.socket, "/run/rng.sock");
    cr_assert_null(spec.argv);
    cr_assert_eq(spec.given.queue_size, 256);
    cr_assert_float_eq(spec.deadline, 5, 1e-9);
    cr_assert_float_eq(spec.wait, 0, 1e-9);
    cr_assert_float_eq(spec.reconnect, 0, 1e-9);
    cr_assert_eq(spec.given.mode, PROBE_AUTO);
    cr_assert_not(spec.given.has_id || spec.given.has_vqs ||
                  spec.given.has_config_size || spec.given.config ||
                  spec.given.inband || spec.given.inflight);
    spec_fini(&spec);
    /* a path may hold anything but '=' */
    parse(&spec, "relative,path with spaces,,{fd}");
    cr_assert_str_eq(spec.socket, "relative,path with spaces,,{fd}");
    spec_fini(&spec);
}

Test(spec, every_key, .timeout = 10)
{
    struct spec spec;

    parse(&spec, "socket=/a,,b=c,id=26,vqs=3,config-size=2,config=00fF,"
                 "queue-size=1024,probe=messages,deadline=0.25,wait=1.5,"
                 "reconnect=90,inband=on,name=disk");
    cr_assert_str_eq(spec.socket, "/a,b=c");
    cr_assert(spec.given.has_id && spec.given.has_vqs &&
              spec.given.has_config_size);
    cr_assert_eq(spec.given.id, 26);
    cr_assert_eq(spec.given.vqs, 3);
    cr_assert_eq(spec.given.config_size, 2);
    cr_assert_arr_eq(spec.given.config, "\0\377", 2);
    cr_assert_eq(spec.given.queue_size, 1024);
    cr_assert_eq(spec.given.mode, PROBE_MESSAGES);
    cr_assert_float_eq(spec.deadline, 0.25, 1e-9);
    cr_assert_float_eq(spec.wait, 1.5, 1e-9);
    cr_assert_float_eq(spec.reconnect, 90, 1e-9);
    cr_assert(spec.given.inflight);
    cr_assert(spec.given.inband);
    cr_assert_str_eq(spec.name, "disk");
    spec_fini(&spec);
}

Test(spec, edges_that_are_taken, .timeout = 10)
{
    static const struct {
        const char *text;
        enum probe_mode mode;
    } modes[] = { { "probe=auto,socket=x", PROBE_AUTO },
                  { "probe=specs,socket=x", PROBE_SPECS },
                  { "probe=messages,socket=x", PROBE_MESSAGES },
                  { "probe=off,socket=x", PROBE_OFF } };
    struct spec spec;

    for (unsigned i = 0; i < COUNT(modes); i++) {
        parse(&spec, modes[i].text);
        cr_assert_eq(spec.given.mode, modes[i].mode);
        spec_fini(&spec);
    }
    parse(&spec, "socket=x,id=4294967295,vqs=256,config-size=4096,"
                 "queue-size=32768,deadline=0.001,wait=86400,"
                 "name=1234567890123456789012345678901");
    cr_assert_eq(spec.given.id, 0xffffffff);
    cr_assert_eq(spec.given.vqs, 256);
    cr_assert_eq(spec.given.config_size, 4096);
    cr_assert_eq(spec.given.queue_size, 32768);
    cr_assert_eq(strlen(spec.name), 31);
    spec_fini(&spec);
    parse(&spec, "socket=x,id=0x1a,vqs=1,config-size=0,queue-size=1,"
                 "reconnect=on,inband=off");
    cr_assert_eq(spec.given.id, 26);
    cr_assert_eq(spec.given.vqs, 1);
    cr_assert(spec.given.has_config_size);
    cr_assert(spec.given.has_id);
    cr_assert(isinf(spec.reconnect));
    cr_assert_not(spec.given.inband);
    spec_fini(&spec);
    parse(&spec, "socket=x,id=010,vqs=0X10");
    cr_assert_eq(spec.given.id, 10);
    cr_assert_eq(spec.given.vqs, 16);
    spec_fini(&spec);
    parse(&spec, "socket=x,reconnect=off");
    cr_assert_not(spec.given.inflight);
    spec_fini(&spec);
}

Test(spec, keys_given_twice, .timeout = 10)
{
    refuse("socket=x,socket=y", "socket= is given twice");
    refuse("id=1,socket=x,id=1", "id= is given twice");
    refuse("config=00,socket=x,config=01", "config= is given twice");
    refuse("name=a,name=b,exec=x", "name= is given twice");
}

Test(spec, bad_numbers, .timeout = 10)
{
    static const char *const keys[] = { "id", "vqs", "config-size",
                                        "queue-size" };
    static const char *const values[] = {
        "",
        " 1",
        "1 ",
        "+1",
        "-1",
        "-0",
        "x",
        "1x",
        "0x",
        "1.0",
        "1e3",
        "4294967296",
        "18446744073709551616",
        "99999999999999999999999",
        "4294967297",
        "0x100000000",
        "1,,2",
        "1K",
        "one",
    };
    static const char *const out[] = {
        "id=0",
        "vqs=0",
        "vqs=257",
        "vqs=65537",
        "config-size=4097",
        "config-size=65536",
        "queue-size=0",
        "queue-size=32769",
        "queue-size=65536",
    };
    char text[80];

    for (unsigned i = 0; i < COUNT(keys); i++) {
        for (unsigned k = 0; k < COUNT(values); k++) {
            snprintf(text, sizeof text, "socket=x,%s=%s", keys[i], values[k]);
            refuse(text, "give a number from");
        }
    }
    for (unsigned i = 0; i < COUNT(out); i++) {
        snprintf(text, sizeof text, "socket=x,%s", out[i]);
        refuse(text, "give a number from");
    }
    refuse("socket=x,queue-size=3", "power of two");
    refuse("socket=x,queue-size=255", "power of two");
}

Test(spec, bad_seconds, .timeout = 10)
{
    static const char *const values[] = {
        "",  " 1",  "1 ",  "+1",       "-1",    "x",     "1s",   "1x",
        ".", "nan", "inf", "infinity", "86401", "1e400", "1,,5", "1.2.3",
    };
    char text[80];

    for (unsigned k = 0; k < COUNT(values); k++) {
        snprintf(text, sizeof text, "socket=x,deadline=%s", values[k]);
        refuse(text, "give seconds from");
        snprintf(text, sizeof text, "socket=x,wait=%s", values[k]);
        refuse(text, "give seconds from");
        snprintf(text, sizeof text, "socket=x,reconnect=%s", values[k]);
        refuse(text, "on, off or seconds");
    }
    refuse("socket=x,deadline=0", "0.001");
    refuse("socket=x,deadline=0.0009", "0.001");
    refuse("socket=x,reconnect=0", "on, off or seconds");
}

Test(spec, shm, .timeout = 10)
{
    static const struct {
        const char *text;
        uint64_t want;
    } rows[] = {
        { "socket=x", UINT64_C(1) << 30 },
        { "socket=x,shm=0", 0 },
        { "socket=x,shm=4096", 4096 },
        { "socket=x,shm=3K", 3 << 10 },
        { "socket=x,shm=7m", 7 << 20 },
        { "socket=x,shm=8G", UINT64_C(8) << 30 },
        { "socket=x,shm=2t", UINT64_C(2) << 40 },
        { "socket=x,shm=18446744073709551615", UINT64_MAX },
    };
    static const char *const wrong[] = {
        "",         "K",   "-1",
        "1KB",      "1 K", "1.5G",
        "0x10",     "1P",  "18446744073709551616",
        "16777216T"
    };
    struct spec spec;
    char text[80];

    for (unsigned i = 0; i < COUNT(rows); i++) {
        parse(&spec, rows[i].text);
        cr_assert_eq(spec.shm, rows[i].want, "%s", rows[i].text);
        spec_fini(&spec);
    }
    for (unsigned i = 0; i < COUNT(wrong); i++) {
        snprintf(text, sizeof text, "socket=x,shm=%s", wrong[i]);
        refuse(text, "with K, M, G or T");
    }
}

Test(spec, bad_words, .timeout = 10)
{
    refuse("socket=x,probe=", "auto, specs, messages or off");
    refuse("socket=x,probe=on", "auto, specs, messages or off");
    refuse("socket=x,probe=SPECS", "auto, specs, messages or off");
    refuse("socket=x,inband=", "on or off");
    refuse("socket=x,inband=1", "on or off");
    refuse("socket=x,name=", "1 to 31 characters");
    refuse("socket=x,name=12345678901234567890123456789012",
           "1 to 31 characters");
    refuse("socket=x,name=a b", "no spaces");
    refuse("socket=x,name=a\nb", "no spaces");
    refuse("socket=x,name=\x1b[2J", "no spaces");
}

/* Who may listen on a socket. */
Test(spec, peer_uid, .timeout = 10)
{
    static const char *const bad[] = { "",   "root", "-1",         "Any",
                                       "0x", "1,,2", "4294967295", "any " };
    struct spec spec;
    char text[64];

    parse(&spec, "socket=x");
    cr_assert_not(spec.peer.any || spec.peer.has_uid);
    spec_fini(&spec);
    parse(&spec, "peer-uid=any,socket=x");
    cr_assert(spec.peer.any && !spec.peer.has_uid);
    spec_fini(&spec);
    parse(&spec, "socket=x,peer-uid=0");
    cr_assert(!spec.peer.any && spec.peer.has_uid && spec.peer.uid == 0);
    spec_fini(&spec);
    parse(&spec, "socket=x,peer-uid=4294967294");
    cr_assert_eq(spec.peer.uid, 4294967294);
    spec_fini(&spec);
    for (unsigned i = 0; i < COUNT(bad); i++) {
        snprintf(text, sizeof text, "socket=x,peer-uid=%s", bad[i]);
        refuse(text, "give the number of a user, or any");
    }
    refuse("peer-uid=1,peer-uid=any,socket=x", "peer-uid= is given twice");
    refuse("peer-uid=any,exec=x", "peer-uid= goes with socket=");
    refuse("peer-uid=1,exec=x", "peer-uid= goes with socket=");
}

/* What a command gets: its working folder and variables. */
Test(spec, surroundings, .timeout = 10)
{
    static const char *const bad[] = { "",     "=",     "=a",
                                       "1A=b", "A-B=c", "A B",
                                       " A=",  "A\n=b", "\303\244" };
    struct spec spec;
    char text[64];

    parse(&spec, "env=A,env=_b1=x,,y=z,dir=/a,,b,env=C=,exec=x env=D");
    cr_assert_eq(words_count(spec.env), 3);
    cr_assert_str_eq(spec.env[0], "A");
    cr_assert_str_eq(spec.env[1], "_b1=x,y=z");
    cr_assert_str_eq(spec.env[2], "C=");
    cr_assert_str_eq(spec.dir, "/a,b");
    spec_fini(&spec);
    parse(&spec, "env=A,env=AB=1,env=a,exec=x");
    cr_assert_eq(words_count(spec.env), 3);
    spec_fini(&spec);
    for (unsigned i = 0; i < COUNT(bad); i++) {
        snprintf(text, sizeof text, "env=%s,exec=x", bad[i]);
        refuse(text, "give NAME or NAME=VALUE");
    }
    refuse("env=A,env=A,exec=x", "env=A is given twice");
    refuse("env=A=1,env=B,env=A=2,exec=x", "env=A is given twice");
    refuse("env=A=1,env=A,exec=x", "env=A is given twice");
    refuse("dir=,exec=x", "dir= needs a path");
    refuse("dir=/a,dir=/a,exec=x", "dir= is given twice");
    refuse("dir=/a,socket=x", "dir= goes with exec=");
    refuse("env=A,socket=x", "env= goes with exec=");
}

Test(spec, bad_pairs, .timeout = 10)
{
    static const char *const unknown[] = {
        "Socket=x", "sock=x", "ids=1",    "i=1",      "=1",
        " id=1",    "id =1",  "type=blk", "socket =x"
    };

    for (unsigned i = 0; i < COUNT(unknown); i++)
        refuse(unknown[i], "unknown key");
    refuse("socket=x,", "no key=value pair");
    refuse(",socket=x", "no key=value pair");
    refuse("socket=x,id", "no key=value pair");
    refuse("socket=x, id=1", "unknown key");
    refuse("id=1", "socket=PATH or exec=COMMAND");
    refuse("socket=", "needs a path");
    refuse("", "needs a path");
    refuse("socket=x,exec=y", "not both");
    refuse("exec=", "needs a command");
    refuse("exec=  ", "needs a command");
    refuse("exec=''x 'y", "not closed");
    refuse("exec=a \\", "backslash");
}

/* Too long is an error: nothing is cut. */
Test(spec, long_path, .timeout = 10)
{
    char text[200] = "socket=";
    size_t longest = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    struct spec spec;

    memset(text + 7, 'p', longest);
    parse(&spec, text);
    cr_assert_eq(strlen(spec.socket), longest);
    spec_fini(&spec);
    text[7 + longest] = 'p';
    refuse(text, "at most 107");
    refuse(text + 7, "at most 107");
}

Test(spec, commas, .timeout = 10)
{
    static const struct {
        const char *text, *socket;
    } rows[] = {
        { "socket=a,,b", "a,b" },
        { "socket=a,,,,b", "a,,b" },
        { "socket=,,", "," },
        { "socket=a,,,id=1", "a," },
        { "socket=,,a,id=1", ",a" },
        { "socket=a=b,id=1", "a=b" },
        { "socket=a,,exec=b", "a,exec=b" },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct spec spec;

        parse(&spec, rows[i].text);
        cr_assert_str_eq(spec.socket, rows[i].socket, "%s: '%s'", rows[i].text,
                         spec.socket);
        cr_assert_null(spec.argv);
        cr_assert_eq(spec.given.has_id, strstr(rows[i].text, "id=1") != NULL);
        spec_fini(&spec);
    }
}

/* exec= takes the rest as it is, and knows how its back-end is to be found. */
Test(spec, exec, .timeout = 10)
{
    static const struct {
        const char *text;
        enum spec_link link;
        const char *argv[6];
    } rows[] = {
        { "exec=cmd", SPEC_CONNECTED, { "cmd", "--fd={fd}" } },
        { "exec=cmd -f {fd}", SPEC_CONNECTED, { "cmd", "-f", "{fd}" } },
        { "exec=cmd addr.type=fd,addr.str={listen}",
          SPEC_LISTENING,
          { "cmd", "addr.type=fd,addr.str={listen}" } },
        { "exec=cmd --socket-path={socket}",
          SPEC_PATH,
          { "cmd", "--socket-path={socket}" } },
        { "exec=cmd a,b,,c=d,id=7",
          SPEC_CONNECTED,
          { "cmd", "a,b,,c=d,id=7", "--fd={fd}" } },
        { "exec='my cmd' \"{fd} {fd}\"",
          SPEC_CONNECTED,
          { "my cmd", "{fd} {fd}" } },
        { "exec=exec=x {fd}", SPEC_CONNECTED, { "exec=x", "{fd}" } },
        { "id=9,exec=cmd {Fd}",
          SPEC_CONNECTED,
          { "cmd", "{Fd}", "--fd={fd}" } },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct spec spec;
        unsigned n = 0;

        parse(&spec, rows[i].text);
        cr_assert_null(spec.socket);
        cr_assert_eq(spec.link, rows[i].link, "%s", rows[i].text);
        for (; rows[i].argv[n]; n++) {
            cr_assert_not_null(spec.argv[n], "%s: %u words", rows[i].text, n);
            cr_assert_str_eq(spec.argv[n], rows[i].argv[n]);
        }
        cr_assert_null(spec.argv[n], "%s: '%s' too", rows[i].text,
                       spec.argv[n]);
        cr_assert_eq(spec.given.has_id, rows[i].text[0] == 'i');
        spec_fini(&spec);
    }
    refuse("exec=cmd {fd} {listen}", "{fd} and {listen}");
    refuse("exec=cmd {socket}{listen}", "{listen} and {socket}");
    refuse("exec=cmd {socket} {fd}", "{fd} and {socket}");
}

static char *config_file(char *path, size_t size)
{
    uint8_t bytes[5000];
    int fd;

    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 5);
    strcpy(path, "/tmp/husk-spec-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
    close(fd);
    return path;
}

Test(spec, config, .timeout = 10)
{
    static const size_t sizes[] = { 1, 40, 4096 };
    char path[32], text[100];
    struct spec spec;

    parse(&spec, "socket=x,config=0123456789abcdefABCDEF");
    cr_assert(spec.given.has_config_size);
    cr_assert_eq(spec.given.config_size, 11);
    cr_assert_arr_eq(spec.given.config,
                     "\x01\x23\x45\x67\x89\xab\xcd\xef\xab\xcd\xef", 11);
    spec_fini(&spec);
    for (unsigned i = 0; i < COUNT(sizes); i++) {
        snprintf(text, sizeof text, "socket=x,config=@%s",
                 config_file(path, sizes[i]));
        parse(&spec, text);
        cr_assert_eq(spec.given.config_size, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            cr_assert_eq(spec.given.config[k], (uint8_t)(k * 5));
        spec_fini(&spec);
        snprintf(text, sizeof text, "socket=x,config=@%s,config-size=%zu", path,
                 sizes[i]);
        parse(&spec, text);
        spec_fini(&spec);
        snprintf(text, sizeof text, "config-size=%zu,socket=x,config=@%s",
                 sizes[i] - 1, path);
        refuse(text, "config-size=");
        unlink(path);
    }
    snprintf(text, sizeof text, "socket=x,config=@%s", config_file(path, 4097));
    refuse(text, "has 4097 bytes, at most 4096 are possible");
    unlink(path);
    refuse(text, strerror(ENOENT));
    snprintf(text, sizeof text, "socket=x,config=@%s", config_file(path, 0));
    refuse(text, "is empty");
    unlink(path);
    refuse("socket=x,config=@", strerror(ENOENT));
    refuse("socket=x,config=@/tmp", "is a directory");
    refuse("socket=x,config=@-", "./- if it has that name");
    refuse("socket=x,config=", "no bytes");
    refuse("socket=x,config=0", "digits");
    refuse("socket=x,config=000", "digits");
    refuse("socket=x,config=0g", "'0g'");
    refuse("socket=x,config=0x00", "'0x'");
    refuse("socket=x,config= 0", "' 0'");
    refuse("socket=x,config=-1", "'-1'");
    refuse("socket=x,config=00,config-size=2", "config-size");
    refuse("socket=x,config-size=2,config=00", "config-size");
}

/* As many digits as config space has room for, and two more. */
Test(spec, config_as_long_as_it_may_be, .timeout = 10)
{
    size_t head = strlen("socket=x,config="), digits = 2 * 4096;
    char *text = calloc(1, head + digits + 3);
    struct spec spec;

    cr_assert_not_null(text);
    strcpy(text, "socket=x,config=");
    memset(text + head, 'a', digits);
    parse(&spec, text);
    cr_assert_eq(spec.given.config_size, 4096);
    cr_assert_eq(spec.given.config[4095], 0xaa);
    spec_fini(&spec);
    strcat(text, "aa");
    refuse(text, "at most 4096");
    free(text);
}
