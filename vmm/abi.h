/*
 * Structs of husk.h between programs and libraries of different versions: each
 * has a size that its owner set, and bytes that only one side knows.
 */
#ifndef HUSK_VMM_ABI_H
#define HUSK_VMM_ABI_H

#include <stddef.h>

#include "husk.h"

/*
 * Copy a struct that the program gave, whose first field is its size: to out,
 * of known bytes, zeros where the program's ends. name is the struct's.
 *   -EINVAL  its size is below sizeof(size_t)
 *   -E2BIG   it has bytes beyond known that are not zero
 */
int abi_take(void *out, size_t known, const void *given, const char *name,
             struct husk_err *err);

/*
 * Fill a struct of the program's, of given bytes, from one of known bytes:
 * never beyond given, and zeros beyond known.
 *   -EINVAL  given is below sizeof(size_t)
 */
int abi_fill(void *out, size_t given, const void *from, size_t known);

/* The same for a struct that begins with its size, which stays as it is. */
int abi_answer(void *out, const void *from, size_t known);

#endif
