#!/usr/bin/env bash
# tools/fuzz.sh [RUNS]: coverage-guided fuzzing of envelope, frame, MessagePack and each decompressor, RUNS inputs each (1000000) of up to 1 kB, from the vectors in
# tests/vectors. Needs nightly Rust and `cargo install cargo-fuzz`. Stops at the first input that panics, touches what is not
# ours, takes 10 s or 512 MB; what was learned stays in build/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-1000000}
python=$(tools/pythons.sh --first)

# fuzz TARGET CORPUS [LONGEST]: one target, with what it learned before.
fuzz() {
    local corpus=$PWD/build/fuzz/$2
    mkdir -p "$corpus"
    "$python" -I tools/fuzz_seeds.py "$2" "$corpus"
    printf '\n==> %s: %s runs\n' "$2" "$runs"
    cargo +nightly fuzz run "$1" "$corpus" -- -runs="$runs" -max_len="${3:-1024}" -timeout=10 -rss_limit_mb=512 \
        -print_final_stats=1 -verbosity=0
}

fuzz envelope envelope 64
fuzz frame frame
fuzz msgpack msgpack
for compressor in zstd lz4 gzip snappy; do
    COMPRESSOR=$compressor fuzz decompress "$compressor"
done
