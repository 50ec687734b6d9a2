/* The husk command: which of its commands is meant. */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cmd/commands.h"
#include "vmm/cmd/help.h"
#include "vmm/cmd/options.h"
#include "vmm/cmd/say.h"

/* A standard descriptor that is closed would become one of husk's own. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", O_RDWR); /* the lowest that is free: this one */
}

static bool is_one_of(const char *word, const char *name, const char *letter,
                      const char *option)
{
    return !strcmp(word, name) || !strcmp(word, letter) ||
           !strcmp(word, option);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    bool help = is_one_of(verb, "help", "-h", "--help");
    struct cmd_clock clock;

    cmd_clock_main(&clock);
    fill_standard_descriptors();
    if (!strcmp(verb, "run"))
        return cmd_run(argc, argv, &clock);
    if (!strcmp(verb, "probe"))
        return cmd_probe(argc, argv);
    if (help && argc <= 3)
        return cmd_help(argv[2]);
    if (is_one_of(verb, "version", "-V", "--version") && argc == 2)
        return cmd_version();
    if (help || is_one_of(verb, "version", "-V", "--version"))
        cmd_say("'%.100s' is one argument too many: see husk help",
                argv[help ? 3 : 2]);
    else if (*verb)
        cmd_say("'%.100s' is not a command: give run, probe, help or version",
                verb);
    else
        cmd_say("give a command: run, probe, help or version");
    return CMD_ERROR;
}
