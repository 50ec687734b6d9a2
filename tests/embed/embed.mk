# Programs that embed the library. They see what is installed, husk.h and the
# archive, and are compiled as another's program would be.
EMBED = names types
EMBED_FLAGS = -Iinclude -Wall -Wextra -Werror $(CFLAGS) $(SANITIZE) -MMD -MP

$(O)/tests/embed/%.o: tests/embed/%.c $(O)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 $(EMBED_FLAGS) -c -o $@ $<

$(O)/tests/embed/%.o: tests/embed/%.cc $(O)/flags
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 $(EMBED_FLAGS) -c -o $@ $<

$(O)/tests/embed/types: LINKER = $(CXX)
$(O)/tests/embed/names: LINKER = $(CC)
$(O)/tests/embed/%: $(O)/tests/embed/%.o $(O)/libhusk.a
	$(Q)$(LINKER) $(SANITIZE) -o $@ $^ -lev -lfdt -pthread

# The program in husk.h's first comment, as C and as C++.
EXAMPLE = $(O)/tests/embed/example
$(EXAMPLE).c: include/husk.h
	@mkdir -p $(@D)
	$(Q)grep -qx ' \* A program that boots a guest:' $< && \
	  grep -qx ' \* End of the program\.' $< || \
	  { echo '$<: where does the example begin and end?' >&2; exit 1; }
	$(Q)sed -n '/^ \* A program that boots/,/^ \* End of/s/^ \*     //p' $< >$@

$(EXAMPLE).o: $(EXAMPLE).c $(O)/flags
	$(Q)$(CC) -std=c11 $(EMBED_FLAGS) -c -o $@ $<

$(EXAMPLE)_cxx.o: $(EXAMPLE).c $(O)/flags
	$(Q)$(CXX) -x c++ -std=c++17 $(EMBED_FLAGS) \
	  -Wno-missing-field-initializers -c -o $@ $<

$(EXAMPLE): LINKER = $(CC)
check-built: $(EXAMPLE) $(EXAMPLE)_cxx.o
