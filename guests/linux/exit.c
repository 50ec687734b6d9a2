/*
 * End a stock Linux guest's run with a status: write it to the exit port. Not
 * every kernel has /dev/port, so this asks for the port itself. Comes back only
 * where nothing listens there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

#define EXIT_PORT 0xf4

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "Usage: exit STATUS\n");
        return 2;
    }
    if (ioperm(EXIT_PORT, 1, 1) < 0) {
        perror("ioperm");
        return 1;
    }
    outb((unsigned char)atoi(argv[1]), EXIT_PORT);
    return 1;
}
