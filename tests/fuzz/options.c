/*
 * What people type: device specs, command lines split into words, and the
 * husk command's own options. What is accepted must be in its bounds; what is
 * refused must say why. Words are compared with a splitter of the harness's
 * own.
 *
 * Input: a byte that says which of them, then text; arguments end at zeros.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/link/spec.h"
#include "vmm/link/words.h"

/* The parser alone: what it accepts is not carried out. */
#include "vmm/cmd/options.c"
#include "vmm/cmd/values.c"

#define MAX_ARGS 40

static void check_options(const struct cmd_options *options)
{
    CHECK(options->operand || options->output[CMD_OUTPUT_DTB]);
    CHECK(!options->operand || strcmp(options->operand, "-"));
    CHECK(options->cpus <= 1000000);
    CHECK(options->n_devices <= (unsigned)options->argc);
    CHECK(options->n_initrds <= (unsigned)options->argc);
    CHECK(options->timeout >= 0 && options->timeout <= 1e9);
    CHECK((unsigned)options->discovery < 4);
    for (int i = 0; i < CMD_OUTPUTS; i++)
        CHECK(!options->output[i] || options->output[i][0]);
    for (unsigned i = 0; i < options->n_devices; i++)
        CHECK(options->devices[i] != NULL);
    for (unsigned i = 0; i < options->n_initrds; i++)
        CHECK(options->initrds[i] != NULL);
    for (int i = 0; i < options->argc; i++)
        CHECK(options->argv[i] != NULL);
}

static char *take_text(struct input *in, size_t size)
{
    char *text = malloc(size + 1);

    CHECK(text != NULL);
    input_bytes(in, text, size);
    text[size] = 0;
    return text;
}

static void check_spec(const struct spec *spec)
{
    const struct probe_given *given = &spec->given;

    CHECK(spec->name[0] && memchr(spec->name, 0, sizeof spec->name));
    CHECK((spec->socket != NULL) != (spec->argv != NULL));
    if (spec->socket)
        CHECK(spec->socket[0] && strlen(spec->socket) < 108);
    if (spec->argv)
        CHECK(spec->argv[0] != NULL && (unsigned)spec->link < 3);
    CHECK(given->queue_size >= 1 && given->queue_size <= 32768);
    CHECK((given->queue_size & (given->queue_size - 1)) == 0);
    CHECK(spec->deadline >= 0.001 && spec->deadline <= 86400);
    CHECK(spec->wait >= 0 && spec->wait <= 86400);
    CHECK(spec->reconnect >= 0 &&
          (spec->reconnect <= 86400 || isinf(spec->reconnect)));
    CHECK((unsigned)given->mode < 4);
    if (given->has_id)
        CHECK(given->id != 0);
    if (given->has_vqs)
        CHECK(given->vqs >= 1 && given->vqs <= 256);
    if (given->has_config_size)
        CHECK(given->config_size <= 4096);
    if (given->config) {
        uint8_t last = given->config[given->config_size - 1];

        CHECK(given->has_config_size && given->config_size > 0);
        CHECK_EQ(last, spec->config[given->config_size - 1]);
    }
}

/* config=@FILE opens files: none outside of this folder. */
static bool opens_files(const char *text)
{
    const char *at = strchr(text, '@');

    return at && strchr(at, '/');
}

/* A spec, or what a whole one goes on with. */
static void try_spec(struct input *in, const char *begin)
{
    char *rest = take_text(in, input_left(in)), *text = NULL;
    struct husk_err err = { 0 };
    struct spec spec;
    int rc;

    CHECK(asprintf(&text, "%s%s", begin, rest) >= 0);
    free(rest);
    if (!opens_files(text)) {
        rc = spec_parse(&spec, text, 3, &err);
        if (rc == 0) {
            check_spec(&spec);
        } else {
            CHECK(err.code == rc && rc == -EINVAL);
            CHECK(!strncmp(err.text, "device 3: ", 10) && err.text[10]);
        }
        spec_fini(&spec);
        spec_fini(&spec);
    }
    free(text);
}

/* POSIX, 2.2, as a machine of states; false: it ends in the middle. Words end
 * at zeros in out. */
static bool split(const char *text, char *out, size_t *words)
{
    enum { BLANK, PLAIN, SINGLE, DOUBLE } state = BLANK;

    *words = 0;
    for (; *text; text++) {
        bool blank = *text == ' ' || *text == '\t' || *text == '\n';

        if (state == SINGLE || state == DOUBLE) {
            if (*text == (state == SINGLE ? '\'' : '"')) {
                state = PLAIN;
                continue;
            }
            if (state == DOUBLE && *text == '\\') {
                if (!text[1])
                    return false;
                if (strchr("$`\"\\", text[1]))
                    text++;
                else
                    *out++ = *text++;
            }
            *out++ = *text;
            continue;
        }
        if (blank) {
            if (state == PLAIN)
                *out++ = 0;
            state = BLANK;
            continue;
        }
        *words += state == BLANK;
        state = *text == '\'' ? SINGLE : *text == '"' ? DOUBLE : PLAIN;
        if (state != PLAIN)
            continue;
        if (*text == '\\' && !*++text)
            return false;
        *out++ = *text;
    }
    *out = 0;
    return state == BLANK || state == PLAIN;
}

static void try_words(struct input *in)
{
    char *text = take_text(in, input_left(in));
    char *expected = malloc(strlen(text) + 2), *at = expected;
    char **words = NULL, **replaced;
    struct husk_err err = { 0 };
    size_t n;
    bool good;
    int rc = words_split(text, &words, &err);

    CHECK(expected != NULL && words != NULL);
    good = split(text, expected, &n);
    CHECK_EQ(rc, good ? 0 : -EINVAL);
    if (rc < 0)
        CHECK(err.code == rc && err.text[0]);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        CHECK(words[i] && !strcmp(words[i], at));
        at += strlen(at) + 1;
    }
    if (rc == 0)
        CHECK(words[n] == NULL);
    replaced = words_replace(words, "{fd}", "12");
    CHECK(replaced != NULL);
    for (size_t i = 0; words[i]; i++) {
        size_t marks = 0;

        for (const char *mark = words[i]; (mark = strstr(mark, "{fd}"));
             mark += 4)
            marks++;
        CHECK_EQ(strlen(replaced[i]) + 2 * marks, strlen(words[i]));
        CHECK(marks || !strcmp(words[i], replaced[i]));
    }
    words_free(replaced);
    words_free(words);
    free(expected);
    free(text);
}

static void try_command(struct input *in, const struct cmd_syntax *syntax)
{
    char *args[MAX_ARGS + 3] = { strdup("husk"), strdup(syntax->command) };
    char *kept[MAX_ARGS + 3];
    struct cmd_options options;
    struct husk_err err = { 0 };
    int n = 2, rc;

    while (n < MAX_ARGS && input_left(in)) {
        const uint8_t *end = memchr(in->at, 0, input_left(in));
        size_t size = end ? (size_t)(end - in->at) : input_left(in);

        args[n++] = take_text(in, size);
        input_u8(in);
    }
    memcpy(kept, args, sizeof args); /* getopt sorts them */
    rc = cmd_options_parse(&options, syntax, n, args, &err);
    CHECK(rc == 0 || rc == -EINVAL);
    if (rc < 0)
        CHECK(err.code == rc && err.text[0]);
    else if (!options.help && !options.version)
        check_options(&options);
    cmd_options_fini(&options);
    for (int i = 0; i < n; i++)
        free(kept[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size };

    switch (input_u8(&in) % 5) {
    case 0:
        try_spec(&in, "");
        break;
    case 4:
        try_spec(&in, "socket=a,");
        break;
    case 1:
        try_words(&in);
        break;
    case 2:
        try_command(&in, &cmd_run_syntax);
        break;
    case 3:
        try_command(&in, &cmd_probe_syntax);
        break;
    }
    return 0;
}
