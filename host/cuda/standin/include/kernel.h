// CUDA C++ as much as candle's kernels speak of it, on the processor: each of its threads runs one block after the other, and of
// a block one thread after the other.
//
// Kernels whose threads wait for each other (__syncthreads, __shfl_xor_sync) are compiled with STANDIN_THREADS: each thread has
// a stack of its own (threads.cpp). The others are a loop.
#pragma once
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define CUDA_VERSION 13000

#define __device__
#define __host__
#define __forceinline__ inline
#define __global__ __attribute__((visibility("hidden")))
// What a block's threads share belongs to the processor's thread that runs the block.
#define __shared__ static __thread
#define __restrict__ __restrict

struct uint3 { unsigned x, y, z; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }

extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;

/// Calls `work` with every number below `count`, on as many threads as the processor has.
void parallel(size_t count, void (*work)(size_t, void*), void* context);

// ---- threads that wait for each other (threads.cpp)
void wait_for_block();
void wait_for_warp();
unsigned lane();
/// One slot per lane of the warp that runs, of the two that take turns.
void* warp_slots();

inline void __syncthreads() { wait_for_block(); }

template <typename T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    static_assert(sizeof(T) <= 8);
    char* slots = static_cast<char*>(warp_slots());
    memcpy(slots + 8 * lane(), &value, sizeof(T));
    wait_for_warp();
    T other;
    memcpy(&other, slots + 8 * (lane() ^ mask), sizeof(T));
    return other;
}

// ---- mixed arguments, as CUDA's own
template <typename A, typename B> constexpr auto min(A a, B b) { using C = std::common_type_t<A, B>; return C(a) < C(b) ? C(a) : C(b); }
template <typename A, typename B> constexpr auto max(A a, B b) { using C = std::common_type_t<A, B>; return C(a) > C(b) ? C(a) : C(b); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * float(M_SQRT1_2)); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
using std::isnan;
using std::signbit;

// ---- numbers of 16 bits: kept in 16, calculated in f32 and rounded to the nearest, ties to even, after each operation
inline uint16_t bf16_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if (x != x) return uint16_t(u >> 16) | 0x40;
    return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
inline float bf16_value(uint16_t b) { uint32_t u = uint32_t(b) << 16; float x; memcpy(&x, &u, 4); return x; }
inline uint16_t f16_bits(float x) { _Float16 h = _Float16(x); uint16_t b; memcpy(&b, &h, 2); return b; }
inline float f16_value(uint16_t b) { _Float16 h; memcpy(&h, &b, 2); return float(h); }

template <uint16_t (*BITS)(float), float (*VALUE)(uint16_t)> struct Small {
    uint16_t bits;
    Small() = default;
    template <typename N, typename = std::enable_if_t<std::is_arithmetic_v<N>>> Small(N n) : bits(BITS(float(n))) {}
    template <uint16_t (*B)(float), float (*V)(uint16_t)> explicit Small(Small<B, V> other) : bits(BITS(float(other))) {}
    operator float() const { return VALUE(bits); }
    Small& operator+=(Small o) { return *this = Small(float(*this) + float(o)); }
    Small& operator-=(Small o) { return *this = Small(float(*this) - float(o)); }
    Small& operator*=(Small o) { return *this = Small(float(*this) * float(o)); }
    Small& operator/=(Small o) { return *this = Small(float(*this) / float(o)); }
    friend Small operator+(Small a, Small b) { return a += b; }
    friend Small operator-(Small a, Small b) { return a -= b; }
    friend Small operator*(Small a, Small b) { return a *= b; }
    friend Small operator/(Small a, Small b) { return a /= b; }
    friend Small operator-(Small a) { return Small(-float(a)); }
    friend bool operator<(Small a, Small b) { return float(a) < float(b); }
    friend bool operator>(Small a, Small b) { return float(a) > float(b); }
    friend bool operator<=(Small a, Small b) { return float(a) <= float(b); }
    friend bool operator>=(Small a, Small b) { return float(a) >= float(b); }
    friend bool operator==(Small a, Small b) { return float(a) == float(b); }
    friend bool operator!=(Small a, Small b) { return float(a) != float(b); }
    friend Small hsqrt(Small a) { return Small(sqrtf(float(a))); }
    friend Small hcos(Small a) { return Small(cosf(float(a))); }
    friend Small hsin(Small a) { return Small(sinf(float(a))); }
    friend Small hlog(Small a) { return Small(logf(float(a))); }
    friend Small hexp(Small a) { return Small(expf(float(a))); }
    friend Small __habs(Small a) { return Small(fabsf(float(a))); }
    friend bool __hisnan(Small a) { return std::isnan(float(a)); }
    friend Small __hmax_nan(Small a, Small b) { return __hisnan(a) ? a : __hisnan(b) || b > a ? b : a; }
    friend Small __hmin_nan(Small a, Small b) { return __hisnan(a) ? a : __hisnan(b) || b < a ? b : a; }
};
using __half = Small<f16_bits, f16_value>;
using __nv_bfloat16 = Small<bf16_bits, bf16_value>;
inline float __half2float(__half a) { return float(a); }
inline __half __float2half(float a) { return __half(a); }
inline float __bfloat162float(__nv_bfloat16 a) { return float(a); }
inline __nv_bfloat16 __float2bfloat16(float a) { return __nv_bfloat16(a); }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return __nv_bfloat16(a); }
struct __nv_bfloat162 { __nv_bfloat16 x, y; };
inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x + b.x, a.y + b.y}; }
inline __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x - b.x, a.y - b.y}; }
inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x * b.x, a.y * b.y}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short b) { __half a; a.bits = b; return a; }

// ---- numbers of 8 bits: this host has none, and says so if it is asked
enum Fp8Kind { __NV_E4M3 };
[[noreturn]] inline void no_fp8() { fputs("stand-in: numbers of 8 bits are not here\n", stderr); abort(); }
struct __nv_fp8_e4m3 {
    uint8_t __x;
    __nv_fp8_e4m3() = default;
    template <typename N> explicit __nv_fp8_e4m3(N) { no_fp8(); }
    __nv_fp8_e4m3(double) { no_fp8(); }
    operator float() const { no_fp8(); }
};
inline __half __nv_cvt_fp8_to_halfraw(uint8_t, Fp8Kind) { no_fp8(); }

// ---- atomics: one thread at a time
struct Alone { Alone(); ~Alone(); };
template <typename T, typename N> T atomicAdd(T* at, N value) { Alone a; T old = *at; *at = old + T(value); return old; }
template <typename T, typename N> T atomicMin(T* at, N value) { Alone a; T old = *at; if (T(value) < old) *at = T(value); return old; }
template <typename T, typename N> T atomicMax(T* at, N value) { Alone a; T old = *at; if (T(value) > old) *at = T(value); return old; }
template <typename T> T atomicCAS(T* at, T expected, T value) { Alone a; T old = *at; if (old == expected) *at = value; return old; }
template <typename To, typename From> To same_bits(From from) { To to; memcpy(&to, &from, sizeof to); return to; }
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }

namespace cuda::std { using ::std::numeric_limits; }

// ---- a launch: arguments come as CUDA's driver is given them, a pointer to each
using Launch = void (*)(void** arguments, uint3 grid, uint3 block);
void announce(const char* name, Launch launch);
void run_threads(void (*thread)(void*), void* context, uint3 block);

template <typename... A, size_t... I> void call(void (*kernel)(A...), void** a, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A>*>(a[I])...);
}
template <auto KERNEL, typename... A> void call_with(void (*)(A...), void** a) { call(KERNEL, a, std::index_sequence_for<A...>()); }
template <auto KERNEL> void thread_of(void* arguments) { call_with<KERNEL>(KERNEL, static_cast<void**>(arguments)); }

template <auto KERNEL> void launch(void** arguments, uint3 grid, uint3 block) {
    struct All { void** arguments; uint3 grid, block; } all{arguments, grid, block};
    auto one = [](size_t i, void* context) {
        const All& all = *static_cast<All*>(context);
        blockDim = all.block;
        gridDim = all.grid;
        blockIdx = {unsigned(i % all.grid.x), unsigned(i / all.grid.x % all.grid.y), unsigned(i / all.grid.x / all.grid.y)};
#ifdef STANDIN_THREADS
        run_threads(thread_of<KERNEL>, all.arguments, all.block);
#else
        for (threadIdx.z = 0; threadIdx.z < all.block.z; threadIdx.z++)
            for (threadIdx.y = 0; threadIdx.y < all.block.y; threadIdx.y++)
                for (threadIdx.x = 0; threadIdx.x < all.block.x; threadIdx.x++) thread_of<KERNEL>(all.arguments);
#endif
    };
    parallel(size_t(grid.x) * grid.y * grid.z, one, &all);
}
struct Announced { Announced(const char* name, Launch launch) { announce(name, launch); } };
