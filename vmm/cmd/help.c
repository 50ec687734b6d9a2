/* Help, made from the tables of options. See help.h. */
#include "vmm/cmd/help.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cmd/options.h"
#include "vmm/cmd/say.h"

#define COLUMN 29 /* where the descriptions begin */

static const char commands[] =
    "husk run [options] KERNEL    boot a guest, with its console on this "
    "terminal\n"
    "husk probe SPEC [--json]     ask a back-end what it is, and print it\n"
    "husk help [COMMAND]          print the options of a command\n"
    "husk version                 print husk's version\n"
    "\n"
    "A guest's devices are other processes, which speak vhost-user.\n";

static const char spec[] =
    "SPEC is the path of a vhost-user socket, or KEY=VALUE,... with these "
    "keys:\n"
    "  socket=PATH id=N vqs=N config=HEX|@FILE config-size=N queue-size=N\n"
    "  probe=auto|specs|messages|off inband=on|off name=NAME\n"
    "  deadline=SECONDS wait=SECONDS reconnect=on|off|SECONDS shm=SIZE\n"
    "  peer-uid=N|any env=NAME|NAME=VALUE dir=PATH\n"
    "and, as the last one, exec=COMMAND. In COMMAND {fd} stands for the "
    "number\n"
    "of a connected socket, {listen} for that of a listening one, {socket} "
    "for\n"
    "the path of one that the back-end is to make.\n";

static const char run_notes[] =
    "On a terminal Ctrl-A x ends the run.\n"
    "Exit status: 0-109 the guest's own (0 pass, 77 skipped), 110 panic, 111 "
    "reset,\n"
    "113 no verdict, 114 device lost, 124 timeout, 125 error, 130 ended by "
    "Ctrl-A x,\n"
    "128+n ended by signal n.\n";

static const char probe_notes[] =
    "Exit status: 0 the back-end needs no values from the command line, 1 it\n"
    "does, 125 error, 128+n ended by signal n.\n";

int cmd_printed(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    cmd_say("writing to standard output: %s", strerror(errno));
    return CMD_ERROR;
}

static void print_options(const struct cmd_option *row)
{
    for (; row->name; row++) {
        char left[64];

        snprintf(left, sizeof left, "  %c%c%c --%s%s%s",
                 row->letter ? '-' : ' ', row->letter ? row->letter : ' ',
                 row->letter ? ',' : ' ', row->name, row->argument ? " " : "",
                 row->argument ? row->argument : "");
        printf("%-*s%s\n", COLUMN, left, row->help);
    }
}

static void print_syntax(const struct cmd_syntax *syntax, const char *what,
                         const char *notes)
{
    printf("husk %s [options] %s: %s\n", syntax->command, syntax->operand,
           what);
    print_options(syntax->rows);
    fputs(spec, stdout);
    fputs(notes, stdout);
}

int cmd_help(const char *command)
{
    if (!command)
        fputs(commands, stdout);
    else if (!strcmp(command, "run"))
        print_syntax(&cmd_run_syntax,
                     "boot a guest, with its console on this terminal",
                     run_notes);
    else if (!strcmp(command, "probe"))
        print_syntax(&cmd_probe_syntax, "ask a back-end what it is, print it",
                     probe_notes);
    else if (!strcmp(command, "help"))
        puts("husk help [COMMAND]: print the options of a command");
    else if (!strcmp(command, "version"))
        puts("husk version: print husk's version");
    else {
        cmd_say("'%.100s' is not a command: see husk help", command);
        return CMD_ERROR;
    }
    return cmd_printed();
}

int cmd_version(void)
{
    puts("husk " HUSK_VERSION);
    return cmd_printed();
}
