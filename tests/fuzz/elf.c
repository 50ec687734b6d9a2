/*
 * ELF kernels: the loader alone, whose result is compared with the file segment
 * by segment, and whose refusal must leave memory alone; then the whole of
 * image_boot() with the same file.
 *
 * Input: a board and a choice of tables, then, from byte 64 on, the file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/arch.h"
#include "boot/bytes.h"
#include "boot/elf.h"
#include "boot/image.h"
#include "tests/fuzz/ram.h"

#define BOARD 64u
#define MARK  0xa5u

static void check_segment(const uint8_t *image, const uint8_t *ph, bool fresh)
{
    uint64_t offset = get64(ph + 8), paddr = get64(ph + 24);
    uint64_t filesz = get64(ph + 32), memsz = get64(ph + 40);
    const uint8_t *at;

    if (get32(ph) != 1 || memsz == 0)
        return;
    at = mem_at(ram_mem(), paddr, memsz);
    CHECK(at != NULL && paddr >= 0x100000 && filesz <= memsz);
    CHECK(!memcmp(at, image + offset, filesz));
    for (uint64_t i = filesz; i < memsz; i++)
        CHECK_EQ(at[i], fresh ? MARK : 0);
}

static uint64_t padded(uint64_t size, uint64_t align)
{
    return (size + align - 1) / align * align;
}

/* Notes as the loader must have found them, each of them whole. */
static void check_notes(const uint8_t *image, const uint8_t *ph,
                        struct elf_info *seen)
{
    uint64_t left = get64(ph + 32), align = get64(ph + 48) == 8 ? 8 : 4;
    const uint8_t *note;

    if (get32(ph) != 4)
        return;
    for (note = image + get64(ph + 8); left >= 12;) {
        uint32_t namesz = get32(note), descsz = get32(note + 4);
        uint64_t desc = padded(12 + (uint64_t)namesz, align), all;

        CHECK(desc <= left && descsz <= left - desc);
        if (namesz == 6 && !memcmp(note + 12, "Linux", 6))
            seen->is_linux = true;
        if (namesz == 4 && !memcmp(note + 12, "Xen", 4) &&
            get32(note + 8) == 18) {
            CHECK(descsz == 4 || descsz == 8);
            seen->has_note = true;
            seen->note_entry =
                descsz == 4 ? get32(note + desc) : get64(note + desc);
        }
        all = padded(desc + descsz, align);
        if (all > left)
            break;
        note += all;
        left -= all;
    }
}

/* The loader reads notes, segments and entry; look at the first two again. */
static void check_loaded(const uint8_t *image, size_t size, bool fresh,
                         const struct elf_info *info)
{
    uint64_t phoff = get64(image + 32);
    unsigned n = get16(image + 56);
    struct elf_info seen = { 0 };

    CHECK(size >= 64 && phoff <= size && n * 56 <= size - phoff);
    for (unsigned i = 0; i < n; i++) {
        check_segment(image, image + phoff + 56 * i, fresh);
        check_notes(image, image + phoff + 56 * i, &seen);
    }
    CHECK_EQ(info->is_linux, seen.is_linux);
    CHECK_EQ(info->has_note, seen.has_note);
    CHECK_EQ(info->note_entry, seen.note_entry);
    CHECK(mem_at(ram_mem(), info->entry, 1) != NULL);
    CHECK(info->entry < info->end);
    CHECK(mem_at(ram_mem(), info->end, 0) != NULL);
    if (info->has_note)
        CHECK(info->note_entry < info->end);
}

static void load_alone(const uint8_t *image, size_t size, bool fresh)
{
    struct husk_err err = { 0 };
    struct elf_info info;
    int rc;

    ram_fill(MARK);
    rc = elf_load(ram_mem(), &boot_arch_elf, image, size, fresh, &info, &err);
    if (rc == 0) {
        check_loaded(image, size, fresh, &info);
    } else {
        CHECK(rc == -ENOEXEC || rc == -ENOMEM);
        CHECK(err.code == rc && err.text[0]);
        CHECK(ram_is(MARK));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size }, setup = input_cut(&in, BOARD);
    uint8_t flags = input_u8(&setup);
    size_t file_size = input_left(&in);
    uint8_t *file = ram_copy(in.at, file_size);
    struct file kernel = { "kernel", file, file_size };
    struct file initrd = { "initrd", data, size };
    struct boot_board board;
    struct boot_entry entry;
    struct husk_err err = { 0 };
    int rc;

    ram_board(&board, &setup);
    load_alone(file, file_size, flags & 1);
    ram_fill(0);
    rc = image_boot(&board, &kernel, &initrd, size ? flags >> 1 & 1 : 0,
                    flags >> 2 & 7, flags & 1, &entry, &err);
    if (rc == 0)
        ram_check_entry(&entry);
    else
        CHECK(err.code == rc && err.text[0]);
    free(file);
    return 0;
}
