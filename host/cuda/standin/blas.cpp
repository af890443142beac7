// cuBLAS's products of matrices, and cuRAND's numbers.
#include <kernel.h>

#include <algorithm>
#include <mutex>
#include <random>
#include <vector>

void count_launch(const char* name, size_t threads);
std::mutex& device_lock();

namespace {
enum : int { F32 = 0, F64 = 1, F16 = 2, BF16 = 14 };
enum : int { SUMS_IN_F32 = 68, SUMS_IN_TF32 = 77, REFUSED = 15 };
constexpr int COLUMNS = 8;

double read(const void* at, size_t i, int type) {
    switch (type) {
        case F64: return static_cast<const double*>(at)[i];
        case F32: return static_cast<const float*>(at)[i];
        case F16: return f16_value(static_cast<const uint16_t*>(at)[i]);
        default: return bf16_value(static_cast<const uint16_t*>(at)[i]);
    }
}
void write(void* at, size_t i, int type, double value) {
    switch (type) {
        case F64: static_cast<double*>(at)[i] = value; return;
        case F32: static_cast<float*>(at)[i] = value; return;
        case F16: static_cast<uint16_t*>(at)[i] = f16_bits(value); return;
        default: static_cast<uint16_t*>(at)[i] = bf16_bits(value); return;
    }
}

template <typename F> void on_all(size_t count, F work) {
    parallel(count, [](size_t i, void* f) { (*static_cast<F*>(f))(i); }, &work);
}

/// C = alpha op(A) op(B) + beta C in column-major order, summed in numbers of `Sum`.
template <typename Sum>
void product(bool ta, bool tb, int m, int n, int k, Sum alpha, const void* a, int at, size_t lda, const void* b, int bt, size_t ldb,
             Sum beta, void* c, int ct, size_t ldc) {
    typedef Sum Vector __attribute__((vector_size(64)));
    constexpr int WIDE = 64 / sizeof(Sum), VECTORS = 2, ROWS = VECTORS * WIDE;
    int mp = (m + ROWS - 1) / ROWS, np = (n + COLUMNS - 1) / COLUMNS;
    std::vector<Sum> pa(size_t(mp) * ROWS * k), pb(size_t(np) * COLUMNS * k);
    on_all(mp, [&](size_t p) {
        for (int l = 0; l < k; l++)
            for (int i = 0; i < ROWS && p * ROWS + i < size_t(m); i++)
                pa[(p * k + l) * ROWS + i] = read(a, ta ? (p * ROWS + i) * lda + l : l * lda + p * ROWS + i, at);
    });
    on_all(np, [&](size_t q) {
        for (int l = 0; l < k; l++)
            for (int j = 0; j < COLUMNS && q * COLUMNS + j < size_t(n); j++)
                pb[(q * k + l) * COLUMNS + j] = read(b, tb ? l * ldb + q * COLUMNS + j : (q * COLUMNS + j) * ldb + l, bt);
    });
    on_all(np, [&](size_t q) {
        for (int p = 0; p < mp; p++) {
            Vector sum[COLUMNS][VECTORS] = {};
            const Sum *x = &pa[size_t(p) * k * ROWS], *y = &pb[q * k * COLUMNS];
            for (int l = 0; l < k; l++, x += ROWS, y += COLUMNS) {
                Vector low, high;
                memcpy(&low, x, 64);
                memcpy(&high, x + WIDE, 64);
                for (int j = 0; j < COLUMNS; j++) {
                    sum[j][0] += low * y[j];
                    sum[j][1] += high * y[j];
                }
            }
            for (int j = 0; j < COLUMNS && q * COLUMNS + j < size_t(n); j++)
                for (int i = 0; i < ROWS && p * ROWS + i < m; i++) {
                    size_t to = (q * COLUMNS + j) * ldc + size_t(p) * ROWS + i;
                    Sum value = alpha * sum[j][i / WIDE][i % WIDE];
                    write(c, to, ct, beta == 0 ? value : value + beta * Sum(read(c, to, ct)));
                }
        }
    });
}

size_t width(int type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }
const char* moved(const void* at, size_t i, int type) { return static_cast<const char*>(at) + i * width(type); }

template <typename Sum>
int products(int ta, int tb, int m, int n, int k, const Sum* alpha, const void* a, int at, int lda, long long sa, const void* b, int bt, int ldb,
             long long sb, const Sum* beta, void* c, int ct, int ldc, long long sc, int batch) {
    std::lock_guard hold(device_lock());
    // What cuBLAS refuses as well: leading dimensions that are shorter than a column.
    if (lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m)) {
        fprintf(stderr, "stand-in: a product of %d x %d x %d with leading dimensions %d, %d, %d\n", m, n, k, lda, ldb, ldc);
        return REFUSED;
    }
    count_launch(ct == F64 ? "gemm_f64" : ct == F32 ? "gemm_f32" : "gemm_16", size_t(m) * n * batch);
    on_all(batch, [&](size_t i) {
        product<Sum>(ta, tb, m, n, k, *alpha, moved(a, i * sa, at), at, lda, moved(b, i * sb, bt), bt, ldb, *beta,
                     const_cast<char*>(moved(c, i * sc, ct)), ct, ldc);
    });
    return 0;
}
}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int
API cublasCreate_v2(void** handle) { *handle = new char; return 0; }
API cublasDestroy_v2(void* handle) { delete static_cast<char*>(handle); return 0; }
API cublasSetStream_v2(void*, void*) { return 0; }
API cublasSetMathMode(void*, int) { return 0; }
API cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int at, int lda, long long sa,
                               const void* b, int bt, int ldb, long long sb, const void* beta, void* c, int ct, int ldc, long long sc,
                               int batch, int compute, int) {
    auto known = [](int type) { return type == F32 || type == F16 || type == BF16; };
    if (!known(at) || !known(bt) || !known(ct) || (compute != SUMS_IN_F32 && compute != SUMS_IN_TF32)) {
        fprintf(stderr, "stand-in: no product of types %d, %d, %d, computed as %d\n", at, bt, ct, compute);
        return REFUSED;
    }
    return products<float>(ta, tb, m, n, k, static_cast<const float*>(alpha), a, at, lda, sa, b, bt, ldb, sb, static_cast<const float*>(beta), c,
                           ct, ldc, sc, batch);
}
API cublasDgemmStridedBatched(void*, int ta, int tb, int m, int n, int k, const double* alpha, const double* a, int lda, long long sa,
                              const double* b, int ldb, long long sb, const double* beta, double* c, int ldc, long long sc, int batch) {
    return products<double>(ta, tb, m, n, k, alpha, a, F64, lda, sa, b, F64, ldb, sb, beta, c, F64, ldc, sc, batch);
}

