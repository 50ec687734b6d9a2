/*
 * What the host's processor makes of CPUID: nothing to speak of, or, under
 * another hypervisor, microseconds each. A C library's start takes some forty
 * of them, KVM_GET_SUPPORTED_CPUID one for each leaf.
 */
#include <cpuid.h>

#include "tests/bench/bench.h"

double host_cpuid(void)
{
    enum { RUNS = 21, EACH = 10 };
    double times[RUNS];

    for (unsigned i = 0; i < RUNS; i++) {
        double began = seconds();
        unsigned a, b, c, d;

        for (unsigned n = 0; n < EACH; n++)
            __cpuid_count(7, 0, a, b, c, d);
        times[i] = (seconds() - began) / EACH * 1e6;
    }
    return lower_quartile(times, RUNS);
}
