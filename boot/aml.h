/*
 * A small writer of ACPI Machine Language: scopes, devices, names, and the
 * resource descriptors that a board without buses needs.
 *
 * The caller owns the buffer. What does not fit is dropped and remembered: used
 * grows past room, so one look at the end finds it.
 */
#ifndef HUSK_BOOT_AML_H
#define HUSK_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *data;
    size_t room;
    size_t used;
};

/* Whether all that was written has fitted. */
bool aml_fits(const struct aml *aml);

/*
 * Open Scope (path), or Device (name). Names have four characters; a path may
 * begin with a backslash. Returns the mark that aml_end() wants.
 */
size_t aml_begin_scope(struct aml *aml, const char *path);
size_t aml_begin_device(struct aml *aml, const char *name);
void aml_end(struct aml *aml, size_t mark);

/* Name (name, value); values of at most 32 bits. */
void aml_name_integer(struct aml *aml, const char *name, uint32_t value);
void aml_name_string(struct aml *aml, const char *name, const char *value);
/* Name (name, EisaId (id)), an id of three letters and four hex digits. */
void aml_name_eisaid(struct aml *aml, const char *name, const char *id);
/* Name (name, Package () { value... }). */
void aml_name_package(struct aml *aml, const char *name, const uint32_t *value,
                      unsigned count);

#define AML_MAX_RESOURCES 64u

/* Descriptors on their way into a _CRS; starts zeroed. */
struct aml_resources {
    size_t used;
    uint8_t data[AML_MAX_RESOURCES];
};

/* Memory32Fixed (ReadWrite, base, size). */
void aml_memory(struct aml_resources *res, uint32_t base, uint32_t size);
/* IO (Decode16, port, port, 1, count). */
void aml_io(struct aml_resources *res, uint16_t port, uint8_t count);
/* Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive or Shared) {gsi}. */
void aml_interrupt(struct aml_resources *res, uint32_t gsi, bool shared);
/* Name (_CRS, ResourceTemplate () {...}). */
void aml_name_resources(struct aml *aml, const struct aml_resources *res);

#endif
