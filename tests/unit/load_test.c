/*
 * The images of a VM: read once, and the same at every boot whatever becomes of
 * the files.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "boot/bytes.h"
#include "tests/unit/folder.h"
#include "tests/unit/ram.h"
#include "vmm/vm.h"

#define MIB  0x100000u
#define TEXT 0x200000u

static struct folder folder;
static char *const kernel = folder.file[0], *const initrd = folder.file[1];
static const char *const other = folder.file[2];
static struct husk_vm vm;
static char no_words[] = "";

static void setup(void)
{
    folder_init(&folder);
    memset(&vm, 0, sizeof vm);
    ram_init(&vm.mem, 16 * MIB, 0, 0);
    vm.config.memory = 16 * MIB;
    vm.config.cpus = 1;
    vm.append = no_words;
    vm.kernel = kernel;
    vm.initrds[0] = vm.initrds[1] = initrd;
}

static void teardown(void)
{
    vm_free_images(&vm);
    ram_fini(&vm.mem);
    folder_fini(&folder);
}

TestSuite(load, .init = setup, .fini = teardown, .timeout = 20);

/* A kernel of one segment, which is four times this byte. */
static void write_kernel(const char *path, uint8_t byte)
{
    uint8_t image[0x200] = "\177ELF\2\1\1";

    put16(image + 16, 2);
    put16(image + 18, 62);
    put32(image + 20, 1);
    put64(image + 24, TEXT);
    put64(image + 32, 64);
    put16(image + 52, 64);
    put16(image + 54, 56);
    put16(image + 56, 1);
    put32(image + 64, 1);
    put64(image + 64 + 8, 0x100);
    put64(image + 64 + 24, TEXT);
    put64(image + 64 + 32, 4);
    put64(image + 64 + 40, 0x1000);
    memset(image + 0x100, byte, 4);
    folder_write(path, image, sizeof image);
}

static void read_images(void)
{
    struct husk_err err;

    cr_assert_eq(vm_read_images(&vm, &err), 0, "%s", err.text);
}

/* Loads, and returns where the kernel is. */
static const uint8_t *load(bool fresh)
{
    struct boot_entry entry;
    struct husk_err err;

    cr_assert_eq(vm_load(&vm, fresh, &entry, &err), 0, "%s", err.text);
    cr_assert_eq(entry.entry, TEXT);
    return mem_at(&vm.mem, TEXT, 4);
}

static bool in_memory(const char *text)
{
    const struct mem_region *ram = &vm.mem.region[0];

    return memmem(ram->host, ram->size, text, strlen(text)) != NULL;
}

Test(load, given_images_boot_each_time)
{
    vm.config.reset_again = true;
    vm.n_initrds = 2;
    write_kernel(kernel, 0x11);
    folder_write(initrd, "first initrd", 12);
    read_images();

    /* replaced before the first boot, written to before the second */
    write_kernel(other, 0x22);
    cr_assert_eq(rename(other, kernel), 0);
    cr_assert_arr_eq(load(true), "\x11\x11\x11\x11", 4);
    cr_assert(in_memory("first initrdfirst initrd"));
    memset(vm.mem.region[0].host, 0, 16 * MIB);
    write_kernel(kernel, 0x33);
    folder_write(initrd, "second initrd", 13);
    cr_assert_arr_eq(load(false), "\x11\x11\x11\x11", 4);
    cr_assert(in_memory("first initrdfirst initrd"));
    cr_assert_eq(unlink(kernel), 0);
    cr_assert_arr_eq(load(false), "\x11\x11\x11\x11", 4);
}

Test(load, images_are_kept_for_a_reset_only)
{
    vm.n_initrds = 1;
    write_kernel(kernel, 0x11);
    folder_write(initrd, "initrd", 6);
    read_images();
    load(true);
    cr_assert_null(vm.images.kernel.data);
    cr_assert_null(vm.images.initrd[0].data);

    vm.config.reset_again = true;
    read_images();
    load(false);
    cr_assert_not_null(vm.images.kernel.data);
    cr_assert_not_null(vm.images.initrd[0].data);
}

static void check_unread(int code, const char *words)
{
    struct husk_err err;

    cr_assert_eq(vm_read_images(&vm, &err), code, "%s", err.text);
    cr_assert_not_null(strstr(err.text, words), "%s", err.text);
    cr_assert_null(vm.images.kernel.data);
    cr_assert_null(vm.images.initrd[0].data);
    cr_assert_null(vm.images.initrd[1].data);
}

Test(load, initrds_share_guest_memory)
{
    vm.n_initrds = 2;
    write_kernel(kernel, 0x11);
    folder_write(initrd, "x", 1);
    cr_assert_eq(truncate(initrd, 8 * MIB), 0);
    read_images();
    vm_free_images(&vm);
    cr_assert_eq(truncate(initrd, 8 * MIB + 1), 0);
    check_unread(-EFBIG, "file1 has 8388609 bytes, at most 8388607 are "
                         "possible: give the guest more memory");
    unlink(initrd);
    check_unread(-ENOENT, "file1: No such file");
}

/* Debug information is in a kernel's file, and is not loaded. */
Test(load, kernel_file_may_be_larger_than_guest_memory)
{
    write_kernel(kernel, 0x11);
    cr_assert_eq(truncate(kernel, 17 * MIB), 0);
    read_images();
    cr_assert_arr_eq(load(true), "\x11\x11\x11\x11", 4);
    cr_assert_eq(truncate(kernel, 1040 * (off_t)MIB + 1), 0);
    check_unread(-EFBIG, "file0 has 1090519041 bytes, at most 1090519040 "
                         "are possible: strip its debug information");
}

/* The API itself: no /dev/kvm is opened before the files are there. */
Test(load, start_refuses_a_fifo)
{
    struct husk_config config = { .size = sizeof config,
                                  .memory = 16 * MIB,
                                  .kernel = kernel };
    struct ev_loop *loop = ev_loop_new(0);
    struct husk_vm *made;
    struct husk_err err;

    cr_assert_eq(mkfifo(kernel, 0600), 0);
    cr_assert_eq(husk_vm_create(&made, loop, &config, &err), 0);
    alarm(10);
    cr_assert_eq(husk_vm_start(made, &err), -EINVAL);
    alarm(0);
    cr_assert_not_null(strstr(err.text, "file0 is a FIFO or pipe"), "%s",
                       err.text);
    husk_vm_destroy(made);
    ev_loop_destroy(loop);
}
