/*
 * Guest memory for tests of boot code: heap memory at guest address 0, so that
 * the sanitizer sees every byte written outside it. gap_end makes a second
 * region of high bytes there.
 */
#ifndef HUSK_TESTS_RAM_H
#define HUSK_TESTS_RAM_H

#include <stdlib.h>

#include <criterion/criterion.h>

#include "vmm/machine/mem.h"

static inline void ram_init(struct mem *mem, uint64_t low, gpa_t gap_end,
                            uint64_t high)
{
    *mem = (struct mem){ .fd = -1, .n_regions = 1, .size = low + high };
    mem->region[0] = (struct mem_region){ .size = low, .host = calloc(1, low) };
    cr_assert_not_null(mem->region[0].host);
    if (high > 0) {
        mem->n_regions = 2;
        mem->region[1] = (struct mem_region){ .base = gap_end,
                                              .size = high,
                                              .host = calloc(1, high),
                                              .offset = low };
        cr_assert_not_null(mem->region[1].host);
    }
}

static inline void ram_fini(struct mem *mem)
{
    for (unsigned i = 0; i < mem->n_regions; i++)
        free(mem->region[i].host);
}

#endif
