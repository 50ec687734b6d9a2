# libFuzzer on what guests, back-ends and files can reach without a KVM. The
# code under test has a clock and a poll() of the harnesses': deadlines pass at
# once.
FUZZ = replies requests registers elf bzimage tables options rings life
FUZZ_DEPS = clang libclang-rt-14-dev libc6-dev libfdt-dev llvm xz-utils
FUZZ_HELP = $(addprefix tests/fuzz/,fuzz.c order.c liar.c mmio.c ram.c \
  walk.c rings_driver.c rings_death.c)
FUZZ_CODE = $(filter devices/% boot/%,$(LIB)) $(addprefix vmm/machine/,fail.c \
  file.c mem.c sys.c window.c cache_$(ARCH).c) \
  vmm/machine/bus.c $(filter vmm/link/%,$(LIB)) $(RINGS)
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
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) \
	  $(O)/fuzz/code.a -lfdt -lm

# Functions of these replace those of the same names.
$(O)/fuzz/life: $(addprefix $(O)/fuzz/obj/tests/fuzz/,life_host.o stand_in.o)

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
