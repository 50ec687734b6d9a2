/*
 * Test programs that embed the library as anybody's would: from include/husk.h
 * and libhusk.a alone, in C and in C++. What each found goes where the option
 * --tap=FILE says, else to stdout.
 */
#ifndef HUSK_TESTS_EMBED_TAP_H
#define HUSK_TESTS_EMBED_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *tap_file;
static int tap_failed;

static inline void tap_open(int argc, char **argv)
{
    alarm(60); /* a program that hangs has failed */
    tap_file = stdout;
    if (argc == 2 && strncmp(argv[1], "--tap=", 6) == 0)
        tap_file = fopen(argv[1] + 6, "w");
}

static inline void tap_check(bool passed, const char *what)
{
    fprintf(tap_file, "%s - %s\n", passed ? "ok" : "not ok", what);
    if (!passed) {
        fprintf(stderr, "failed: %s\n", what);
        tap_failed = 1;
    }
}

/* The program's exit status. */
static inline int tap_close(void)
{
    return fclose(tap_file) != 0 || tap_failed;
}

#endif
