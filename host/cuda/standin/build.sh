#!/usr/bin/env bash
# A stand-in for a GPU where there is none: candle's own kernels compiled for the processor behind the names of CUDA's libraries.
#
#   host/cuda/standin/build.sh         leaves target/cuda/standin; after host/cuda/build.sh, whose copy of candle's kernels it compiles
#   LD_LIBRARY_PATH=target/cuda/standin target/cuda/host doctor
set -euo pipefail
cd "$(dirname "$0")"
from=../../../target/cuda/candle-kernels/src
place=${PLACE:-../../../target/cuda/standin}
[ -d "$from" ] || { echo "run host/cuda/build.sh first" >&2; exit 1; }
mkdir -p "$place"

compile() { g++ -std=c++17 -O3 -march=native -mtls-dialect=gnu2 -fPIC -fvisibility=hidden -fno-strict-aliasing -w -I include -I "$from" "$@"; }

kernels() {
    local name=$1 threads=
    case $name in reduce | sort) threads=-DSTANDIN_THREADS ;; esac
    {
        echo '#include <kernel.h>'
        sed 's/extern __shared__ int dst_row\[\]/static __thread int dst_row[12288]/' "$from/$name.cu"
    } > "$place/$name.cpp"
    # Every kernel that there is once the macros are gone is announced by its name.
    compile $threads -E "$place/$name.cpp" | tr '\n' ' ' | grep -oE 'extern "C" __attribute__\(\(visibility\("hidden"\)\)\) +void +[A-Za-z0-9_]+' |
        awk '{print $NF}' | sort -u | sed 's/.*/static Announced announced_&("&", launch<\&&>);/' > "$place/$name.names"
    cat "$place/$name.names" >> "$place/$name.cpp"
    compile $threads -c "$place/$name.cpp" -o "$place/$name.o"
}

for file in "$from"/*.cu; do
    name=$(basename "$file" .cu)
    case $name in quantized | m*_gguf) continue ;; esac
    kernels "$name"
done
for name in threads driver blas; do compile -c $name.cpp -o "$place/$name.o"; done
# Each file has its own copy of the same small functions.
g++ -shared -pthread -Wl,-z,muldefs -o "$place/libcuda.so.1" "$place"/*.o
for name in libcublas.so.13 libcurand.so.10; do ln -sf libcuda.so.1 "$place/$name"; done
cat "$place"/*.names | wc -l
