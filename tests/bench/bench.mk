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

.PHONY: bench
