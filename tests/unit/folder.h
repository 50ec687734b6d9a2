/* A folder for the files of one test case. */
#ifndef HUSK_TESTS_UNIT_FOLDER_H
#define HUSK_TESTS_UNIT_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

struct folder {
    char path[32];
    char file[3][64]; /* paths of files that may be there at the end */
};

static inline void folder_init(struct folder *folder)
{
    strcpy(folder->path, "/tmp/husk-unit-XXXXXX");
    cr_assert_not_null(mkdtemp(folder->path));
    for (unsigned i = 0; i < 3; i++)
        snprintf(folder->file[i], sizeof folder->file[i], "%s/file%u",
                 folder->path, i);
}

static inline void folder_fini(struct folder *folder)
{
    for (unsigned i = 0; i < 3; i++)
        unlink(folder->file[i]);
    rmdir(folder->path);
}

static inline void folder_write(const char *path, const void *data, size_t size)
{
    FILE *out = fopen(path, "we");

    cr_assert_not_null(out);
    cr_assert_eq(fwrite(data, 1, size, out), size);
    fclose(out);
}

#endif
