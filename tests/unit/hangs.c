/*
 * One limit for every test, whatever it asks for itself: it ends a test that
 * hangs, and measures nothing. On a busy machine anything else takes long, too.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>

#define HANGS 600 /* seconds */

ReportHook(PRE_ALL)(struct criterion_test_set *all)
{
    FOREACH_SET(struct criterion_suite_set * suite, all->suites)
    {
        if (suite->suite.data)
            suite->suite.data->timeout = HANGS;
        FOREACH_SET(struct criterion_test * test, suite->tests)
        {
            test->data->timeout = HANGS;
        }
    }
}
