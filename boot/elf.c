/*
 * Little-endian ELF64 kernels by the System V ABI: segments go to their
 * physical addresses, nothing is relocated. All program headers are checked
 * before the first byte is copied. Refused are other classes, byte orders and
 * architectures, segments below the target's lowest address or outside RAM,
 * overlaps, and notes that end past their segment.
 */
#include "boot/elf.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "boot/bytes.h"
#include "vmm/machine/fail.h"

#define EHDR_SIZE 64u
#define PHDR_SIZE 56u
#define NOTE_SIZE 12u
#define PN_XNUM   0xffffu /* the real count is in a section header */
#define MAX_LOADS 64u     /* overlaps are looked for pair by pair */

enum { CLASS_64 = 2, DATA_LSB = 1, VERSION = 1 };
enum { TYPE_EXEC = 2, TYPE_DYN = 3 };
enum { PT_LOAD = 1, PT_NOTE = 4 };

struct load {
    unsigned index; /* of its program header */
    uint64_t offset, filesz;
    uint64_t vaddr, paddr, memsz;
};

/* One file on its way into memory. */
struct elf {
    const struct mem *mem;
    const struct elf_target *target;
    const uint8_t *image;
    size_t size;
    struct husk_err *err;
    unsigned n_loads;
    struct load load[MAX_LOADS];
};

bool elf_is(const void *image, size_t size)
{
    return size >= 4 && memcmp(image, "\177ELF", 4) == 0;
}

static const char *machine_name(unsigned machine)
{
    static const struct {
        unsigned machine;
        const char *name;
    } names[] = {
        { 3, "32-bit x86" },  { 8, "MIPS" },      { 20, "32-bit PowerPC" },
        { 21, "PowerPC" },    { 22, "s390" },     { 40, "32-bit Arm" },
        { 62, "x86_64" },     { 183, "aarch64" }, { 243, "RISC-V" },
        { 258, "LoongArch" },
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].machine == machine)
            return names[i].name;
    return "another architecture";
}

static int check_ident(const struct elf *elf)
{
    const uint8_t *e = elf->image;
    unsigned machine;

    if (!elf_is(e, elf->size))
        return fail(elf->err, -ENOEXEC,
                    "e_ident does not begin with 7f 45 4c 46: no ELF file");
    if (elf->size < EHDR_SIZE)
        return fail(elf->err, -ENOEXEC,
                    "the file ends after %zu bytes, an ELF64 header takes %u",
                    elf->size, EHDR_SIZE);

    /* The same two bytes in both classes and, if need be, the other order. */
    machine = e[5] == 2 ? (unsigned)e[18] << 8 | e[19] : get16(e + 18);
    if (machine != elf->target->machine)
        return fail(elf->err, -ENOEXEC,
                    "the kernel is for %s (e_machine %u), "
                    "this machine is %s (%u)",
                    machine_name(machine), machine, elf->target->name,
                    elf->target->machine);
    if (e[4] != CLASS_64)
        return fail(elf->err, -ENOEXEC,
                    "e_ident class is %u%s, 64-bit code (%u) is needed", e[4],
                    e[4] == 1 ? " (32-bit)" : "", CLASS_64);
    if (e[5] != DATA_LSB)
        return fail(elf->err, -ENOEXEC,
                    "e_ident data is %u%s, little-endian (%u) is needed", e[5],
                    e[5] == 2 ? " (big-endian)" : "", DATA_LSB);
    if (e[6] != VERSION)
        return fail(elf->err, -ENOEXEC, "e_ident version is %u, not %u", e[6],
                    VERSION);
    if (get32(e + 20) != VERSION)
        return fail(elf->err, -ENOEXEC, "e_version is %" PRIu32 ", not %u",
                    get32(e + 20), VERSION);
    return 0;
}

static int check_header(const struct elf *elf)
{
    const uint8_t *e = elf->image;
    unsigned type = get16(e + 16);
    uint64_t phoff = get64(e + 32);
    unsigned phnum = get16(e + 56);

    if (type != TYPE_EXEC && type != TYPE_DYN)
        return fail(elf->err, -ENOEXEC,
                    "e_type is %u%s, an executable (%u or %u) is needed", type,
                    type == 1 ? " (an object file)" : "", TYPE_EXEC, TYPE_DYN);
    if (get16(e + 52) != EHDR_SIZE)
        return fail(elf->err, -ENOEXEC, "e_ehsize is %u, not %u", get16(e + 52),
                    EHDR_SIZE);
    if (get16(e + 54) != PHDR_SIZE)
        return fail(elf->err, -ENOEXEC, "e_phentsize is %u, not %u",
                    get16(e + 54), PHDR_SIZE);
    if (phnum == 0 || phnum == PN_XNUM)
        return fail(elf->err, -ENOEXEC, "e_phnum is %u, 1 to %u are possible",
                    phnum, PN_XNUM - 1);
    if (phoff > elf->size || phnum * PHDR_SIZE > elf->size - phoff)
        return fail(elf->err, -ENOEXEC,
                    "e_phoff %#" PRIx64 " and %u program headers of %u bytes "
                    "end past the file's %zu bytes",
                    phoff, phnum, PHDR_SIZE, elf->size);
    return 0;
}

static int check_file_range(const struct elf *elf, unsigned index,
                            const uint8_t *ph)
{
    uint64_t offset = get64(ph + 8);
    uint64_t filesz = get64(ph + 32);

    if (offset > elf->size || filesz > elf->size - offset)
        return fail(elf->err, -ENOEXEC,
                    "segment %u: p_offset %#" PRIx64 " with p_filesz %#" PRIx64
                    " ends past the file's %#zx bytes",
                    index, offset, filesz, elf->size);
    return 0;
}

static int check_overlap(const struct elf *elf, const struct load *new)
{
    for (unsigned i = 0; i < elf->n_loads; i++) {
        const struct load *old = &elf->load[i];

        if (new->paddr < old->paddr + old->memsz &&
            old->paddr < new->paddr + new->memsz)
            return fail(elf->err, -ENOEXEC,
                        "segments %u (p_paddr %#" PRIx64 ", p_memsz %#" PRIx64
                        ") and %u (%#" PRIx64 ", %#" PRIx64 ") overlap",
                        old->index, old->paddr, old->memsz, new->index,
                        new->paddr, new->memsz);
    }
    return 0;
}

static int add_load(struct elf *elf, unsigned index, const uint8_t *ph)
{
    struct load load = {
        .index = index,
        .offset = get64(ph + 8),
        .vaddr = get64(ph + 16),
        .paddr = get64(ph + 24),
        .filesz = get64(ph + 32),
        .memsz = get64(ph + 40),
    };
    int rc;

    if (load.filesz > load.memsz)
        return fail(elf->err, -ENOEXEC,
                    "segment %u: p_filesz %#" PRIx64
                    " is above p_memsz %#" PRIx64,
                    index, load.filesz, load.memsz);
    if ((rc = check_file_range(elf, index, ph)) < 0)
        return rc;
    if (load.memsz == 0)
        return 0;
    if (load.paddr < elf->target->lowest)
        return fail(elf->err, -ENOEXEC,
                    "segment %u: p_paddr %#" PRIx64 " is below %#" PRIx64
                    ", where kernels begin",
                    index, load.paddr, elf->target->lowest);
    if (mem_at(elf->mem, load.paddr, load.memsz) == NULL)
        return fail(elf->err, -ENOMEM,
                    "segment %u: p_paddr %#" PRIx64 " with p_memsz %#" PRIx64
                    " lies outside the guest's %" PRIu64 " MiB of memory",
                    index, load.paddr, load.memsz, elf->mem->size >> 20);
    if ((rc = check_overlap(elf, &load)) < 0)
        return rc;
    if (elf->n_loads == MAX_LOADS)
        return fail(elf->err, -ENOEXEC,
                    "segment %u is one PT_LOAD more than the limit of %u",
                    index, MAX_LOADS);
    elf->load[elf->n_loads++] = load;
    return 0;
}

/* name is followed by a zero, which the note counts. */
static bool note_is(const uint8_t *note, const char *name)
{
    size_t length = strlen(name) + 1;

    return get32(note) == length && memcmp(note + NOTE_SIZE, name, length) == 0;
}

static int take_note(const struct elf *elf, const uint8_t *note,
                     const uint8_t *desc, struct elf_info *info)
{
    const struct elf_target *target = elf->target;
    uint32_t descsz = get32(note + 4);

    if (note_is(note, "Linux"))
        info->is_linux = true;
    if (target->note_vendor == NULL || !note_is(note, target->note_vendor) ||
        get32(note + 8) != target->note_type)
        return 0;
    if (descsz != 4 && descsz != 8)
        return fail(elf->err, -ENOEXEC,
                    "the %s note of type %" PRIu32 ": descsz is %" PRIu32
                    ", not 4 or 8",
                    target->note_vendor, target->note_type, descsz);
    info->has_note = true;
    info->note_entry = descsz == 4 ? get32(desc) : get64(desc);
    return 0;
}

/* The ABI's notes: namesz, descsz, type, name, desc, each padded to align. */
static int read_notes(const struct elf *elf, unsigned index, const uint8_t *ph,
                      struct elf_info *info)
{
    const uint8_t *notes = elf->image + get64(ph + 8);
    uint64_t size = get64(ph + 32);
    uint64_t align = get64(ph + 48) == 8 ? 8 : 4;
    uint64_t pos = 0;
    int rc;

    while (size - pos >= NOTE_SIZE) {
        uint64_t desc = pos + NOTE_SIZE + get32(notes + pos);
        uint64_t end;

        desc = (desc + align - 1) & ~(align - 1);
        end = desc + get32(notes + pos + 4);
        if (end > size)
            return fail(elf->err, -ENOEXEC,
                        "segment %u: the note at %#" PRIx64 " (namesz %" PRIu32
                        ", descsz %" PRIu32 ") ends past p_filesz %#" PRIx64,
                        index, pos, get32(notes + pos), get32(notes + pos + 4),
                        size);
        if ((rc = take_note(elf, notes + pos, notes + desc, info)) < 0)
            return rc;
        pos = (end + align - 1) & ~(align - 1);
        if (pos > size)
            break; /* the last one needs no padding */
    }
    return 0;
}

static int read_segments(struct elf *elf, struct elf_info *info)
{
    const uint8_t *ph = elf->image + get64(elf->image + 32);
    unsigned phnum = get16(elf->image + 56);
    int rc = 0;

    for (unsigned i = 0; i < phnum && rc == 0; i++, ph += PHDR_SIZE) {
        if (get32(ph) == PT_LOAD)
            rc = add_load(elf, i, ph);
        else if (get32(ph) == PT_NOTE &&
                 (rc = check_file_range(elf, i, ph)) == 0)
            rc = read_notes(elf, i, ph, info);
    }
    if (rc == 0 && elf->n_loads == 0)
        rc = fail(elf->err, -ENOEXEC,
                  "none of the %u program headers is a PT_LOAD with memory",
                  phnum);
    return rc;
}

static bool find_physical(const struct elf *elf, uint64_t paddr)
{
    for (unsigned i = 0; i < elf->n_loads; i++)
        if (paddr - elf->load[i].paddr < elf->load[i].memsz)
            return true;
    return false;
}

static int find_entry(const struct elf *elf, struct elf_info *info)
{
    uint64_t entry = get64(elf->image + 24);

    if (info->has_note && !find_physical(elf, info->note_entry))
        return fail(elf->err, -ENOEXEC,
                    "the %s note of type %" PRIu32 ": the entry %#" PRIx64
                    " lies in no segment",
                    elf->target->note_vendor, elf->target->note_type,
                    info->note_entry);
    if (find_physical(elf, entry)) {
        info->entry = entry;
        return 0;
    }
    for (unsigned i = 0; i < elf->n_loads; i++) {
        const struct load *load = &elf->load[i];

        if (entry - load->vaddr < load->memsz) {
            info->entry = load->paddr + (entry - load->vaddr);
            return 0;
        }
    }
    return fail(elf->err, -ENOEXEC,
                "e_entry %#" PRIx64 " lies in no segment, the first is at "
                "%#" PRIx64 " to %#" PRIx64,
                entry, elf->load[0].paddr,
                elf->load[0].paddr + elf->load[0].memsz);
}

static void copy(const struct elf *elf, const struct load *load, bool fresh)
{
    uint8_t *to = mem_at(elf->mem, load->paddr, load->memsz);

    memcpy(to, elf->image + load->offset, load->filesz);
    if (!fresh)
        memset(to + load->filesz, 0, load->memsz - load->filesz);
}

int elf_load(const struct mem *mem, const struct elf_target *target,
             const void *image, size_t size, bool fresh, struct elf_info *info,
             struct husk_err *err)
{
    struct elf elf = {
        .mem = mem, .target = target, .image = image, .size = size, .err = err
    };
    int rc;

    *info = (struct elf_info){ 0 };
    if ((rc = check_ident(&elf)) < 0 || (rc = check_header(&elf)) < 0 ||
        (rc = read_segments(&elf, info)) < 0 ||
        (rc = find_entry(&elf, info)) < 0)
        return rc;
    for (unsigned i = 0; i < elf.n_loads; i++) {
        uint64_t end = elf.load[i].paddr + elf.load[i].memsz;

        if (end > info->end)
            info->end = end;
        copy(&elf, &elf.load[i], fresh);
    }
    return 0;
}
