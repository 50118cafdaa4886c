# domus. `make help` lists what a person may want.

VERSION := 0.1.0
PREFIX ?= /usr/local
UNITDIR ?= $(PREFIX)/lib/systemd/system

# SAN=1: address and undefined-behaviour sanitizers, in a build of their own.
BUILD := build
ifeq ($(SAN),1)
OUT := $(BUILD)/san
else
OUT := $(BUILD)/rel
endif

CC = gcc
PKG_CONFIG ?= pkg-config
CFLAGS ?= -O2 -g

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wmissing-declarations -Wold-style-definition -Wvla -Wformat=2 \
	-Wpointer-arith -Wswitch-enum -Wundef -Wwrite-strings \
	-Wimplicit-fallthrough -Wtrampolines -Werror=implicit \
	-Werror=incompatible-pointer-types -Werror=int-conversion \
	-Werror=format-security
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif

OWN_CFLAGS := -std=gnu11 -D_GNU_SOURCE -DDOMUS_VERSION='"$(VERSION)"' \
	-Iinclude -I$(OUT)/gen -fvisibility=hidden -fPIE $(WARNINGS)
OWN_LDFLAGS := -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed \
	-Wl,-z,separate-code

# What gcc 12 offers of the OpenSSF hardening guide; the sanitizers do not mix
# with FORTIFY.
ifeq ($(SAN),1)
OWN_CFLAGS += -fsanitize=address,undefined -fno-omit-frame-pointer \
	-fno-sanitize-recover=all
OWN_LDFLAGS += -fsanitize=address,undefined
else
OWN_CFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 \
	-fstack-protector-strong -fstack-clash-protection \
	-fcf-protection=full -fno-delete-null-pointer-checks \
	-fno-strict-overflow -fno-strict-aliasing \
	-ftrivial-auto-var-init=zero
endif

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
endif

# Libraries by program; evaluated only when something is linked.
pkg = $(shell $(PKG_CONFIG) --libs $(1) || echo missing-library--run-make-deps)
SHIM_LIBS = $(call pkg,libprotobuf-c json-c libcap-ng libmd libseccomp xenvchan)
DOMUSD_LIBS = $(call pkg,xenlight xentoollog xenstore libcrypto inih libsystemd)
GUEST_LIBS = -lxenvchan -lxenstore -lxengnttab -lxenevtchn -lxentoolcore \
	-lxentoollog -lpthread

objs = $(patsubst %.c,$(OUT)/%.o,$(wildcard $(1)))

COMMON_OBJS := $(call objs,src/common/*.c)
AGENT_OBJS := $(call objs,src/agent/*.c)
STORAGE_OBJS := $(call objs,src/storage/*.c)
BUILDER_OBJS := $(call objs,src/builder/*.c)
DAEMON_OBJS := $(call objs,src/daemon/*.c)
SHIM_OBJS := $(call objs,shim/*.c)

PROTOS := $(wildcard shim/proto/*.proto)
PROTO_C := $(patsubst shim/proto/%.proto,$(OUT)/gen/%.pb-c.c,$(PROTOS))
PROTO_OBJS := $(PROTO_C:.c=.o)

SHIM := $(OUT)/bin/containerd-shim-domus-v2
DOMUSD := $(OUT)/bin/domusd
AGENT := $(OUT)/guest/domus-init
INITRAMFS := $(OUT)/guest/initramfs.cpio
KERNEL := $(BUILD)/guest-kernel/vmlinux
PROGRAMS := $(SHIM) $(DOMUSD) $(AGENT)

.PHONY: all
all: programs guest

.PHONY: programs
programs: $(PROGRAMS)

.PHONY: guest
guest: $(INITRAMFS) $(KERNEL)

# --- programs -------------------------------------------------------------

$(OUT)/%.o: %.c Makefile
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(OWN_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OUT)/gen/%.o: $(OUT)/gen/%.c
	$(say) CC $(@F)
	$(Q)$(CC) $(OWN_CFLAGS) $(CFLAGS) -Wno-shadow -MMD -MP -c -o $@ $<

$(OUT)/gen/%.pb-c.c: shim/proto/%.proto
	$(say) PROTOC $<
	@mkdir -p $(@D)
	$(Q)protoc --proto_path=shim/proto --c_out=$(OUT)/gen $<

$(SHIM_OBJS) $(PROTO_OBJS): $(PROTO_C)

# Archives, so that a program and a test take only what they call.
define archive
$(OUT)/lib$(1).a: $(2)
	$$(say) AR $$(@F)
	$$(Q)rm -f $$@ && $$(AR) rcD $$@ $$^
endef
$(eval $(call archive,common,$(COMMON_OBJS)))
$(eval $(call archive,agent,$(filter-out %/main.o,$(AGENT_OBJS))))
$(eval $(call archive,storage,$(STORAGE_OBJS)))
$(eval $(call archive,builder,$(BUILDER_OBJS)))
$(eval $(call archive,daemon,$(filter-out %/main.o,$(DAEMON_OBJS))))
$(eval $(call archive,shim,$(filter-out %/main.o,$(SHIM_OBJS)) $(PROTO_OBJS)))

LINK = $(CC) $(OWN_CFLAGS) $(CFLAGS) $(OWN_LDFLAGS) $(LDFLAGS) -pie

$(SHIM): $(OUT)/shim/main.o $(OUT)/libshim.a $(OUT)/libcommon.a
	$(say) LD $(@F)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(SHIM_LIBS)

$(DOMUSD): $(OUT)/src/daemon/main.o $(OUT)/libdaemon.a $(OUT)/libbuilder.a \
		$(OUT)/libstorage.a $(OUT)/libcommon.a
	$(say) LD $(@F)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(DOMUSD_LIBS)

# Static, since it is alone in the guest; the sanitizers want it dynamic.
$(AGENT): $(OUT)/src/agent/main.o $(OUT)/libagent.a $(OUT)/libcommon.a
	$(say) LD $(@F)
	@mkdir -p $(@D)
ifeq ($(SAN),1)
	$(Q)$(LINK) -o $@ $^ $(GUEST_LIBS)
else
	$(Q)$(CC) $(OWN_CFLAGS) $(CFLAGS) $(OWN_LDFLAGS) $(LDFLAGS) \
		-static-pie -Wl,--gc-sections -o $@ $^ $(GUEST_LIBS)
endif

$(INITRAMFS): $(AGENT) src/agent/initramfs.sh
	$(say) CPIO $(@F)
	$(Q)src/agent/initramfs.sh $(AGENT) $@

$(KERNEL): $(wildcard guest-kernel-config/*)
	$(Q)guest-kernel-config/build.sh $(@D)

include tests/tests.mk

# --- for people -----------------------------------------------------------

.PHONY: deps
deps:
	@tests/lab/install-packages.sh

.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin \
		$(DESTDIR)$(PREFIX)/lib/domus $(DESTDIR)$(UNITDIR) \
		$(DESTDIR)/etc/domus
	install -m 755 -s $(SHIM) $(DESTDIR)$(PREFIX)/bin/
	install -m 755 -s $(DOMUSD) $(DESTDIR)$(PREFIX)/sbin/
	install -m 644 $(KERNEL) $(INITRAMFS) $(DESTDIR)$(PREFIX)/lib/domus/
	cd $(DESTDIR)$(PREFIX)/lib/domus && \
		sha256sum vmlinux initramfs.cpio > guest.sha256
	set -e; for unit in domusd.service domusd.socket; do \
		sed 's,@PREFIX@,$(PREFIX),g' src/daemon/$$unit.in \
			> $(DESTDIR)$(UNITDIR)/$$unit; done
	new=; if [ -e $(DESTDIR)/etc/domus/domus.conf ]; then \
		new=.new; fi; install -m 644 src/daemon/domus.conf \
		$(DESTDIR)/etc/domus/domus.conf$$new

.PHONY: format
format:
	clang-format -i $$(git ls-files '*.c' '*.h')

.PHONY: clean
clean:
	rm -rf $(BUILD)/rel $(BUILD)/san

.PHONY: distclean
distclean:
	rm -rf $(BUILD)

.PHONY: help
help:
	@echo 'make demo       containers in Xen domains on an emulated host, to see'
	@echo '                (CMD="…" IMAGE=archive.tar: your own)'
	@echo 'make check      all tests; make check-full: those that take long, too'
	@echo 'make lab        a shell on the emulated host'
	@echo 'make check-lab  its tests only; LAB_SUITE=bookworm or trixie is the'
	@echo '                Debian it is made of, LAB_CONTAINERD=sid has newer'
	@echo '                containerd (also for check, lab, demo and bench)'
	@echo 'make unit integ integ-san fuzz-replay lint'
	@echo '                tests that need no Xen, each kind alone'
	@echo 'make bench      where the time goes, beside runc'
	@echo 'make            programs, guest kernel and initramfs'
	@echo 'make install    DESTDIR= PREFIX=$(PREFIX)'
	@echo 'make deps       installs what all of this needs, with apt'
	@echo 'make regenerate files that a test holds against the code'
	@echo 'make fuzz format clean distclean'
	@echo 'Variables: V=1 shows commands, SAN=1 builds with sanitizers,'
	@echo '           WERROR=1 makes warnings errors'

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
