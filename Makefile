# The menu. Each recipe is a line or two; what is longer is a program or a script in hack/.
# LEVEL is the compression of the initramfs: quick for the laboratory, small for `make dist`. STAGES=2 puts what can
# wait into a layer beside it (docs/architecture.md).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# A plain user's PATH on Debian lacks what administrators use: depmod, sgdisk, mke2fs.
export PATH := $(PATH):/usr/sbin:/sbin

ARCH     := x86_64
TARGET   := $(ARCH)-unknown-linux-gnu
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
PROFILE  ?= dev
LEVEL    ?= 3
STAGES   ?= 1
TOOLS    := target/$(TARGET)/debug
BIN      := target/$(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
IMAGE    := $(TOOLS)/ironhook-image
LAB      := $(TOOLS)/ironhook-lab

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what building and testing need on Debian (asks for root only if something is missing)
	hack/deps

.PHONY: programs
programs: ## all our programs, static; those of the image in PROFILE
	cargo build --locked --workspace --bins
	$(if $(filter dev,$(PROFILE)),,cargo build --locked --profile $(PROFILE) -p init -p bootkit -p agent -p actions)

.PHONY: components
components: programs ## component images, as an OCI layout in out/cache/oci
	$(IMAGE) component --programs $(BIN) linuxkit/components/*

.PHONY: image
image: components ## out/vmlinuz-x86_64, out/initramfs-x86_64 and out/loaders
	$(IMAGE) build linuxkit/ironhook.yaml $(if $(filter 2,$(STAGES)),linuxkit/stage2.yaml --two-stages) --out out --level $(LEVEL)
	$(IMAGE) export --out out/loaders linuxkit/components/ipxe

.PHONY: image-slim
image-slim: components ## the flavour without an engine, in out/slim
	$(IMAGE) build linuxkit/slim.yaml --out out/slim --level $(LEVEL)

.PHONY: push
push: components ## the actions' images to REGISTRY (host:port, without TLS unless TLS=true)
	@: $${REGISTRY:?make push needs REGISTRY=host:port}
	for name in $$(sed -n 's,.*docker.io/ironhook/\([^:]*\):.*,\1,p' linuxkit/components/actions/component.yaml); do \
	    skopeo copy --quiet --dest-tls-verify=$(if $(filter true,$(TLS)),true,false) oci:out/cache/oci:docker.io/ironhook/$$name:latest docker://$$REGISTRY/ironhook/$$name:latest; done

LOCK_ON_RECORD = git diff --quiet HEAD -- image/debs.lock || { echo "make dist: image/debs.lock has changes that are not committed; what ships has to be on record" >&2; exit 1; }

.PHONY: dist
dist: ## out/ironhook-<version>-<arch>.tar.gz, to be unpacked in webroot/misc/osie/current
	@$(LOCK_ON_RECORD)
	$(MAKE) image PROFILE=dist LEVEL=19
	@$(LOCK_ON_RECORD) # the build relocks what is gone from the mirror
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C out -cf - vmlinuz-$(ARCH) initramfs-$(ARCH) $(if $(filter 2,$(STAGES)),stage2-$(ARCH)) | gzip -1 -n > out/ironhook-$(VERSION)-$(ARCH).tar.gz
	ls -l out/ironhook-$(VERSION)-$(ARCH).tar.gz

.PHONY: relock
relock: programs ## lock the Debian packages of the components at what the mirror has now
	$(IMAGE) lock

.PHONY: gen
gen: ## generated code and goldens
	UPDATE_GOLDENS=1 cargo test --locked -p proto -p actions -p e2e -p spec -p image --test generated --test house --test manuals --test man
	UPDATE_GOLDENS=1 cargo test --locked -p bootkit --bin bootkit the_manual_page
	UPDATE_GOLDENS=1 cargo test --locked -p server --bin ironhook the_manual_page
	UPDATE_GOLDENS=1 cargo test --locked -p agent --bin ironhook-agent of_the_

.PHONY: demo
demo: deps image ## from power-on to an installed OS, in a virtual machine
	$(LAB) target
	$(LAB) demo

.PHONY: check
check: ## formatting, lints, licences, scripts
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny check bans licenses sources
	shellcheck -e SC1091,SC2016 hack/deps hack/mirror hack/in-lab hack/run-tests hack/with-dockerd hack/with-crun .ci/run

.PHONY: test
test: deps ## the tests of every change: checks, unit, integration, and machines in QEMU
	hack/run-tests

.PHONY: test-full
test-full: test ## and what needs more of the host: machines, engines, crashes (docker.io, mdadm, dmsetup, xfsprogs, btrfs-progs, kea-dhcp4-server, qemu-system-arm, qemu-efi-aarch64)
	for suite in "" trixie sid; do DOCKERD_SUITE=$$suite hack/with-dockerd cargo test --locked -p agent --test executors --test file; done
	hack/with-dockerd cargo test --locked -p agent --test registry -- --ignored --test-threads=1
	hack/with-dockerd cargo test --locked -p agent --test crashes -- --ignored --test-threads=1 --skip engine_killed
	hack/with-dockerd cargo test --locked -p agent --test crashes engine_killed -- --ignored # its own engine: an old one takes 0.1 s per container that it ever ran to come back
	cargo test --locked -p e2e --test 'boot_*' --test 'guest*' -- --ignored --test-threads=1
	cargo test --locked -p actions --test image_disk -- --ignored --test-threads=1
	cargo test --locked -p bootkit --test engine -- --ignored --test-threads=1
	cargo test --locked -p e2e --test bootkit_vm -- --ignored --test-threads=1
	hack/in-lab cargo test --locked -p e2e --test netboot_proxy --test netboot_firmware --test netboot_media -- --ignored --test-threads=1 # kea-dhcp4-server qemu-system-arm qemu-efi-aarch64

.PHONY: bench-boot
bench-boot: image ## from the kernel's start to the agent, against a bare boot of the same bytes
	cargo build --locked -p sys --example bare_init
	cargo build --locked -p e2e --bins
	$(dir $(LAB))ironhook-bench-boot
	hack/bench/plot.py out/bench/boot.json

.PHONY: fuzz
fuzz: ## each fuzz target for a minute (nightly compiler, cargo-fuzz)
	cd hack/fuzz && for target in cmdline dhcp event linuxkit layer qcow2 frames bmap tar tftp; do mkdir -p corpus/$$target seeds/$$target; cargo +nightly fuzz run --fuzz-dir . $$target corpus/$$target seeds/$$target -- -max_total_time=60; done

.PHONY: bench-image
bench-image: programs ## how long assembling takes and how much memory: out/bench/image.json, out/bench/image.svg
	cargo build --locked -p e2e --bin ironhook-bench-image
	$(TOOLS)/ironhook-bench-image
	hack/bench/plot.py out/bench/image.json

.PHONY: bench-actions
bench-actions: ## image-write against every other way that is installed (isal pigz pixz bmap-tools qemu-block-extra; cargo install --root out/cache/tools coreos-installer)
	cargo build --locked --release --target-dir out/cache/bench-target -p actions --bin ironhook-actions --example stages
	hack/bench/actions.py --program out/cache/bench-target/$(TARGET)/release/ironhook-actions --stages out/cache/bench-target/$(TARGET)/release/examples/stages

.PHONY: bench-netboot
bench-netboot: ## DHCP, TFTP and HTTP against dnsmasq, Kea, tftpd-hpa and nginx (dnsmasq-base kea-dhcp4-server tftpd-hpa nginx-light)
	cargo build --locked --release --target-dir out/cache/bench-target -p server
	hack/in-lab hack/bench/netboot.py --program out/cache/bench-target/$(TARGET)/release/ironhook

.PHONY: bench-agent
bench-agent: ## the agent's size, memory, start, and what an action costs over docker run and crun run (docker.io, crun)
	cargo build --locked --profile dist --target-dir out/cache/bench-target -p agent
	hack/with-crun hack/with-dockerd hack/bench/agent.py --agent out/cache/bench-target/$(TARGET)/dist/ironhook-agent

.PHONY: clean
clean: ## what was built; the caches of packages and target systems stay
	rm -rf target out/vmlinuz-* out/initramfs-* out/loaders out/*.tar.gz
