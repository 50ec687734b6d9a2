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

all: $(O)/husk backends guests
backends: $(BACKENDS:%=$(O)/backends/husk-%)

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

-include $(shell find $(O) -name '*.d' 2>/dev/null)

# Boot a guest that drives a probed device, on a machine that has nothing yet.
run:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	$(O)/husk run $(O)/guests/devices.elf -d exec=$(O)/backends/husk-rng

include guests/guests.mk tests/bench/bench.mk tests/fuzz/fuzz.mk
include tests/lab/lab.mk

deps:
	@missing=; for package in $(DEPS); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | \
	    grep -q 'ok installed' || missing="$$missing $$package"; done; \
	[ -z "$$missing" ] && exit; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y \
	  --no-install-recommends $$missing

lint: $(O)/libhusk.a
	tests/lint $<

clean:
	rm -rf $(O)

.PHONY: all backends check check-built run deps lint clean FORCE
.SECONDARY:
