# Stock Linux guests. Included by the Makefile.
#
# make linux       boot Debian's kernel into a shell (KERNEL=cloud: that one)
# make check-lab   test with stock kernels (CASES='net_*': only those)
#
# What is fetched and built for them is kept in $(CACHE). Both nest in QEMU's
# emulator where this host's KVM cannot run Linux; LAB=nested or LAB=direct
# decides instead.
CACHE ?= cache
KERNEL ?= generic
CASES ?= *

# QEMU is needed for nesting alone, the rest on any host.
LINUX_DEPS = cpio e2fsprogs iproute2 qemu-system-x86
LAB_DEPS = $(LINUX_DEPS) qemu-system-common qemu-utils make flex bison bc \
  perl libelf-dev xz-utils

# A host without a usable /dev/kvm has one in QEMU's emulator, with a kernel of
# Debian's.
ifneq ($(shell test -r /dev/kvm && test -w /dev/kvm && echo kvm),kvm)
KVM_DEPS = cpio qemu-system-x86
KVM_FETCH = guests/linux/fetch $(CACHE) generic
endif

check-lab:
	@$(MAKE) --no-print-directory deps DEPS='$(DEPS) $(LAB_DEPS)'
	@guests/linux/fetch $(CACHE) generic cloud
	@guests/linux/kernel $(CACHE)
	@$(MAKE) --no-print-directory all $(O)/tests/husk-peer
	@tests/lab/run $(O) $(CACHE) '$(CASES)'

linux:
	@$(MAKE) --no-print-directory deps DEPS='$(DEPS) $(LINUX_DEPS)'
	@guests/linux/fetch $(CACHE) $(KERNEL) generic
	@$(MAKE) --no-print-directory all
	@guests/linux/shell $(O) $(CACHE) $(KERNEL)

.PHONY: check-lab linux
