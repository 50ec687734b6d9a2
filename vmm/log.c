/* A bounded queue of messages. See log.h. */
#include "vmm/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct log_line {
    struct log_line *next;
    enum husk_log level;
    char text[];
};

void log_init(struct log *log)
{
    memset(log, 0, sizeof *log);
    pthread_mutex_init(&log->lock, NULL);
    log->last = &log->first;
}

/* Take all that waits out of the queue. */
static struct log_line *take(struct log *log, unsigned long long *left_out)
{
    struct log_line *line;

    pthread_mutex_lock(&log->lock);
    line = log->first;
    *left_out = log->left_out;
    log->first = NULL;
    log->last = &log->first;
    log->n = 0;
    log->left_out = 0;
    pthread_mutex_unlock(&log->lock);
    return line;
}

static void ignore(void *ctx, enum husk_log level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

void log_fini(struct log *log)
{
    log_hand_out(log, ignore, NULL);
    pthread_mutex_destroy(&log->lock);
}

bool log_put(struct log *log, enum husk_log level, const char *text)
{
    size_t size = strlen(text) + 1;
    struct log_line *line = malloc(sizeof *line + size);
    bool was_empty;

    if (line) {
        line->next = NULL;
        line->level = level;
        memcpy(line->text, text, size);
    }
    pthread_mutex_lock(&log->lock);
    was_empty = log->n == 0 && log->left_out == 0;
    if (line && log->n < LOG_LINES) {
        *log->last = line;
        log->last = &line->next;
        log->n++;
        line = NULL;
    } else {
        log->left_out++;
    }
    pthread_mutex_unlock(&log->lock);
    free(line);
    return was_empty;
}

void log_hand_out(struct log *log,
                  void (*handler)(void *ctx, enum husk_log level,
                                  const char *text),
                  void *ctx)
{
    unsigned long long left_out;
    struct log_line *line = take(log, &left_out);
    char text[64];

    while (line) {
        struct log_line *next = line->next;

        handler(ctx, line->level, line->text);
        free(line);
        line = next;
    }
    if (left_out) {
        snprintf(text, sizeof text, "%llu messages were left out", left_out);
        handler(ctx, HUSK_LOG_WARNING, text);
    }
}
