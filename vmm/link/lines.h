/*
 * Lines of a device for its VM's log. The log is the embedder's, may take long,
 * and is never called under the device's lock: lines that come up there are
 * kept, and handed out by the loop when it has let go of the lock.
 */
#ifndef HUSK_VMM_LINK_LINES_H
#define HUSK_VMM_LINK_LINES_H

#include "husk.h"

#define LINES_KEPT 4

/* Loop thread. */
struct lines {
    const char *name; /* of the device; each line begins with it */
    void (*log)(void *ctx, enum husk_log level, const char *text);
    void *ctx;
    struct {
        enum husk_log level;
        char text[320];
    } kept[LINES_KEPT];
    unsigned n;
    unsigned dropped; /* that found no room */
};

/* "NAME: text", at once. Not under the device's lock. */
void lines_say(struct lines *lines, enum husk_log level, const char *format,
               ...) __attribute__((format(printf, 3, 4)));

/* The same for lines_flush(), which is not called under the device's lock. */
void lines_keep(struct lines *lines, enum husk_log level, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
void lines_flush(struct lines *lines);

#endif
