/* Values of options. Strict: no sign, no space, nothing behind the value. */
#include "vmm/cmd/values.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int cmd_take_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGTPE";
    const char *unit;
    char *end;
    unsigned long long number;
    unsigned shift = 20;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || errno)
        return -EINVAL;
    if (*end) {
        unit = strchr(units, toupper((unsigned char)*end));
        if (!unit || end[1])
            return -EINVAL;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (number == 0 || number > UINT64_MAX >> shift)
        return -EINVAL;
    *out = number << shift;
    return 0;
}

int cmd_take_number(const char *text, unsigned min, unsigned max, unsigned *out)
{
    char *end;
    unsigned long number;

    number = strtoul(text, &end, 10); /* too large: ULONG_MAX, above max */
    if (!isdigit((unsigned char)text[0]) || *end || number < min ||
        number > max)
        return -EINVAL;
    *out = (unsigned)number;
    return 0;
}

int cmd_take_seconds(const char *text, double *out)
{
    char *end;
    double seconds = strtod(text, &end);

    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return -EINVAL;
    if (*end || !(seconds > 0) || seconds > 1e9)
        return -EINVAL;
    *out = seconds;
    return 0;
}

int cmd_take_word(const char *text, const char *const *words, unsigned *out)
{
    for (unsigned i = 0; words[i]; i++)
        if (!strcmp(text, words[i])) {
            *out = i;
            return 0;
        }
    return -EINVAL;
}
