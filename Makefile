# Two commands for a newcomer: `make run` and `make test`. Each installs what it needs first.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# A shell that has just been given a Rust toolchain does not know it yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)
CACHE := $(or $(SPOTD_CACHE),$(HOME)/.cache/spotd)
TARGET := $(or $(CARGO_TARGET_DIR),target)
export LIBTORCH := $(CACHE)/libtorch-2.11.0
# What the tests hold the page's accessibility against.
export SPOTD_AXE := $(CACHE)/dl/axe.min.js
# What tries the API against its description.
export SPOTD_SCHEMATHESIS := $(CACHE)/schemathesis/bin/schemathesis

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

.PHONY: run
run: setup-run ## Build and watch the demonstration, or SOURCE=rtsp://... or SOURCE=/dev/video0
	cargo build --release --locked
	$(TARGET)/release/spotd run --log-dir flags $(if $(SOURCE),--source '$(SOURCE)',--demo) $(ARGS)

.PHONY: test
ifeq ($(shell uname -m),x86_64)
test: setup-train ## Install what tests need and run all of them
	cargo test --locked --workspace
	SPOTD_VM_CARGO=--workspace tests/vm/run.sh
else
test: test-daemon
	@echo "*** SKIPPED: the trainer's tests; there is a libtorch for x86-64 only ***"
endif

.PHONY: test-daemon
test-daemon: setup-test ## All tests of the daemon; needs no libtorch
	cargo test --locked

.PHONY: test-kernels
test-kernels: setup-test ## The kernels on this processor, with AVX-512 emulated, and for aarch64 under QEMU
	cargo test --locked -p spotd-kernels
	cargo test --locked -p spotd-kernels --features __emulate --test conv --test allocation
	tools/test-arm.sh

.PHONY: test-arm
test-arm: setup-test ## spotd on arm64: under qemu-user, and its package in an emulated Debian with a camera; needs root, an hour
	tests/arm/run.sh

.PHONY: count-arm
count-arm: ## Count the instructions of int8 inference on aarch64 under QEMU: a stand-in for its speed
	tools/count-arm.sh

.PHONY: soak
soak: setup-test ## 2,000 failed connects, 500 reconnects, 16 streams at once; memory, threads and files bounded
	SPOTD_SOAK=long cargo test --locked --test soak -- --nocapture

.PHONY: test-fleet
test-fleet: setup-test ## The publishers of 1,000 boxes on one broker that is killed in between (BOXES=100)
	SPOTD_FLEET=$(or $(BOXES),1000) cargo test --locked --test fleet -- --nocapture

.PHONY: fuzz
fuzz: setup-test ## Fuzz each parser of what others write, FUZZ_SECONDS=60 each
	tools/fuzz.sh $(or $(FUZZ_SECONDS),60) $(FUZZ_TARGETS)

.PHONY: test-vm
test-vm: setup-test ## The camera tests, against a real driver in QEMU, and power cuts (ARGS='--nocapture unplugged')
	tests/vm/run.sh $(ARGS)

.PHONY: lint
lint: setup-train ## Formatting, clippy for each feature set, licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	for f in gstreamer v4l mqtt webhook web; do cargo clippy --locked -p spotd --no-default-features --features $$f -- -D warnings || exit 1; done
	cargo clippy --locked -p spotd --no-default-features -- -D warnings
	tools/deny.sh

.PHONY: man
man: ## Write man pages (docs/man) and completions (contrib/completions) anew from the program's help
	UPDATE=1 cargo test --locked --bin spotd commands::man
	UPDATE=1 cargo test --locked --bin spotd commands::completions

.PHONY: openapi
openapi: setup-test ## Write docs/openapi.json anew from the types that the API answers
	UPDATE=1 cargo test --locked --workspace --lib the_file_describes

.PHONY: cross
cross: ## Build for another processor, TARGET=aarch64-unknown-linux-gnu or armv7-unknown-linux-gnueabihf (cross, or Debian's compiler)
	tools/cross.sh $(or $(TARGET),aarch64-unknown-linux-gnu)

.PHONY: deb
deb: setup-run ## Build the Debian package (TRIPLE=aarch64-unknown-linux-gnu for a Raspberry Pi or Jetson, where that builds)
	tools/deb.sh $(TRIPLE)

.PHONY: test-box
test-box: setup-test ## Install, upgrade and purge the package in a fresh Debian, and run it there under systemd; needs root
	tests/box/run.sh

