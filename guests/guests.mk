# Guests are freestanding; what one does not use is left out of its image.
GUESTS = hello devices pvh config block fs hostile reboot flow storm shm

guests: $(GUESTS:%=$(O)/guests/%.elf)

GUEST_RUNTIME = start boot exit interrupts memory option packed print queue \
  split string time tree uart virtio
GUEST_FLAGS = -std=c11 -O2 $(WARN) $(if $(WERROR),-Werror) -MMD -MP \
  -ffreestanding -fno-builtin -mgeneral-regs-only -mno-red-zone -fno-pie \
  -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
  -ffunction-sections -fdata-sections
GUEST_LINK = -nostdlib -static -no-pie -Wl,-T,guests/guest.ld \
  -Wl,--gc-sections,--build-id=none,-z,max-page-size=4096,-z,noexecstack

$(O)/guests/obj/%.o: guests/%.c guests/guests.mk
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(O)/guests/obj/%.o: guests/%.S guests/guests.mk
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(O)/guests/runtime.a: $(GUEST_RUNTIME:%=$(O)/guests/obj/%.o)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/guests/%.elf: $(O)/guests/obj/%.o $(O)/guests/runtime.a guests/guest.ld
	$(Q)$(CC) $(GUEST_LINK) -o $@ $(filter %.o %.a,$^)

$(O)/guests/pvh.elf: $(O)/guests/obj/pvh_start.o
$(O)/guests/storm.elf: $(O)/guests/obj/storm_start.o
$(O)/guests/hostile.elf: $(O)/guests/obj/hostile_access.o

.PHONY: guests
