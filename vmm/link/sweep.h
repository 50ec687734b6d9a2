/* Emptying a folder that somebody else has written to. */
#ifndef HUSK_VMM_LINK_SWEEP_H
#define HUSK_VMM_LINK_SWEEP_H

/*
 * Remove all that is in the folder that fd is open on: 4096 entries and eight
 * folders deep at most. Follows no symbolic link and enters no other file
 * system. Allocates nothing; may be called between fork and exec.
 */
void sweep_folder(int fd);

#endif
