/*
 * Shared memory regions, seen by a guest: what the back-end maps is there, what
 * it takes away or what a reset ends reads as zero, and a file that is cut
 * short under the guest costs it that device alone.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/run.h"

/* Of 16 KiB, none, 2 MiB and 64 KiB. */
#define REGIONS "--protocol=41a629", "--shmem=16384,0,2097152,65536"

TestSuite(shm, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* A device of these mappings and, behind it, another one. */
struct pair {
    struct backend peer, other;
    struct run run;
};

static void begin_argv(struct pair *p, const char *way, const char *append,
                       const char *const *args)
{
    const char *argv[16] = { REGIONS };
    size_t n = 2;

    memset(p, 0, sizeof *p);
    for (; *args && n < 15; args++)
        argv[n++] = *args;
    backend_start_argv(&p->peer, "husk-peer", "--listen-fd", argv);
    backend_start(&p->other, "husk-loop", NULL);
    p->run.hold_in = true;
    start_husk(&p->run, way, "-d", p->peer.socket, "-d", p->other.socket, "-a",
               append, guest("shm"));
}

#define begin(p, way, append, ...) begin_argv(p, way, append, ARGS(__VA_ARGS__))

/* The front-end did nothing wrong. */
static void end(struct pair *p)
{
    backend_stop(&p->peer);
    cr_assert(p->peer.run.status == 0 && !strstr(p->peer.run.err, "violation"),
              "status %d: '%s'", p->peer.run.status, p->peer.run.err);
    backend_stop(&p->other);
    CHECK_STR(p->other.run.err, "");
    run_free(&p->peer.run);
    run_free(&p->other.run);
    run_free(&p->run);
}

static void passes(struct pair *p, const char *text)
{
    run_end(&p->run);
    check_end(&p->run, 0, "pass");
    check_out(&p->run, fmt("%spass\n", text));
}

Test(shm, regions_and_where_there_is_none)
{
    static const struct {
        unsigned region;
        const char *text;
    } regions[] = {
        { 0, "shm: region 0 at 0x100000000 of 0x4000 bytes\n" },
        { 1, "shm: no region 1, base 0xffffffffffffffff\n" },
        { 2, "shm: region 2 at 0x100200000 of 0x200000 bytes\n" },
        { 3, "shm: region 3 at 0x100400000 of 0x10000 bytes\n" },
        { 4, "shm: no region 4, base 0xffffffffffffffff\n" },
        { 255, "shm: no region 255, base 0xffffffffffffffff\n" },
        { 256, "shm: no region 256, base 0xffffffffffffffff\n" },
        { 0xffffffff, "shm: no region 4294967295, base 0xffffffffffffffff\n" },
    };

    for (size_t i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        const char *zero = strstr(regions[i].text, "no") ? "" : "shm: zero\n";
        struct pair p;

        begin(&p, i % 2 ? "-v" : "--no-window",
              fmt("region=%u steps=zero", regions[i].region), "--stats");
        passes(&p, fmt("%s%s", regions[i].text, zero));
        end(&p);
    }
}

Test(shm, above_memory)
{
    struct pair p;

    begin(&p, "-m4G", "region=3 at=60k steps=pattern", "--shm-map=3:0:65536");
    passes(&p, "shm: region 3 at 0x140400000 of 0x10000 bytes\n"
               "shm: pattern\n");
    end(&p);
}

Test(shm, mapped_and_unmapped)
{
    struct pair p;

    begin(&p, "-v", "at=4k size=8k steps=zero,pattern,zero,other",
          "--shm-map=0:4096:8192", "--shm-delay=2000", "--shm-unmap=500");
    passes(&p, "shm: zero\nshm: pattern\nshm: zero\nshm: other\n");
    end(&p);
}

/* Each in its place; what lies between them is zero. */
Test(shm, several_mappings)
{
    static const struct {
        const char *at, *step;
    } parts[] = {
        { "0", "pattern" },      { "4k", "zero" },     { "8k", "pattern" },
        { "12k", "zero" },       { "16k", "pattern" }, { "20k", "zero" },
        { "0xf000", "pattern" },
    };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct pair p;

        /* the last one is there when all are */
        begin(&p, "-v",
              fmt("region=3 at=%s steps=hold,%s", parts[i].at, parts[i].step),
              "--shm-map=3:0:4096", "--shm-map=3:0x2000:4096:rw",
              "--shm-map=3:0x4000:4096", "--shm-map=3:0xf000:4096");
        cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
        nap(0.3);
        run_type(&p.run, "x");
        passes(&p, fmt("shm: %s\n", parts[i].step));
        end(&p);
    }
}

/* The peer judges that each of them is refused, and the others are not. */
Test(shm, mappings_that_are_refused)
{
    struct pair p;

    begin(&p, "-v", "region=3 at=4k steps=pattern,hold,pattern",
          "--shm-map=3:0x1000:4096", "--shm-map=3:0:0x10000:refused",
          "--shm-map=3:0x1000:4096:refused", "--shm-map=3:0x800:4096:refused",
          "--shm-map=3:0x10000:4096:refused", "--shm-map=1:0:4096:refused",
          "--shm-map=0:0x2000:0x3000:refused",
          "--shm-map=2:0xfffffffffffff000:8192:refused");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    nap(0.5);
    run_type(&p.run, "x");
    passes(&p, "shm: hold\nshm: pattern\n");
    end(&p);
}

