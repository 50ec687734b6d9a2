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
