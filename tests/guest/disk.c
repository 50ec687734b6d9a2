/*
 * Images of disks. The block guest stamps each sector with 16 bytes, its number
 * and its number XOR a constant, and leaves the rest of it zero.
 */
#include "tests/guest/disk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/run.h"

#define SECTOR  512u
#define PATTERN UINT64_C(0x6b636f6c62206120)

const char *disk_make(const char *name, uint64_t size)
{
    const char *path = place(name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    close(fd);
    return path;
}

void disk_check(const char *path, uint64_t size, uint64_t written)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const uint64_t *words;
    struct stat st;

    cr_assert(fd >= 0 && fstat(fd, &st) == 0);
    CHECK_EQ(st.st_size, size);
    words = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert(words != MAP_FAILED);
    for (uint64_t i = 0; i < size / sizeof *words; i++) {
        uint64_t sector = i / (SECTOR / sizeof *words), want = 0;

        if (sector < written / SECTOR && i % (SECTOR / sizeof *words) == 0)
            want = sector;
        if (sector < written / SECTOR && i % (SECTOR / sizeof *words) == 1)
            want = sector ^ PATTERN;
        cr_assert(words[i] == want,
                  "%s: word %u of sector %llu is %#llx and not %#llx", path,
                  (unsigned)(i % (SECTOR / sizeof *words)),
                  (unsigned long long)sector, (unsigned long long)words[i],
                  (unsigned long long)want);
    }
    munmap((void *)(uintptr_t)words, size);
    close(fd);
}