Test(shm, writable)
{
    struct pair p;

    begin(&p, "-v", "size=16k steps=pattern,write,written",
          "--shm-map=0:0:16384:rw");
    passes(&p, "shm: pattern\nshm: write\nshm: written\n");
    end(&p);
}

/* Writes to what is mapped read-only reach nobody else: not the file, of which
 * the next mapping shows what was in it. */
Test(shm, read_only)
{
    static const char *const ways[] = { "-v", "--no-window" };

    for (unsigned i = 0; i < 2; i++) {
        struct pair p;

        begin(&p, ways[i],
              "size=4k steps=pattern,write,written,reset,zero,start,pattern",
              "--shm-map=0:0:4096");
        passes(&p, "shm: written\nshm: reset\nshm: zero\nshm: start\n"
                   "shm: pattern\n");
        CHECK_EQ(count_text(p.run.err, "shared memory"), 0);
        end(&p);
    }
}

/* What was mapped is gone with the reset, and what is not is no memory. */
Test(shm, reset_ends_it)
{
    struct pair p;

    begin(&p, "-v",
          "region=3 size=64k steps=pattern,write,written,reset,zero,start,"
          "pattern,other",
          "--shm-map=3:0:0x10000:rw");
    passes(&p, "shm: written\nshm: reset\nshm: zero\nshm: start\n"
               "shm: pattern\nshm: other\n");
    end(&p);
    begin(&p, "-v", "region=2 at=0x1ff000 steps=write,zero,reset,zero",
          "--stats");
    passes(&p, "shm: zero\nshm: reset\nshm: zero\n");
    end(&p);
}

Test(shm, resets_leave_nothing)
{
    struct holdings before, after;
    const char *steps = "reset,start,pattern,hold"; /* a thread's heap, once */
    struct pair p;

    for (unsigned i = 0; i < 8; i++)
        steps = fmt("%s,reset,start,pattern", steps);
    begin(&p, "-v", fmt("region=3 at=60k steps=%s,pattern,hold", steps),
          "--shm-map=0:0:4096", "--shm-map=2:4096:4096:rw",
          "--shm-map=3:0xf000:4096");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    nap(0.05);
    before = holdings_of(p.run.pid);
    run_type(&p.run, "x");
    cr_assert(run_until(&p.run, "shm: pattern\nshm: pattern\nholding\n") &&
                  count_text(p.run.out, "pattern\n") == 10,
              "'%s'", p.run.out);
    nap(0.05);
    after = holdings_of(p.run.pid);
    cr_assert(same_holdings(before, after),
              "%u descriptors and %u mappings became %u and %u", before.fds,
              before.maps, after.fds, after.maps);
    run_type(&p.run, "x");
    passes(&p, "shm: hold\n");
    end(&p);
}

/* The guest goes on, over zeros, and the other device works. */
Test(shm, file_that_is_cut_short)
{
    static const char *const ways[] = { "-v", "--no-window" };

    for (unsigned i = 0; i < 2; i++) {
        struct pair p;

        begin(&p, ways[i], "steps=pattern,lost,zero,write,zero,other",
              "--shm-map=0:0:4096:rw", "--shm-truncate=500");
        passes(&p, "shm: pattern\nshm: lost\nshm: zero\nshm: write\n"
                   "shm: zero\nshm: other\n");
        check_line(&p.run, "virtio0", "shared memory", "cut short");
        end(&p);
    }
}

/* Also where the guest does not look: the next one may try for ever. Without a
 * mapping there is nothing to lose. */
Test(shm, file_that_is_cut_short_unseen)
{
    struct pair p;

    begin(&p, "-v", "steps=hold,zero,other", "--shm-map=0:0:4096",
          "--shm-truncate=300");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    cr_assert(run_until_said(&p.run, "was cut short", 1), "'%s'", p.run.err);
    run_type(&p.run, "x");
    passes(&p, "shm: hold\nshm: zero\nshm: other\n");
    end(&p);
    begin(&p, "-v", "steps=hold,zero,other", "--shm-map=0:0:4096",
          "--shm-unmap=1", "--shm-truncate=1");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    nap(1.5);
    run_type(&p.run, "x");
    passes(&p, "shm: hold\nshm: zero\nshm: other\n");
    CHECK_EQ(count_text(p.run.err, "shared memory"), 0);
    end(&p);
}

/* Written to, and not read. */
Test(shm, file_that_is_cut_short_under_writes)
{
    struct pair p;

    begin(&p, "-v", "steps=pattern,hold,write,lost,other",
          "--shm-map=0:0:4096:rw", "--shm-truncate=300");
    cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
    nap(0.6);
    run_type(&p.run, "x");
    passes(&p, "shm: write\nshm: lost\nshm: other\n");
    check_line(&p.run, "virtio0", "shared memory", "cut short");
    end(&p);
}

/* KiB that a process has of memory, of its own or shared. */
static long memory_of(pid_t pid)
{
    FILE *file = fopen(fmt("/proc/%d/status", (int)pid), "re");
    char line[200];
    long size = -1;

    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &size) == 1)
            break;
    fclose(file);
    cr_assert_gt(size, 0);
    return size;
}

/* Whatever the guest does to what nothing is mapped at costs no memory: with
 * nothing mapped in the region, with a part of it mapped, and when it is mapped
 * no more. */
Test(shm, unmapped_is_no_memory)
{
    static const char *const maps[][3] = {
        { "--stats" },
        { "--shm-map=2:4096:8192:rw", "--shm-delay=0" },
        { "--shm-map=2:4096:8192:rw", "--shm-delay=0", "--shm-unmap=1" },
    };

    for (unsigned i = 0; i < 3; i++) {
        bool mapped = i == 1;
        struct pair p;
        long before;

        begin(&p, "-v",
              fmt("region=2 steps=hold,touch,zero,hold patience=60%s",
                  mapped ? " at=0x3ffe000" : ""),
              "--shmem=16384,0,67108864,65536", maps[i][0],
              maps[i][1] ? maps[i][1] : "--stats",
              maps[i][2] ? maps[i][2] : "--stats");
        cr_assert(run_until(&p.run, "holding\n"), "'%s'", p.run.err);
        nap(0.2);
        before = memory_of(p.run.pid);
        run_type(&p.run, "x");
        cr_assert(run_until(&p.run, "shm: zero\nholding\n"), "'%s' '%s'",
                  p.run.out, p.run.err);
        cr_assert_lt(memory_of(p.run.pid), before + (8 << 10),
                     "%ld KiB became %ld", before, memory_of(p.run.pid));
        run_type(&p.run, "x");
        passes(&p, "shm: hold\nshm: touch\nshm: zero\nholding\nshm: hold\n");
        end(&p);
    }
}

Test(shm, more_than_is_allowed)
{
    static const struct {
        const char *key;
        int status;
    } rows[] = { { "shm=2M", 125 }, { "shm=4M", 0 } };

    for (unsigned i = 0; i < 2; i++) {
        struct run run = { 0 };

        start_husk(&run, "-d",
                   fmt("%s,exec=%s --protocol=41a629 --shmem=16384,0,2097152 "
                       "--fd={fd}",
                       rows[i].key, built("husk-peer")),
                   "-a", "steps=zero", guest("shm"));
        run_end(&run);
        check_end(&run, rows[i].status, rows[i].status ? "error" : "pass");
        if (rows[i].status)
            check_line(&run, "virtio0", "2113536 bytes", "shm=");
        run_free(&run);
    }
}

/* The file is long enough, and its file system full: the device is lost, and no
 * more than that. */
Test(shm, page_that_cannot_be_had)
{
    static const char *const ways[][2] = {
        { "4k", "pattern,touch,lost,zero,other" },
        { "32k", "lost,zero,other" },
    };
    const char *folder = place("full");
    int fd;

    if (mkdir(folder, 0700) < 0 ||
        mount("husk-test", folder, "tmpfs", 0, "size=16k") < 0)
        cr_skip_test("this user may not mount a file system");
    fd = open(fmt("%s/file", folder), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    umount2(folder, MNT_DETACH); /* the file remains */
    cr_assert_eq(ftruncate(fd, 65536), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct pair p;

        begin(&p, "-v",
              fmt("region=3 size=%s steps=%s", ways[i][0], ways[i][1]),
              "--shm-map=3:0:65536:rw",
              fmt("--shm-file=/proc/%d/fd/%d", (int)getpid(), fd));
        run_end(&p.run);
        check_end(&p.run, 0, "pass");
        check_line(&p.run, "virtio0", "cannot be had", "full?");
        end(&p);
    }
    close(fd);
}

/* With reconnect= the region is empty until the next one maps into it. */
Test(shm, back_end_that_comes_back)
{
    struct run run = { 0 };
    const char *pid = place("pid");
    FILE *file;
    int first;

    start_husk(&run, "-d",
               fmt("reconnect=on,exec=sh -c 'echo $$ >>%s; exec %s "
                   "--protocol=41a629 --shmem=16384 --shm-map=0:0:4096 "
                   "--shm-delay=2000 --reconnected --fd=$0' {fd}",
                   pid, built("husk-peer")),
               "-d", exec_spec("husk-loop"), "-a",
               "steps=zero,pattern,zero,pattern,other", guest("shm"));
    cr_assert(run_until(&run, "shm: pattern\n"), "'%s' '%s'", run.out, run.err);
    file = fopen(pid, "re");
    CHECK_EQ(fscanf(file, "%d", &first), 1);
    fclose(file);
    kill(first, SIGKILL);
    run_end(&run);
    check_end(&run, 0, "pass");
    check_out(&run, "shm: zero\nshm: pattern\nshm: zero\nshm: pattern\n"
                    "shm: other\npass\n");
    CHECK_EQ(count_text(run.err, "the back-end is back after "), 1);
    CHECK_EQ(count_text(run.err, "violation"), 0);
    run_free(&run);
}
