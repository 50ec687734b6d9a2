# make            build everything            make run    boot a first guest
# make check      run the tests               make lint   house rules
# make bench      measure it                  make linux  boot Debian's kernel
# make check-lab  test with stock kernels, nested where KVM only emulates
# make fuzz SECONDS=60, each harness; fuzz-keep, fuzz-coverage
# SAN=1 address and undefined-behaviour sanitizers, SAN=thread the thread
# sanitizer, WERROR=1 warnings are errors, V=1 show commands
O ?= build
ARCH := $(shell uname -m)
CC = gcc
CXX = g++
OBJCOPY = objcopy
Q := $(if $(V),,@)

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
  -Wmissing-prototypes -Wcast-qual -Wpointer-arith -Wwrite-strings -Wundef \
  -Wvla -Wformat=2 -Wimplicit-fallthrough
CFLAGS ?= -O2 -g
ALL = -std=c11 -D_GNU_SOURCE -Iinclude -I. -fvisibility=hidden -fPIC -pthread \
  $(WARN) $(CFLAGS) -MMD -MP
ifdef WERROR
ALL += -Werror
endif
# The thread sanitizer does not see fences; rings are atomic besides.
ifeq ($(SAN),thread)
SANITIZE = -fsanitize=thread -Wno-tsan
else ifdef SAN
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif

# Programs that are shipped are static: a dynamic one spends a third of its
# start-up on its libraries.
HARDEN = -fstack-protector-strong $(HARDEN_$(ARCH)) $(if $(filter -O%, \
  $(filter-out -O0,$(CFLAGS))),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDEN_x86_64 = -fcf-protection
HARDEN_aarch64 = -mbranch-protection=standard
ifdef SAN
ALL += $(SANITIZE) -fno-omit-frame-pointer
else
ALL += $(HARDEN)
SHIP = -static-pie -Wl,-z,relro,-z,now,-z,noexecstack
endif

# Debian's packages: what a build needs.
DEPS = gcc libc6-dev libfdt-dev libev-dev libjansson-dev liburing-dev

BOOT_x86_64 = arch_x86_64.c fdt_x86_64.c params_x86_64.c rom_x86_64.c \
  acpi_x86_64.c mptable_x86_64.c aml.c bzimage.c

LIB = $(addprefix vmm/machine/,fail.c file.c mem.c sys.c sysevent.c window.c bus.c \
  vcpu.c machine.c $(addsuffix _$(ARCH).c,arch board vcpu cache))
LIB += $(addprefix vmm/link/,words.c spec.c peer.c sweep.c keeper.c child.c lines.c relay.c link.c \
  requests.c recovery.c guest.c device.c place.c)
LIB += $(addprefix vmm/,abi.c console.c log.c end.c config.c board.c load.c boot.c \
  finish.c query.c timeline.c vm.c)
LIB += $(addprefix devices/,wire.c frontend.c vring.c config.c channel.c \
  probe.c shm.c foreign.c helper.c names.c transport.c queues.c mailbox.c \
  identity.c uart.c power.c)
LIB += $(addprefix boot/,image.c elf.c initrd.c fdt.c tree.c stranger.c \
  $(BOOT_$(ARCH)))

CMD = $(addprefix vmm/cmd/,text.c say.c values.c options.c help.c output.c \
  loop.c timeline.c record.c input.c run.c probe.c main.c)

RINGS = $(addprefix devices/backends/,memory.c chain.c ring_state.c gather.c \
  split.c packed.c record.c record_split.c record_packed.c inflight.c ring.c)
RUNTIME = $(RINGS) $(addprefix devices/backends/,complain.c backend.c queue.c \
  uplink.c listener.c session.c request.c request_memory.c request_ring.c \
  message.c runtime.c)
BACKENDS = rng loop block console net

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
BLOCK = $(addprefix devices/backends/,block_request.c disk.c)
$(O)/backends/husk-block: $(call obj,$(BLOCK))
$(O)/backends/husk-console: $(call obj,$(addprefix devices/backends/,backlog.c \
  terminal.c))
$(O)/backends/husk-net: $(call obj,$(addprefix devices/backends/,netfilter.c \
  mac.c stream.c tap.c))
$(O)/backends/husk-%: $(call obj,$(RUNTIME)) $(O)/obj/devices/backends/%.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL) $(SHIP) -o $@ $^ -lev -lm $(LIBS)

# One object, of which a program sees husk_* and nothing else: its own names and
# the library's never meet.
$(O)/libhusk.a: $(call obj,$(LIB))
	$(Q)$(CC) -r -nostdlib -o $(@:.a=.o) $^
	$(Q)$(OBJCOPY) --wildcard --keep-global-symbol='husk_*' $(@:.a=.o)
	$(Q)rm -f $@ && ar rcs $@ $(@:.a=.o)

$(O)/husk: $(call obj,$(CMD)) $(O)/libhusk.a
	$(Q)$(CC) $(ALL) $(SHIP) -o $@ $^ -lev -lfdt -ljansson -lm

-include $(shell find $(O) -name '*.d' 2>/dev/null)

# Boot a guest that drives a probed device, on a machine that has nothing yet.
run:
	@$(MAKE) --no-print-directory deps DEPS='$(DEPS) $(KVM_DEPS)'
	@$(KVM_FETCH)
	@$(MAKE) --no-print-directory all
	tests/lab/on-kvm $(O)/run $(CACHE) \
	  $(O)/husk run $(O)/guests/devices.elf -d exec=$(O)/backends/husk-rng

include guests/guests.mk tests/embed/embed.mk tests/tests.mk
include tests/bench/bench.mk tests/fuzz/fuzz.mk tests/lab/lab.mk

deps:
	@missing=; for package in $(DEPS); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | \
	    grep -q 'ok installed' || missing="$$missing $$package"; done; \
	[ -z "$$missing" ] && exit; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y \
	  --no-install-recommends $$missing

lint: $(O)/libhusk.a $(O)/husk backends
	@tests/lint $< '$(call obj,$(LIB))' $(O)/husk \
	  $(BACKENDS:%=$(O)/backends/husk-%)

clean:
	rm -rf $(O)

.PHONY: all backends run deps lint clean FORCE
.SECONDARY:
