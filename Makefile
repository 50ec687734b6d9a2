# make            build everything            make run    boot a first guest
# make check      run the tests               make lint   house rules
# make bench      measure it                  make linux  boot Debian's kernel
# make check-lab  test with stock kernels, nested where KVM only emulates
# make fuzz SECONDS=60, each harness; fuzz-keep, fuzz-coverage
# SAN=1 sanitizers, WERROR=1 warnings are errors, V=1 show commands
O ?= build
ARCH := $(shell uname -m)
CC = gcc
Q := $(if $(V),,@)

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
  -Wmissing-prototypes -Wcast-qual -Wpointer-arith -Wwrite-strings -Wundef \
  -Wvla -Wformat=2 -Wimplicit-fallthrough
CFLAGS ?= -O2 -g
ALL = -std=c11 -D_GNU_SOURCE -Iinclude -I. -fvisibility=hidden -pthread \
  $(WARN) $(CFLAGS) -MMD -MP
ifdef WERROR
ALL += -Werror
endif
ifdef SAN
ALL += -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
else
STATIC = -static
endif

# Debian's packages: what a build needs, and what the tests add.
DEPS = gcc libc6-dev libfdt-dev libev-dev libjansson-dev liburing-dev
CHECK_DEPS = libcriterion-dev device-tree-compiler acpica-tools strace \
  qemu-utils qemu-system-common

LIB = $(addprefix vmm/,fail.c mem.c sys.c window.c bus.c vcpu.c machine.c \
  arch_$(ARCH).c console.c words.c spec.c child.c device.c connect.c \
  place.c reconnect.c load.c query.c vm.c end.c seat.c timeline.c) \
  $(addprefix devices/,wire.c frontend.c vring.c config.c channel.c probe.c shm.c \
  names.c transport.c uart.c power.c) boot/elf.c boot/fdt.c boot/params.c \
  boot/bzimage.c boot/initrd.c boot/aml.c boot/acpi.c boot/mptable.c \
  boot/rom.c boot/image.c

CMD = $(addprefix vmm/,main.c cmd_run.c cmd_probe.c cmd_record.c cmd_input.c)
CMD += vmm/cmd_timeline.c

RUNTIME = $(addprefix devices/backends/,runtime.c session.c message.c \
  uplink.c queue.c ring.c split.c packed.c memory.c listener.c \
  inflight.c)
BACKENDS = rng loop block console net

UNIT = elf fdt params bzimage initrd acpi mptable image ring inflight runtime \
  backend_loop backend_block backend_console backend_net
UNIT_HELP = tests/unit/driver.c tests/unit/vu_client.c
UNIT += wire probe answer frontend resume transport queue config shm mem bus \
  words names spec uart channel child console options
UNIT_HELP += tests/unit/far.c tests/unit/model.c tests/unit/interview.c \
  tests/unit/rig.c tests/unit/spy.c

# On real KVM; without one they are skipped.
GUEST_TESTS = hello console devices exits failure tree library api strict faulty
GUEST_TESTS += qsd virtiofs bundled config reset reconnect comeback orphan fault shm
GUEST_TESTS += timeline
GUEST_HELP = tests/guest/embed.c tests/guest/run.c tests/guest/harness.c tests/guest/disk.c

GUESTS = hello devices pvh config block fs hostile reboot
GUESTS += flow storm shm

all: $(O)/husk backends guests
backends: $(BACKENDS:%=$(O)/backends/husk-%)
guests: $(GUESTS:%=$(O)/guests/%.elf)

obj = $(patsubst %.c,$(O)/obj/%.o,$(1))

$(O)/obj/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -c -o $@ $<

$(O)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL)' | cmp -s - $@ || echo '$(CC) $(ALL)' > $@

$(O)/backends/husk-block: LIBS = -luring
$(O)/backends/husk-net: $(O)/obj/devices/backends/netfilter.o
$(O)/backends/husk-%: $(call obj,$(RUNTIME)) $(O)/obj/devices/backends/%.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) $(STATIC) -o $@ $^ -lev -lm $(LIBS)