// ---- random numbers: some, not cuRAND's
API curandCreateGenerator(void** g, int) { *g = new std::mt19937; return 0; }
API curandDestroyGenerator(void* g) { delete static_cast<std::mt19937*>(g); return 0; }
API curandSetPseudoRandomGeneratorSeed(void* g, unsigned long long seed) { static_cast<std::mt19937*>(g)->seed(seed); return 0; }
API curandSetStream(void*, void*) { return 0; }
API curandSetGeneratorOffset(void*, unsigned long long) { return 0; }
API curandGenerateNormal(void* g, float* to, size_t n, float mean, float deviation) {
    std::lock_guard hold(device_lock());
    constexpr int LENGTH_NOT_MULTIPLE = 105;
    if (n % 2 != 0) return LENGTH_NOT_MULTIPLE;
    std::normal_distribution<float> normal(mean, deviation);
    for (size_t i = 0; i < n; i++) to[i] = normal(*static_cast<std::mt19937*>(g));
    return 0;
}
API curandGenerateUniform(void* g, float* to, size_t n) {
    std::lock_guard hold(device_lock());
    // From 0, which is not among them, to 1, which is.
    for (size_t i = 0; i < n; i++) to[i] = ((*static_cast<std::mt19937*>(g))() + 1.0) / 4294967296.0;
    return 0;
}
