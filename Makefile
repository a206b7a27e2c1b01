# Verbs only: `make help` lists them. V=1 shows the commands.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
Q := $(if $(V),,@)

CLANG ?= $(shell command -v clang-19 || command -v clang || echo clang-19)
CLANG_FORMAT ?= $(shell command -v clang-format-19 || command -v clang-format || echo clang-format-19)
MULTIARCH := $(firstword $(notdir $(wildcard /usr/include/*-linux-gnu)))
comma := ,
NODE = $(firstword $(wildcard node_modules/node-linux-*/bin/node) node)

FAMILIES := ipv4 ipv6
BPF_HEADERS := $(wildcard bpf/*.h bpf/lib/*.h bpf/family/*.h)
BPF_FLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Werror -Ibpf -isystem /usr/include/$(MULTIARCH)
BPF_OBJECTS := $(foreach f,$(FAMILIES),$(addprefix build/bpf/$(f),.bpf.o -reap.bpf.o -copy.bpf.o))
ABI_OBJECTS := $(foreach f,$(FAMILIES),build/bpf/$(f)-abi.bpf.o)
SOURCES := agent scripts test
C_SOURCES := $(wildcard bpf/*.c test/bench/bpf/*.[ch] test/bench/tools/*.[ch] test/datapath/bpf/*.c test/lib/*.c)

##@ Start here

help: ## list the verbs
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing (apt, npm) and build
	$(Q)scripts/setup.sh
	$(Q)$(MAKE) --no-print-directory build

demo: setup ## pod, node and world in namespaces: the story, told on real connections
	$(Q)$(NODE) scripts/demo.ts

test: setup ## everything, as root
	$(Q)$(MAKE) --no-print-directory static
	$(Q)$(NODE) scripts/test.ts

node_modules:
	@echo 'make: run make setup first' >&2; exit 1

##@ Building

build: $(BPF_OBJECTS) compile_commands.json dist ## compile the datapath, and the agent for installation

dist: $(shell find agent -name '*.ts') tsconfig.json deploy/tsconfig.json | node_modules
	@echo "  TSC   $@"
	$(Q)rm -rf $@ && node_modules/.bin/tsc -p deploy/tsconfig.json && touch $@

define bpf_rules
build/bpf/$(1).bpf.o: bpf/datapath.bpf.c $$(BPF_HEADERS) | build/bpf
	@echo "  BPF   $$@"
	$$(Q)$$(CLANG) $$(BPF_FLAGS) -include bpf/family/$(1).h -c $$< -o $$@

build/bpf/$(1)-%.bpf.o: bpf/%.bpf.c $$(BPF_HEADERS) | build/bpf
	@echo "  BPF   $$@"
	$$(Q)$$(CLANG) $$(BPF_FLAGS) -include bpf/family/$(1).h -c $$< -o $$@

build/bpf/test-$(1)-%.bpf.o: test/datapath/bpf/%.bpf.c $$(BPF_HEADERS) | build/bpf
	@echo "  BPF   $$@"
	$$(Q)$$(CLANG) $$(BPF_FLAGS) -include bpf/family/$(1).h -c $$< -o $$@
endef
$(foreach f,$(FAMILIES),$(eval $(call bpf_rules,$(f))))

build/bpf:
	$(Q)mkdir -p $@

build/test/%: test/lib/%.c
	@echo "  CC    $@"
	$(Q)mkdir -p $(dir $@)
	$(Q)$(CLANG) -O2 -Wall -Werror $< -o $@

compile_commands.json: Makefile
	$(Q)printf '[\n%s\n]\n' '$(foreach s,datapath reap copy,{"directory": "$(CURDIR)", "file": "bpf/$(s).bpf.c", "command": "$(CLANG) $(BPF_FLAGS) -include bpf/family/ipv4.h -c bpf/$(s).bpf.c"}$(if $(filter-out copy,$(s)),$(comma)))' > $@



generate: $(ABI_OBJECTS) | node_modules ## write agent/abi/generated.ts from the BTF of bpf/abi.h
	$(Q)$(NODE) scripts/generate-abi.ts

##@ Installing

PREFIX ?= /usr/local
INSTALL = PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' NODE='$(NODE)' scripts/install.sh

install: build ## into PREFIX (/usr/local), below DESTDIR when given
	$(Q)$(INSTALL)

uninstall: ## remove what install put there; configuration, hooks and maps stay
	$(Q)$(INSTALL) uninstall

##@ Checking

check: static test-unit ## lint, types, headers alone, generated files, unit tests

static: lint types headers abi-current

lint: | node_modules
	$(Q)node_modules/.bin/biome check $(SOURCES)
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(C_SOURCES) $(BPF_HEADERS)

types: | node_modules
	$(Q)node_modules/.bin/tsc --noEmit -p tsconfig.json

headers: $(foreach f,$(FAMILIES),$(addprefix build/headers/$(f)/,$(filter-out bpf/family/%,$(BPF_HEADERS))))

build/headers/%: $(BPF_HEADERS)
	$(Q)mkdir -p $(dir $@)
	$(Q)echo '#include "$(patsubst $(firstword $(subst /, ,$*))/%,%,$*)"' | $(CLANG) $(BPF_FLAGS) -I. \
	  -Wno-unused-function -include bpf/family/$(firstword $(subst /, ,$*)).h -x c -c - -o $@

abi-current: $(ABI_OBJECTS) | node_modules
	$(Q)$(NODE) scripts/generate-abi.ts --check

test-unit: | node_modules ## pure TypeScript, no root
	$(Q)$(NODE) scripts/test.ts unit

test-datapath: build | node_modules ## packets through the real programs, as root
	$(Q)$(NODE) scripts/test.ts datapath

test-e2e: build | node_modules ## real sockets in network namespaces, as root
	$(Q)$(NODE) scripts/test.ts e2e

test-kernels: setup ## the same on Debian's 6.1 and 6.12, emulated: KERNELS=6.1 TESTS=e2e
	$(Q)$(NODE) scripts/kernels/main.ts $(KERNELS) $(TESTS)

##@ Measuring

BENCH_OBJECTS := $(addprefix build/bpf/bench-,$(addsuffix .bpf.o,wrapper redirect \
  $(addsuffix -calls,$(FAMILIES))))
BENCH_TOOLS := $(patsubst test/bench/tools/%.c,build/bench/%,$(wildcard test/bench/tools/*.c))

bench: build $(BENCH_OBJECTS) $(BENCH_TOOLS) | node_modules ## against the kernel's own NAT, as root; BENCH=udp,crr picks parts
	$(Q)CLANG=$(CLANG) $(NODE) test/bench/main.ts

build/bpf/bench-%-calls.bpf.o: bpf/datapath.bpf.c test/bench/bpf/count-calls.h $(BPF_HEADERS) | build/bpf
	@echo "  BPF   $@"
	$(Q)$(CLANG) $(BPF_FLAGS) -include test/bench/bpf/count-calls.h -include bpf/family/$*.h -c $< -o $@

build/bpf/bench-%.bpf.o: test/bench/bpf/%.bpf.c | build/bpf
	@echo "  BPF   $@"
	$(Q)$(CLANG) $(BPF_FLAGS) -c $< -o $@

build/bench/%: test/bench/tools/%.c test/bench/tools/load.h
	@echo "  CC    $@"
	$(Q)mkdir -p $(dir $@)
	$(Q)$(CLANG) -O2 -Wall -Werror $< -o $@

##@ Other

fmt: | node_modules ## format everything
	$(Q)node_modules/.bin/biome check --write $(SOURCES)
	$(Q)$(CLANG_FORMAT) -i $(C_SOURCES) $(BPF_HEADERS)

doctor: ## what this machine has and lacks
	$(Q)bin/sekisho doctor

clean: ## remove what was built
	$(Q)rm -rf build dist compile_commands.json

.PHONY: help setup demo test build install uninstall generate check static lint types headers abi-current test-unit \
  test-datapath test-e2e test-kernels bench fmt doctor clean