$(O)/libhusk.a: $(call obj,$(LIB))
	$(Q)rm -f $@ && ar rcs $@ $^

# Static: a third of a dynamic program's start-up is spent on its libraries.
$(O)/husk: $(call obj,$(CMD)) $(O)/libhusk.a
	$(Q)$(CC) $(ALL) $(STATIC) -o $@ $^ -lev -lfdt -ljansson -lm

# The back-ends' ring code is tested here too; none of it is in libhusk.
$(O)/tests/unit: $(UNIT:%=$(O)/obj/tests/unit/%_test.o) \
  $(call obj,$(UNIT_HELP) $(RUNTIME)) $(O)/libhusk.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ -lcriterion -lfdt -lev -lm

# The test back-end shares nothing with devices/: it judges the front-end.
PEER = wire report options help memory output form order order_ring device \
  ring split packed channel shm main
PEER_TEST = front fault_test peer_test serve_test shm_test

$(O)/tests/husk-peer: $(PEER:%=$(O)/obj/tests/peer/%.o)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^

$(O)/tests/peer-selftest: $(PEER_TEST:%=$(O)/obj/tests/peer/%.o) \
  $(O)/tests/husk-peer
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $(filter %.o,$^) -lcriterion

$(O)/tests/guest: $(GUEST_TESTS:%=$(O)/obj/tests/guest/%_test.o) \
  $(call obj,$(GUEST_HELP)) $(O)/libhusk.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ -lcriterion -ljansson -lfdt -lev -lm

CHECKS = $(addprefix $(O)/tests/,unit peer-selftest guest)
check:
	@$(MAKE) --no-print-directory deps DEPS='$(DEPS) $(CHECK_DEPS)'
	@$(MAKE) --no-print-directory $(if $(SAN),,lint) check-built

check-built: all $(CHECKS) $(O)/tests/husk-peer
	@tests/check $(CHECKS)

# What husk promises of itself, measured: a table, and JSON in build/bench.
BENCH = main proc backend table start path bare load fleet size \
  host_$(ARCH)
BENCH_DEPS = strace gnuplot-nox qemu-system-x86 binutils

$(O)/tests/bench/bench: $(BENCH:%=$(O)/obj/tests/bench/%.o) \
  $(O)/obj/tests/unit/driver.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ -ljansson -lm

$(O)/tests/bench/many: $(O)/obj/tests/bench/many.o $(O)/libhusk.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $^ -lfdt -lev -lm

$(O)/tests/bench/floor: tests/bench/floor_$(ARCH).c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -ffreestanding -fno-stack-protector -nostdlib -static \
	  -no-pie -Wl,--build-id=none -o $@ $<

$(O)/tests/bench/whole: $(O)/obj/tests/bench/whole.o $(O)/libhusk.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) -o $@ $< -Wl,--whole-archive $(O)/libhusk.a \
	  -Wl,--no-whole-archive -lfdt -lev -lm

bench:
	@$(MAKE) --no-print-directory deps DEPS='$(DEPS) $(BENCH_DEPS)'
	@$(MAKE) --no-print-directory all \
	  $(addprefix $(O)/tests/bench/,bench many floor whole)
	$(O)/tests/bench/bench $(O)

# Guests are freestanding; what one does not use is left out of its image.
GUEST_RUNTIME = start boot exit interrupts memory option packed print queue \
  split string time tree uart virtio
GUEST_FLAGS = -std=c11 -O2 $(WARN) $(if $(WERROR),-Werror) -MMD -MP \
  -ffreestanding -fno-builtin -mgeneral-regs-only -mno-red-zone -fno-pie \
  -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
  -ffunction-sections -fdata-sections
GUEST_LINK = -nostdlib -static -no-pie -Wl,-T,guests/guest.ld \
  -Wl,--gc-sections,--build-id=none,-z,max-page-size=4096,-z,noexecstack

$(O)/guests/obj/%.o: guests/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(O)/guests/obj/%.o: guests/%.S Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(O)/guests/runtime.a: $(GUEST_RUNTIME:%=$(O)/guests/obj/%.o)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/guests/%.elf: $(O)/guests/obj/%.o $(O)/guests/runtime.a guests/guest.ld
	$(Q)$(CC) $(GUEST_LINK) -o $@ $(filter %.o %.a,$^)

