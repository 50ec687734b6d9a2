# Unit, back-end and guest tests. Included by the Makefile.
CHECK_DEPS = libcriterion-dev device-tree-compiler acpica-tools strace \
  qemu-utils qemu-system-common clang-format g++

UNIT = elf fdt params bzimage initrd acpi mptable image load ring inflight runtime \
  backend_loop backend_block backend_console backend_net
UNIT_HELP = tests/unit/hangs.c tests/unit/driver.c tests/unit/vu_client.c
UNIT += helper wire probe answer frontend resume life life_return life_command life_request relay transport queue race mailbox recovery config \
  shm mem file bus \
  words names spec peer requests uart channel child console text options
UNIT_HELP += tests/unit/fuse.c tests/unit/far.c tests/unit/model.c tests/unit/interview.c \
  tests/unit/rig.c tests/unit/spy.c tests/unit/life.c vmm/cmd/text.c vmm/cmd/values.c
UNIT += sysevent end log abi vm

# On KVM: this host's, or where it has none, the lab's.
GUEST_TESTS = hello console devices exits failure tree library api strict faulty
GUEST_TESTS += qsd virtiofs bundled config reset reconnect comeback orphan fault shm
GUEST_TESTS += timeline images
GUEST_HELP = tests/guest/embed.c tests/guest/run.c tests/guest/harness.c tests/guest/disk.c

# husk-block on an io_uring that the test completes as it likes.
UNIT += backend_uring
UNIT_HELP += tests/unit/blk.c
$(O)/tests/unit: | $(O)/tests/husk-block-held
$(O)/tests/husk-block-held: $(call obj,$(RUNTIME) $(BLOCK) \
  devices/backends/block.c tests/unit/uring.c)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ -lev -lm

# The thread sanitizer leaves Criterion's arena no place.
CRITERION = -lcriterion
ifeq ($(SAN),thread)
CRITERION =
$(O)/tests/unit $(O)/tests/peer-selftest $(O)/tests/guest: $(O)/obj/tests/plain.o
endif

# Objects, since units call what the archive hides. The back-ends' ring code is
# tested here too; none of it is in libhusk.
$(O)/tests/unit: $(UNIT:%=$(O)/obj/tests/unit/%_test.o) \
  $(call obj,$(UNIT_HELP) $(RUNTIME) $(LIB))
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ $(CRITERION) -lfdt -lev -lm

# The test back-end shares nothing with devices/: it judges the front-end.
PEER = wire report options help memory output form order order_ring device \
  ring split packed channel shm main
PEER_TEST = front fault_test peer_test serve_test shm_test

$(O)/tests/husk-peer: $(PEER:%=$(O)/obj/tests/peer/%.o)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^

$(O)/tests/peer-selftest: $(PEER_TEST:%=$(O)/obj/tests/peer/%.o) \
  $(O)/obj/tests/unit/hangs.o $(O)/tests/husk-peer
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $(filter %.o,$^) $(CRITERION)

$(O)/tests/guest: $(GUEST_TESTS:%=$(O)/obj/tests/guest/%_test.o) \
  $(call obj,$(GUEST_HELP)) $(O)/libhusk.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ $(CRITERION) -ljansson -lfdt -lev -lm

CHECKS = $(addprefix $(O)/tests/,unit peer-selftest $(EMBED:%=embed/%) guest)
check:
	@$(MAKE) --no-print-directory deps DEPS='$(DEPS) $(CHECK_DEPS) $(KVM_DEPS)'
	@$(KVM_FETCH)
	@$(MAKE) --no-print-directory $(if $(SAN),,lint) check-built

# gcc 12's thread sanitizer finds its place only where addresses differ in no more
# than 28 bits.
SPREAD = $(shell cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)
ifeq ($(SAN),thread)
NO_SPREAD = $(if $(shell [ $(SPREAD) -le 28 ] || echo 1),setarch -R)
endif

check-built: all $(CHECKS) $(O)/tests/husk-peer
	@$(NO_SPREAD) tests/check $(CACHE) $(CHECKS)

.PHONY: check check-built
