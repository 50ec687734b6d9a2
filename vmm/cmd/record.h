/* The run's record and a device's description, as JSON. */
#ifndef HUSK_VMM_CMD_RECORD_H
#define HUSK_VMM_CMD_RECORD_H

#include "vmm/cmd/options.h"
#include "vmm/cmd/timeline.h"

/* What is known of a run at its end. */
struct cmd_result {
    const struct cmd_options *options;
    const struct cmd_clock *clock;
    const struct husk_vm *vm; /* NULL: none was made */
    const char *outcome;
    int status;
    long guest_value; /* -1: none */
    const char *text; /* or NULL */
};

/* The record's text, on the heap; NULL if memory runs out. */
char *cmd_record(const struct cmd_result *result);

/* The text of a device that was probed, as the record has it. */
char *cmd_record_device(const struct husk_vm *vm, unsigned index);

#endif