$(O)/guests/pvh.elf: $(O)/guests/obj/pvh_start.o
$(O)/guests/storm.elf: $(O)/guests/obj/storm_start.o
$(O)/guests/hostile.elf: $(O)/guests/obj/hostile_access.o

-include $(shell find $(O) -name '*.d' 2>/dev/null)

# Boot a guest that drives a probed device, on a machine that has nothing yet.
run:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	$(O)/husk run $(O)/guests/devices.elf -d exec=$(O)/backends/husk-rng

include tests/lab/lab.mk

deps:
	@missing=; for package in $(DEPS); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | \
	    grep -q 'ok installed' || missing="$$missing $$package"; done; \
	[ -z "$$missing" ] && exit; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y \
	  --no-install-recommends $$missing

# libFuzzer on what guests, back-ends and files can reach without a KVM. The
# code under test has a clock and a poll() of the harnesses': deadlines pass at
# once.
FUZZ = replies requests registers elf bzimage tables options rings
FUZZ_DEPS = clang libclang-rt-14-dev libc6-dev libfdt-dev llvm
FUZZ_HELP = $(addprefix tests/fuzz/,fuzz.c order.c liar.c mmio.c ram.c \
  walk.c rings_driver.c rings_death.c)
FUZZ_CODE = $(filter devices/% boot/%,$(LIB)) $(addprefix vmm/,fail.c mem.c \
  sys.c window.c words.c spec.c) $(addprefix devices/backends/,ring.c split.c \
  packed.c memory.c inflight.c)
FUZZ_FLAGS = -std=c11 -D_GNU_SOURCE -Iinclude -I. -pthread $(WARN) -g -O1 \
  -fno-omit-frame-pointer $(FUZZ_KIND) $(if $(WERROR),-Werror)
FUZZ_KIND = -fsanitize=address,undefined -fno-sanitize-recover=undefined
SECONDS = 60

$(O)/fuzz/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FUZZ_FLAGS)' | cmp -s - $@ || echo '$(FUZZ_FLAGS)' > $@

$(O)/fuzz/obj/tests/%.o: tests/%.c $(O)/fuzz/flags
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(O)/fuzz/obj/%.o: %.c $(O)/fuzz/flags
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP \
	  -Dpoll=fuzz_poll -Dclock_gettime=fuzz_clock_gettime -c -o $@ $<

$(O)/fuzz/code.a: $(patsubst %.c,$(O)/fuzz/obj/%.o,$(FUZZ_CODE) $(FUZZ_HELP))
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/fuzz/%: $(O)/fuzz/obj/tests/fuzz/%.o $(O)/fuzz/code.a
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ -lfdt -lm

fuzz:
	@$(MAKE) --no-print-directory deps DEPS='$(FUZZ_DEPS)'
	@$(MAKE) --no-print-directory $(FUZZ:%=$(O)/fuzz/%)
	@tests/fuzz/run $(O)/fuzz $(SECONDS) $(FUZZ)

# The kept inputs, made few again after a search; and the lines they reach.
fuzz-keep: $(FUZZ:%=$(O)/fuzz/%)
	@tests/fuzz/run $(O)/fuzz keep $(FUZZ)

fuzz-coverage:
	@$(MAKE) --no-print-directory deps DEPS='$(FUZZ_DEPS)'
	@$(MAKE) --no-print-directory O=$(O)/coverage \
	  FUZZ_KIND='-fprofile-instr-generate -fcoverage-mapping' \
	  $(FUZZ:%=$(O)/coverage/fuzz/%)
	@tests/fuzz/run $(O)/coverage/fuzz coverage $(FUZZ)

.PHONY: fuzz fuzz-keep fuzz-coverage

lint: $(O)/libhusk.a
	tests/lint $<

clean:
	rm -rf $(O)

.PHONY: all backends guests check check-built run deps lint clean FORCE
.SECONDARY:
