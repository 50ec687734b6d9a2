/*
 * reconnect=: back-ends that die at each message that a guest causes, and then
 * die or hang once more on their way back, at each message of that.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define BACK "the back-end is back after "

TestSuite(comeback, .init = harness_init_kvm, .fini = harness_fini,
          .timeout = HANGS);

/* One that dies at the message, then one that may die again, then one that
 * serves. */
static const char *dying(const char *message, const char *fault,
                         const char *again, const char *more)
{
    const char *serve =
        fmt("%s --reconnected --config-size=4 --max-vqs=2 "
            "--protocol=1b229 --features=570000000 %s 2>>%s --fd=$0",
            built("husk-peer"), more, place("peer.err"));
    const char *marks =
        place(fmt("%s.%s.%s", message, fault, again ? again : "once"));

    if (!again)
        again = "SET_OWNER#99";
    return fmt("exec=sh -c 'if [ -e %s.2 ]; then exec %s; fi; "
               "if [ -e %s.1 ]; then : >%s.2; exec %s --%s=%s; fi; "
               ": >%s.1; exec %s --die-at=%s' {fd}",
               marks, serve, marks, marks, serve, fault, again, marks, serve,
               message);
}

/* What the back-ends said in all: that they die, and nothing else. */
static const char *peer_words(void)
{
    FILE *file = fopen(place("peer.err"), "re");
    char text[4096];
    size_t n;

    cr_assert(file);
    n = fread(text, 1, sizeof text - 1, file);
    text[n] = 0;
    fclose(file);
    return fmt("%s", text);
}

static void dies_at(const char *message, const char *again, const char *append)
{
    struct run run = { 0 };
    const char *words;

    unlink(place("peer.err"));
    run_husk(&run, "-d",
             fmt("reconnect=10,%s", dying(message, "die-at", again, "")), "-a",
             fmt("strict patience=20 count=3 reset=2 %s", append),
             guest("devices"));
    words = peer_words();
    cr_assert(run.status == 0 && count_text(run.err, BACK) == 1 &&
                  count_text(run.err, "connecting again\n") == 1 &&
                  count_text(words, "\n") == count_text(words, "dies at") &&
                  count_text(words, "\n") == (again ? 2 : 1),
              "%s, %s: status %d, '%s', '%s', '%s'", message,
              again ? again : "", run.status, run.out, run.err, words);
    check_end(&run, 0, "pass");
    run_free(&run);
}

/* Whatever the guest's accesses cause. */
Test(comeback, dies_at_each_message)
{
    static const char *const messages[] = {
        "SET_FEATURES",     "SET_STATUS#1",     "SET_STATUS#2",
        "SET_STATUS#3",     "SET_STATUS#4",     "SET_STATUS#5",
        "SET_STATUS#6",     "GET_STATUS#1",     "SET_VRING_NUM#1",
        "SET_VRING_NUM#2",  "SET_VRING_ADDR",   "SET_VRING_BASE#2",
        "SET_VRING_ERR#2",  "SET_VRING_CALL",   "SET_VRING_KICK#1",
        "SET_VRING_KICK#2", "SET_VRING_ENABLE", "SET_VRING_ENABLE#3",
        "GET_VRING_BASE#1", "GET_VRING_BASE#2", "RESET_DEVICE",
        "ADD_MEM_REG",
    };

    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        dies_at(messages[i], NULL, i % 2 ? "packed" : "");
}

/* And then again, on the way back. */
Test(comeback, dies_at_each_message_of_the_return)
{
    static const char *const messages[] = {
        "SET_OWNER",
        "GET_FEATURES",
        "GET_PROTOCOL_FEATURES",
        "SET_PROTOCOL_FEATURES",
        "41",
        "GET_QUEUE_NUM",
        "GET_MAX_MEM_SLOTS",
        "SET_BACKEND_REQ_FD",
        "GET_CONFIG",
        "SET_FEATURES",
        "SET_STATUS",
        "GET_STATUS",
        "ADD_MEM_REG",
        "SET_INFLIGHT_FD",
        "SET_VRING_NUM",
        "SET_VRING_ADDR",
        "SET_VRING_BASE",
        "SET_VRING_ERR",
        "SET_VRING_CALL",
        "SET_VRING_KICK",
        "SET_VRING_ENABLE",
        "SET_STATUS#3",
    };

    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        dies_at("SET_VRING_ENABLE#2", messages[i], "");
}

/* One that comes back and says no more at some message costs a deadline. */
Test(comeback, hangs_at_a_message_of_the_return)
{
    static const char *const messages[] = {
        "GET_FEATURES", "41",          "GET_CONFIG",
        "GET_STATUS",   "ADD_MEM_REG", "SET_VRING_ENABLE",
    };

    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct run run = { 0 };

        unlink(place("peer.err"));
        run_husk(&run, "-d",
                 fmt("reconnect=90,deadline=3,%s",
                     dying("SET_VRING_ENABLE", "hang-at", messages[i],
                           "--config-change=1 --config-changes=1")),
                 "-a", "changes=1 load", guest("config"));
        cr_assert(run.status == 0 && count_text(run.err, BACK) == 1 &&
                      !strstr(peer_words(), "violation") &&
                      strstr(peer_words(), "hangs at"),
                  "%s: status %d, '%s', '%s', '%s'", messages[i], run.status,
                  run.out, run.err, peer_words());
        cr_assert(run.seconds < SOON, "%s: %g s", messages[i], run.seconds);
        run_free(&run);
    }
}

/* What a guest writes to config space while nobody is there to take it. The
 * first write is what its back-end dies of; the others find none. */
Test(comeback, config_that_was_written_meanwhile)
{
    static const char *const again[] = { NULL, "SET_STATUS#2", "SET_CONFIG",
                                         "GET_CONFIG#2" };

    for (size_t i = 0; i < sizeof again / sizeof again[0]; i++) {
        struct run run = { 0 };

        unlink(place("peer.err"));
        run_husk(&run, "-d",
                 fmt("reconnect=90,deadline=20,%s",
                     dying("SET_CONFIG", "die-at", again[i], "")),
                 "-a", "write=0:a1b2c3d4 width=1 late=20", guest("config"));
        cr_assert(run.status == 0 && count_text(run.err, BACK) == 1 &&
                      !strstr(peer_words(), "violation") &&
                      strstr(run.out, "bytes a1b2c3d4"),
                  "%s: status %d, '%s', '%s', '%s'",
                  again[i] ? again[i] : "once", run.status, run.out, run.err,
                  peer_words());
        run_free(&run);
    }
}
