/*
 * AML bytes by the ACPI specification 6.4: opcodes and package lengths of
 * chapter 20, resource descriptors of 6.4. Knows no methods and no operation
 * regions: the board has nothing that a guest would have to compute.
 */
#include "boot/aml.h"

#include <assert.h>
#include <string.h>

#include "boot/bytes.h"

/* 20.3 */
enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
};

/* 6.4.2, 6.4.3 */
enum {
    RES_IO = 0x47,
    RES_END = 0x79,
    RES_MEMORY32_FIXED = 0x86,
    RES_INTERRUPT = 0x89,
};

#define INTERRUPT_CONSUMER 0x01u
#define INTERRUPT_EDGE     0x02u
#define INTERRUPT_SHARED   0x08u

bool aml_fits(const struct aml *aml)
{
    return aml->used <= aml->room;
}

static void put(struct aml *aml, const void *data, size_t size)
{
    if (aml_fits(aml) && size <= aml->room - aml->used)
        memcpy(aml->data + aml->used, data, size);
    aml->used += size;
}

static void put_byte(struct aml *aml, uint8_t byte)
{
    put(aml, &byte, 1);
}

static void put_name(struct aml *aml, const char *name)
{
    assert(strlen(name) == 4 || (name[0] == '\\' && strlen(name) == 5));
    put(aml, name, strlen(name));
}

static void put_integer(struct aml *aml, uint32_t value)
{
    uint8_t bytes[4];

    put32(bytes, value);
    if (value <= 1) {
        put_byte(aml, value == 0 ? OP_ZERO : OP_ONE);
    } else if (value <= UINT8_MAX) {
        put_byte(aml, OP_BYTE);
        put(aml, bytes, 1);
    } else if (value <= UINT16_MAX) {
        put_byte(aml, OP_WORD);
        put(aml, bytes, 2);
    } else {
        put_byte(aml, OP_DWORD);
        put(aml, bytes, 4);
    }
}

/*
 * 20.2.4: one byte up to 63; else the first says how many follow and holds the
 * low four bits. The length counts its own bytes.
 */
static size_t package_length(uint8_t out[4], size_t content)
{
    size_t extra = 0, length = content + 1;

    if (length < 0x40) {
        out[0] = (uint8_t)length;
        return 1;
    }
    do {
        extra++;
        length = content + 1 + extra;
    } while (length >> (4 + 8 * extra) != 0);
    assert(extra <= 3);
    out[0] = (uint8_t)(extra << 6 | (length & 0xf));
    for (size_t i = 0; i < extra; i++)
        out[1 + i] = (uint8_t)(length >> (4 + 8 * i));
    return 1 + extra;
}

/* Put the package length in front of what was written since mark. */
void aml_end(struct aml *aml, size_t mark)
{
    uint8_t bytes[4];
    size_t content = aml->used - mark;
    size_t size = package_length(bytes, content);

    put(aml, bytes, size);
    if (!aml_fits(aml))
        return;
    memmove(aml->data + mark + size, aml->data + mark, content);
    memcpy(aml->data + mark, bytes, size);
}

size_t aml_begin_scope(struct aml *aml, const char *path)
{
    size_t mark;

    put_byte(aml, OP_SCOPE);
    mark = aml->used;
    put_name(aml, path);
    return mark;
}

size_t aml_begin_device(struct aml *aml, const char *name)
{
    size_t mark;

    put_byte(aml, OP_EXT);
    put_byte(aml, OP_EXT_DEVICE);
    mark = aml->used;
    put_name(aml, name);
    return mark;
}

static void begin_name(struct aml *aml, const char *name)
{
    put_byte(aml, OP_NAME);
    put_name(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint32_t value)
{
    begin_name(aml, name);
    put_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *value)
{
    begin_name(aml, name);
    put_byte(aml, OP_STRING);
    put(aml, value, strlen(value) + 1);
}

static uint32_t hex_digit(char c)
{
    return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* 19.3.4: five bits a letter, four a digit, the whole in big-endian order. */
void aml_name_eisaid(struct aml *aml, const char *name, const char *id)
{
    uint32_t value = 0;
    uint8_t bytes[4];

    assert(strlen(id) == 7);
    for (unsigned i = 0; i < 3; i++)
        value = value << 5 | (uint32_t)(id[i] - '@');
    for (unsigned i = 3; i < 7; i++)
        value = value << 4 | hex_digit(id[i]);
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (24 - 8 * i));
    begin_name(aml, name);
    put_byte(aml, OP_DWORD);
    put(aml, bytes, 4);
}

void aml_name_package(struct aml *aml, const char *name, const uint32_t *value,
                      unsigned count)
{
    size_t mark;

    begin_name(aml, name);
    put_byte(aml, OP_PACKAGE);
    mark = aml->used;
    put_byte(aml, (uint8_t)count);
    for (unsigned i = 0; i < count; i++)
        put_integer(aml, value[i]);
    aml_end(aml, mark);
}

static uint8_t *add_resource(struct aml_resources *res, size_t size)
{
    uint8_t *to = res->data + res->used;

    assert(size <= AML_MAX_RESOURCES - res->used);
    res->used += size;
    return to;
}

void aml_memory(struct aml_resources *res, uint32_t base, uint32_t size)
{
    uint8_t *to = add_resource(res, 12);

    to[0] = RES_MEMORY32_FIXED;
    put16(to + 1, 9);
    to[3] = 1; /* writable */
    put32(to + 4, base);
    put32(to + 8, size);
}

void aml_io(struct aml_resources *res, uint16_t port, uint8_t count)
{
    uint8_t *to = add_resource(res, 8);

    to[0] = RES_IO;
    to[1] = 1; /* all 16 address bits are decoded */
    put16(to + 2, port);
    put16(to + 4, port);
    to[6] = 1; /* alignment */
    to[7] = count;
}

void aml_interrupt(struct aml_resources *res, uint32_t gsi, bool shared)
{
    uint8_t *to = add_resource(res, 9);

    to[0] = RES_INTERRUPT;
    put16(to + 1, 6);
    to[3] = (uint8_t)(INTERRUPT_CONSUMER | INTERRUPT_EDGE |
                      (shared ? INTERRUPT_SHARED : 0));
    to[4] = 1; /* one number */
    put32(to + 5, gsi);
}

void aml_name_resources(struct aml *aml, const struct aml_resources *res)
{
    const uint8_t end[] = { RES_END, 0 }; /* 0: no checksum */
    size_t mark;

    begin_name(aml, "_CRS");
    put_byte(aml, OP_BUFFER);
    mark = aml->used;
    put_integer(aml, (uint32_t)(res->used + sizeof end));
    put(aml, res->data, res->used);
    put(aml, end, sizeof end);
    aml_end(aml, mark);
}
