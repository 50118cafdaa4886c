# The tests; included by the Makefile. tests/run decides the order, counts the
# results and prints the closing line.

FUZZ_SECONDS ?= 60

# A test program is one file, named after the archive that it tests:
# tests/unit/test_<archive>_<topic>.c.
UNIT_SOURCES := $(wildcard tests/unit/test_*_*.c)
UNIT_PROGRAMS := $(patsubst %.c,$(OUT)/%,$(UNIT_SOURCES))
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_PROGRAMS := $(patsubst %.c,$(OUT)/%,$(FUZZ_SOURCES))
FAKE_BUILDER := $(OUT)/tests/integ/fake-builder
# Runs inside containers, and nothing of it is ours to check: no sanitizers.
PROBE := $(OUT)/tests/diff/probe
# Preloaded into shims; the sanitizers' allocator does not bear it.
FAULT := $(OUT)/tests/integ/fault.so
TEST_PROGRAMS := $(UNIT_PROGRAMS) $(FUZZ_PROGRAMS) $(FAKE_BUILDER) $(PROBE) \
	$(FAULT)

# What a test of each archive is linked with, itself first.
LIBS_common = $(call pkg,xenvchan)
LIBS_agent = $(GUEST_LIBS)
LIBS_storage = $(DOMUSD_LIBS)
LIBS_builder = $(DOMUSD_LIBS)
LIBS_daemon = $(DOMUSD_LIBS)
LIBS_shim = $(SHIM_LIBS)
USES_daemon := builder storage
archives = $(patsubst %,$(OUT)/lib%.a,$(filter-out common,$(1)) \
	$(USES_$(1)) common)

# test_shim_oci is a test of the archive "shim".
archive_of = $(word 2,$(subst _, ,$(notdir $(1))))

.SECONDEXPANSION:

$(OUT)/tests/unit/%: $(OUT)/tests/unit/%.o \
		$$(call archives,$$(call archive_of,$$*))
	$(say) LD $(@F)
	$(Q)$(LINK) -o $@ $^ -lcmocka $(LIBS_$(call archive_of,$*))

# These run the agent itself.
$(filter $(OUT)/tests/unit/test_agent_%,$(UNIT_PROGRAMS)): | $(AGENT)

# A fuzz target that needs more than libcommon says so in its first comment:
# "archive: shim".
fuzz_archive = $(or $(shell sed -n 's/^ \* archive: *//p' \
	tests/fuzz/$(1).c 2>/dev/null),common)

ifdef FUZZ_ENGINE
FUZZ_DRIVER :=
else
FUZZ_DRIVER := $(OUT)/tests/fuzz/replay.o
endif

$(OUT)/tests/fuzz/%: $(OUT)/tests/fuzz/%.o $$(FUZZ_DRIVER) \
		$$(call archives,$$(call fuzz_archive,$$*))
	$(say) LD $(@F)
	$(Q)$(LINK) $(FUZZ_ENGINE) -o $@ $^ $(LIBS_$(call fuzz_archive,$*))

$(FAKE_BUILDER): $(call objs,tests/integ/fake-*.c) $(OUT)/libcommon.a
	$(say) LD $(@F)
	$(Q)$(LINK) -o $@ $^

$(FAULT): tests/integ/fault.c
	$(say) LD $(@F)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) -O1 -g -fPIC -shared \
		-o $@ $<

$(PROBE): $(wildcard tests/diff/probe*.c tests/diff/probe*.h)
	$(say) LD $(@F)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -I. $(WARNINGS) -O1 -static -s \
		-o $@ $(filter %.c,$^)

# Tests of the shim include what protoc generated.
$(patsubst %.c,$(OUT)/%.o,$(wildcard tests/*/*_shim_*.c tests/fuzz/*.c)): \
	$(PROTO_C)
$(patsubst %.c,$(OUT)/%.o,$(wildcard tests/*/*.c)): OWN_CFLAGS += -I.

.PHONY: tests unit-programs fuzz-programs list-tests
tests: $(TEST_PROGRAMS)
fuzz-programs: $(FUZZ_PROGRAMS)
list-tests:
	@printf '%s\n' $(TEST_PROGRAMS)

# After a change of a message: its document and the fuzzers' seeds.
.PHONY: regenerate
regenerate: tests
	@tests/regenerate $(OUT)

# --- what a person calls --------------------------------------------------

# Packages first: nothing can be compiled, nor asked of pkg-config, before.
.PHONY: check check-full
check: deps
	+@python3 tests/run check
check-full: deps
	+@python3 tests/run check-full

.PHONY: check-lab
check-lab: deps
	+@python3 tests/run lab

.PHONY: unit integ integ-san fuzz-replay lint
unit integ integ-san fuzz-replay lint:
	+@python3 tests/run $@

.PHONY: fuzz
fuzz:
	+@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_TARGETS='$(FUZZ_TARGETS)' \
		python3 tests/run fuzz

# clang's libFuzzer needs every object built its way.
.PHONY: fuzz-build
fuzz-build:
	+$(Q)$(MAKE) --no-print-directory SAN=1 OUT=$(BUILD)/fuzz CC=clang \
		CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' \
		WARNINGS='-Wall -Wno-unknown-warning-option' \
		FUZZ_ENGINE=-fsanitize=fuzzer fuzz-programs

# Lines of src/common that the unit tests reach, from gcov.
.PHONY: coverage
coverage:
	+$(Q)$(MAKE) --no-print-directory OUT=$(BUILD)/cov \
		CFLAGS='-O0 -g --coverage -U_FORTIFY_SOURCE' tests
	@python3 tests/run coverage

.PHONY: demo lab bench
# The person's command reaches the script as it was typed, dollars included.
demo: override export CMD := $(value CMD)
demo: export IMAGE := $(IMAGE)
demo:
	+@tests/lab/demo
lab:
	+@tests/lab/lab shell
bench:
	+@tests/bench/bench
