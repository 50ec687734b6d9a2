/* Figures beside their goals: printed as a table, and written as JSON. */
#include "tests/bench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 200

struct row {
    const char *group; /* NULL: as before */
    const char *what, *unit, *note;
    double value, goal;
    bool missing;
};

struct table {
    const char *path;
    const char *group;
    struct row rows[MAX_ROWS];
    unsigned n, failed;
    json_t *record;
};

struct table *table_create(const char *path_of_json)
{
    struct table *table = calloc(1, sizeof *table);

    if (!table)
        die("out of memory");
    table->path = path_of_json;
    table->record = json_object();
    return table;
}

void table_group(struct table *table, const char *name)
{
    table->group = name;
    fprintf(stderr, "%s ...\n", name);
}

static void add(struct table *table, struct row row)
{
    if (table->n == MAX_ROWS)
        die("more figures than the table has room for");
    row.group = table->group;
    table->rows[table->n++] = row;
}

void table_add(struct table *table, const char *what, double value,
               const char *unit, double goal, const char *note)
{
    add(table, (struct row){ .what = what,
                             .value = value,
                             .unit = unit,
                             .goal = goal,
                             .note = note });
}

void table_missing(struct table *table, const char *what, const char *why)
{
    add(table, (struct row){ .what = what,
                             .unit = "",
                             .note = why,
                             .goal = NO_GOAL,
                             .missing = true });
}

void table_record(struct table *table, const char *key, json_t *value)
{
    json_object_set_new(table->record, key, value);
}

/* As many digits as say something. */
static const char *number(double value)
{
    double size = fabs(value);

    if (value == floor(value) && size < 1e9)
        return text("%.0f", value);
    return size >= 1000  ? text("%.0f", value)
           : size >= 100 ? text("%.1f", value)
           : size >= 0.1 ? text("%.2f", value)
                         : text("%.4f", value);
}

/* What is compared is what is printed: 0.00004 calls a request are none. */
static bool fails(const struct row *row)
{
    return !row->missing && row->goal >= 0 &&
           atof(number(row->value)) > row->goal;
}

static json_t *row_json(const struct row *row)
{
    json_t *one = json_pack("{s:s, s:s, s:s}", "group", row->group, "what",
                            row->what, "unit", row->unit);

    if (row->missing) {
        json_object_set_new(one, "missing", json_string(row->note));
        return one;
    }
    json_object_set_new(one, "value", json_real(row->value));
    if (row->goal >= 0) {
        json_object_set_new(one, "goal_at_most", json_real(row->goal));
        json_object_set_new(one, "met", json_boolean(!fails(row)));
    }
    if (row->note)
        json_object_set_new(one, "note", json_string(row->note));
    return one;
}

static void write_record(struct table *table)
{
    json_t *rows = json_array();

    for (unsigned i = 0; i < table->n; i++)
        json_array_append_new(rows, row_json(&table->rows[i]));
    json_object_set_new(table->record, "figures", rows);
    if (json_dump_file(table->record, table->path,
                       JSON_INDENT(2) | JSON_REAL_PRECISION(8)) < 0)
        die("writing %s: %s", table->path, strerror(errno));
}

unsigned table_finish(struct table *table)
{
    const char *group = NULL;
    unsigned goals = 0;

    printf("%-50s %10s %-9s %10s\n", "", "figure", "", "goal");
    for (unsigned i = 0; i < table->n; i++) {
        const struct row *row = &table->rows[i];

        if (row->group != group)
            printf("\n%s\n", row->group);
        group = row->group;
        printf("  %-48s %10s %-9s %10s %s%s\n", row->what,
               row->missing ? "-" : number(row->value), row->unit,
               row->goal >= 0 ? text("<= %s", number(row->goal)) : "",
               row->goal < 0 ? ""
               : fails(row)  ? "FAILS  "
                             : "ok  ",
               row->note ? row->note : "");
        goals += row->goal >= 0;
        table->failed += fails(row);
    }
    if (table->failed)
        printf("\n%u of %u goals are missed:\n", table->failed, goals);
    else
        printf("\nall %u goals are met\n", goals);
    for (unsigned i = 0; i < table->n; i++)
        if (fails(&table->rows[i]))
            printf("  %s: %s: %s, not %s\n", table->rows[i].group,
                   table->rows[i].what, number(table->rows[i].value),
                   number(table->rows[i].goal));
    write_record(table);
    return table->failed;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double median(double *values, unsigned n)
{
    if (n == 0)
        return NAN;
    qsort(values, n, sizeof *values, compare);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double lower_quartile(double *values, unsigned n)
{
    if (n == 0)
        return NAN;
    qsort(values, n, sizeof *values, compare);
    return values[n / 4];
}

struct line fit_line(const double *x, const double *y, unsigned n)
{
    double mx = 0, my = 0, xx = 0, xy = 0, yy = 0;
    struct line line;

    for (unsigned i = 0; i < n; i++) {
        mx += x[i] / n;
        my += y[i] / n;
    }
    for (unsigned i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        xy += (x[i] - mx) * (y[i] - my);
        yy += (y[i] - my) * (y[i] - my);
    }
    line.slope = xx > 0 ? xy / xx : 0;
    line.start = my - line.slope * mx;
    line.fit = yy > 0 ? xy * xy / (xx * yy) : 1;
    return line;
}

json_t *values_json(const double *values, unsigned n)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}