.PHONY: pictures
pictures: setup-run ## Record the demonstration for README anew (docs/run.svg, docs/flagged.jpg)
	cargo build --release --locked --bin spotd --example draw_evidence
	tools/demo/pictures.sh $(TARGET)/release/spotd $(TARGET)/release/examples/draw_evidence

.PHONY: card
card: ## Write the tables of results anew from the shipped model's card
	UPDATE=1 cargo test --locked --test card_doc

.PHONY: regression
regression: ## Pin the scores of the regression set anew (tests/regression/scores.json)
	UPDATE=1 cargo test --locked --test regression scores_are

.PHONY: test-sklearn
test-sklearn: setup-test ## Hold the figures of `spotd eval` against scikit-learn itself
	tools/peers.sh "$(CACHE)/sklearn" tests/metrics/requirements.txt
	SPOTD_SKLEARN_PYTHON="$(CACHE)/sklearn/bin/python3" cargo test --locked --test metrics

.PHONY: golden
golden: ## Write what scikit-learn says of random rankings anew (tests/metrics/golden.jsonl)
	tools/peers.sh "$(CACHE)/sklearn" tests/metrics/requirements.txt
	"$(CACHE)/sklearn/bin/python3" tests/metrics/golden.py >tests/metrics/golden.jsonl

.PHONY: golden-int8
golden-int8: ## Write graphs of onnxruntime's and PyTorch's quantisers and the answers anew (kernels/tests/golden)
	tools/peers.sh "$(CACHE)/golden-int8" kernels/tests/golden/requirements.txt
	"$(CACHE)/golden-int8/bin/python3" kernels/tests/golden/golden.py kernels/tests/golden
	"$(CACHE)/golden-int8/bin/python3" -m pip install --quiet --disable-pip-version-check -r kernels/tests/golden/requirements-pytorch.txt
	"$(CACHE)/golden-int8/bin/python3" kernels/tests/golden/pytorch.py kernels/tests/golden

.PHONY: bench
bench: setup-test ## Measure: from raw frame to score, frames a second a core, peak memory
	cargo bench --locked

.PHONY: bench-peers
bench-peers: setup-test ## Measure: CPU and memory beside Python with OpenCV and onnxruntime
	tools/peers.sh "$(CACHE)/peers"
	SPOTD_PEERS_PYTHON="$(CACHE)/peers/bin/python3" cargo bench --locked --bench peers

# pnnx asks for PyTorch, which its converter does not need.
INT8_PYTHON := $(CACHE)/int8/bin/python3
.PHONY: setup-int8
setup-int8: setup-test
	tools/peers.sh "$(CACHE)/int8" benches/int8/requirements.txt
	"$(INT8_PYTHON)" -m pip install --quiet --disable-pip-version-check --no-deps pnnx==20261020

.PHONY: bench-int8
bench-int8: setup-int8 ## Measure: int8 and f32 inference beside onnxruntime, OpenVINO and ncnn, one pinned thread
	SPOTD_INT8_PYTHON="$(INT8_PYTHON)" cargo bench --locked --bench int8

.PHONY: bench-int8-avx2
bench-int8-avx2: setup-int8 ## The same, with what goes beyond AVX2 (AVX-512, VNNI, AMX) hidden from all engines; Intel alone
	mkdir -p $(TARGET)
	gcc -O2 -Wall -Wextra -shared -fPIC -o $(TARGET)/avx2.so benches/int8/avx2.c
	cargo bench --locked --no-run --bench int8
	LD_PRELOAD=$(abspath $(TARGET))/avx2.so SPOTD_INT8_PYTHON="$(INT8_PYTHON)" cargo bench --locked --bench int8

.PHONY: test-peers
test-peers: setup-int8 ## Hold what `spotd quantize` writes against onnxruntime and OpenVINO
	SPOTD_INT8_PYTHON="$(INT8_PYTHON)" cargo test --locked --test quantize peers -- --nocapture

.PHONY: train
train: setup-train ## Make the shipped detector anew from the photographs in DATA=folder
	@test -n "$(DATA)" || { echo "make train DATA=FOLDER: a folder of photographs (train) is needed"; exit 2; }
	cargo build --release --locked -p spotd-train
	tools/train.sh "$(TARGET)/release/spotd-train" "$(DATA)" $(ARGS)

.PHONY: setup-run setup-test setup-train
setup-run:
	@tools/setup.sh run
setup-test:
	@tools/setup.sh test
setup-train: setup-test
	@tools/libtorch.sh
