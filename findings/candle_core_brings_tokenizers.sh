#!/usr/bin/env bash
# candle-core 0.11.1, a tensor library, without any of its features.
#
# Seen: it depends on the text library `tokenizers` (0.23) and, through it, on regular expressions, Unicode tables and a
# suffix array in all builds but WebAssembly's; nothing turns it off. What uses it is `quantized::tokenizer`, which makes
# text tokenizers of GGUF files.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
cargo init --quiet --lib --name looks_at_candle
cargo add --quiet candle-core@=0.11.1 --no-default-features
all=$(cargo tree --edges normal,build --prefix none | sed 's/ (.*//' | sort -u | wc -l)
texts=$(cargo tree --edges normal,build --prefix none --package tokenizers | sed 's/ (.*//' | sort -u | wc -l)
cargo tree --edges normal --invert tokenizers
echo "$all crates in all, $texts of them for tokenizers"
cargo tree --edges normal --invert tokenizers | grep -q 'candle-core v0.11.1' || { echo "this has changed" >&2; exit 1; }
