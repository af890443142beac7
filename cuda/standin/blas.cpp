// cuBLAS's products of matrices and what candle asks of cuRAND when it opens a device.
#include <kernel.h>

#include <algorithm>
#include <mutex>
#include <vector>

void count_launch(const char* name, size_t threads);
std::mutex& device_lock();

namespace {
enum : int { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
constexpr int ROWS = 32, COLUMNS = 8;
typedef float Sixteen __attribute__((vector_size(64)));

float read(const void* at, size_t i, int type) {
    switch (type) {
        case F32: return static_cast<const float*>(at)[i];
        case F16: return f16_value(static_cast<const uint16_t*>(at)[i]);
        default: return bf16_value(static_cast<const uint16_t*>(at)[i]);
    }
}
void write(void* at, size_t i, int type, float value) {
    switch (type) {
        case F32: static_cast<float*>(at)[i] = value; return;
        case F16: static_cast<uint16_t*>(at)[i] = f16_bits(value); return;
        default: static_cast<uint16_t*>(at)[i] = bf16_bits(value); return;
    }
}

/// C = alpha op(A) op(B) + beta C in column-major order; sums in f32, as with CUBLAS_COMPUTE_32F. A and B in f32, in panels.
void product(bool ta, bool tb, int m, int n, int k, float alpha, const void* a, int at, size_t lda, const void* b, int bt, size_t ldb,
             float beta, void* c, int ct, size_t ldc) {
    int mp = (m + ROWS - 1) / ROWS, np = (n + COLUMNS - 1) / COLUMNS;
    static std::vector<float> pa, pb;
    pa.assign(size_t(mp) * ROWS * k, 0);
    pb.assign(size_t(np) * COLUMNS * k, 0);
#pragma omp parallel
    {
#pragma omp for
        for (int p = 0; p < mp; p++)
            for (int i = 0; i < ROWS && p * ROWS + i < m; i++)
                for (int l = 0; l < k; l++) {
                    size_t row = size_t(p) * ROWS + i;
                    pa[(size_t(p) * k + l) * ROWS + i] = read(a, ta ? row * lda + l : l * lda + row, at);
                }
#pragma omp for
        for (int p = 0; p < np; p++)
            for (int j = 0; j < COLUMNS && p * COLUMNS + j < n; j++)
                for (int l = 0; l < k; l++) {
                    size_t column = size_t(p) * COLUMNS + j;
                    pb[(size_t(p) * k + l) * COLUMNS + j] = read(b, tb ? l * ldb + column : column * ldb + l, bt);
                }
#pragma omp for
        for (int q = 0; q < np; q++)
            for (int p = 0; p < mp; p++) {
                Sixteen sum[COLUMNS][2] = {};
                const float *x = &pa[size_t(p) * k * ROWS], *y = &pb[size_t(q) * k * COLUMNS];
                for (int l = 0; l < k; l++, x += ROWS, y += COLUMNS) {
                    Sixteen low, high;
                    memcpy(&low, x, 64);
                    memcpy(&high, x + 16, 64);
                    for (int j = 0; j < COLUMNS; j++) {
                        sum[j][0] += low * y[j];
                        sum[j][1] += high * y[j];
                    }
                }
                for (int j = 0; j < COLUMNS && q * COLUMNS + j < n; j++)
                    for (int i = 0; i < ROWS && p * ROWS + i < m; i++) {
                        size_t to = (size_t(q) * COLUMNS + j) * ldc + size_t(p) * ROWS + i;
                        float value = alpha * sum[j][i / 16][i % 16];
                        write(c, to, ct, beta == 0 ? value : value + beta * read(c, to, ct));
                    }
            }
    }
}

size_t width(int type) { return type == F32 ? 4 : 2; }
const char* moved(const void* at, size_t i, int type) { return static_cast<const char*>(at) + i * width(type); }
bool known(int type) { return type == F32 || type == F16 || type == BF16; }
}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int
API cublasCreate_v2(void** handle) { *handle = new char; return 0; }
API cublasDestroy_v2(void* handle) { delete static_cast<char*>(handle); return 0; }
API cublasSetStream_v2(void*, void*) { return 0; }
API cublasSetMathMode(void*, int) { return 0; }
API cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int at, int lda, long long sa,
                               const void* b, int bt, int ldb, long long sb, const void* beta, void* c, int ct, int ldc, long long sc,
                               int batch, int compute, int) {
    std::lock_guard hold(device_lock());
    // What cuBLAS refuses as well: leading dimensions that are shorter than a column.
    bool fits = lda >= std::max(1, ta ? k : m) && ldb >= std::max(1, tb ? n : k) && ldc >= std::max(1, m);
    if (!known(at) || !known(bt) || !known(ct) || !fits || (compute != 68 && compute != 77)) {
        fprintf(stderr, "stand-in: no product of types %d, %d, %d, computed as %d\n", at, bt, ct, compute);
        return 15;
    }
    count_launch(ct == F32 ? "gemm_f32" : "gemm_bf16", size_t(m) * n * batch);
    for (int i = 0; i < batch; i++)
        product(ta, tb, m, n, k, *static_cast<const float*>(alpha), moved(a, i * sa, at), at, lda, moved(b, i * sb, bt), bt, ldb,
                *static_cast<const float*>(beta), const_cast<char*>(moved(c, i * sc, ct)), ct, ldc);
    return 0;
}

API curandCreateGenerator(void** g, int) { *g = new char; return 0; }
API curandDestroyGenerator(void* g) { delete static_cast<char*>(g); return 0; }
API curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
API curandSetStream(void*, void*) { return 0; }
API curandSetGeneratorOffset(void*, unsigned long long) { return 0; }
