/*
 * bzImages: the input is patched over a well-formed header, so that most of it
 * is right, and loaded; then the same through image_boot(), with initrds.
 *
 * Input: a board, a count of patches of three bytes (offset in the header,
 * value), sizes, and the rest is code.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/bytes.h"
#include "boot/bzimage.h"
#include "boot/image.h"
#include "tests/fuzz/ram.h"

#define BOARD     64u
#define MARK      0xa5u
#define SETUP     (2u * 512u)
#define CODE      0x400u
#define FILE_SIZE (SETUP + CODE + 16)
#define PREF      0x104000u

static void make(uint8_t *file)
{
    memset(file, 0x11, FILE_SIZE);
    file[0x1f1] = 1;
    put32(file + 0x1f4, CODE / 16);
    put16(file + 0x1fe, 0xaa55);
    file[0x201] = 0x6a;
    memcpy(file + 0x202, "HdrS", 4);
    put16(file + 0x206, 0x020f);
    file[0x211] = 1;
    put32(file + 0x22c, 0x7fffffff);
    put32(file + 0x230, 0x4000);
    put16(file + 0x236, 1);
    put32(file + 0x238, 2047);
    put32(file + 0x248, 0x300);
    put32(file + 0x24c, CODE - 0x300);
    put64(file + 0x258, PREF);
    put32(file + 0x260, 0x4000);
}

static void patch(uint8_t *file, struct input *in)
{
    unsigned n = input_u8(in) % 33;

    for (unsigned i = 0; i < n; i++) {
        size_t at = 0x1f0 + input_u8(in) % 0xa8;

        file[at] = input_u8(in);
    }
}

static void check_loaded(const uint8_t *file, size_t size,
                         const struct bzimage_info *info)
{
    uint64_t place = get64(file + 0x258);
    uint64_t code = 16 * (uint64_t)get32(file + 0x1f4);
    size_t setup = 512u * (file[0x1f1] ? file[0x1f1] + 1u : 5u);
    const uint8_t *at = mem_at(ram_mem(), place, get32(file + 0x260));
    const uint8_t *header = info->header;

    CHECK(at != NULL && place >= 0x100000);
    CHECK(setup <= size && code <= size - setup && code > 0x200);
    CHECK(!memcmp(at, file + setup, code));
    CHECK_EQ(info->entry, place + 0x200);
    CHECK_EQ(info->end, place + get32(file + 0x260));
    CHECK(header == file + 0x1f1);
    CHECK(info->header_size <= 0x290 - 0x1f1 &&
          0x1f1 + info->header_size <= size);
}

static void load_alone(const uint8_t *file, size_t size)
{
    struct husk_err err = { 0 };
    struct bzimage_info info;
    int rc;

    ram_fill(MARK);
    rc = bzimage_load(ram_mem(), file, size, &info, &err);
    if (rc == 0) {
        check_loaded(file, size, &info);
    } else {
        CHECK(rc == -ENOEXEC || rc == -ENOMEM);
        CHECK(err.code == rc && err.text[0]);
        CHECK(ram_is(MARK));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t large[0x12000];
    struct input in = { data, data + size }, setup = input_cut(&in, BOARD);
    uint8_t whole[FILE_SIZE], flags = input_u8(&setup);
    size_t file_size = FILE_SIZE;
    struct file kernel = { .name = "kernel" }, initrd[3];
    struct boot_board board;
    struct boot_entry entry;
    struct husk_err err = { 0 };
    uint8_t *file;
    int rc;

    make(whole);
    patch(whole, &in);
    if (flags & 2)
        file_size = input_u16(&in) % (FILE_SIZE + 1);
    for (unsigned i = 0; i < 3; i++)
        initrd[i] = (struct file){ "initrd", whole, input_u8(&in) ^ 1u };
    if (flags & 32) /* larger than memory, or than what the kernel left */
        initrd[0] =
            (struct file){ "initrd", large, input_u16(&in) % sizeof large };
    input_bytes(&in, whole + SETUP,
                input_left(&in) < CODE ? input_left(&in) : CODE);
    file = ram_copy(whole, file_size);
    kernel.data = file;
    kernel.size = file_size;

    ram_board(&board, &setup);
    load_alone(file, file_size);
    ram_fill(0);
    rc = image_boot(&board, &kernel, initrd, flags >> 6, flags >> 2 & 7,
                    flags & 1, &entry, &err);
    if (rc == 0)
        ram_check_entry(&entry);
    else
        CHECK(err.code == rc && err.text[0]);
    free(file);
    return 0;
}
