// CUDA's driver as far as this host calls it, over the processor's memory. What it adds, a GPU does not tell: memory is filled
// with NaN before it is given out, writes beside it are found when it is given back, and a report says what was asked for.
//
//   STANDIN_MEMORY   bytes that the device has [8 GiB]
//   STANDIN_REPORT   a file that gets the report when the process ends: a line of JSON
//   STANDIN_FULL_AT  the number of an allocation that finds the device full; the ones after it do not
//   STANDIN_TAKEN    a file with the number of bytes that others hold of the device, read anew each time
#include <kernel.h>

#include <map>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

using Result = int;
namespace {
enum : Result { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, NOT_SUPPORTED = 801 };
constexpr size_t PAGE = 2 << 20, MARGIN = 64;
constexpr unsigned char WILD = 0xFF, GUARD = 0xA5;

std::mutex lock;

struct Count { size_t launches = 0, threads = 0; };
struct Device {
    size_t total = getenv("STANDIN_MEMORY") ? strtoull(getenv("STANDIN_MEMORY"), nullptr, 10) : size_t(8) << 30;
    /// The pool of stream-ordered allocations keeps what was given back until the next synchronisation, beyond its threshold.
    size_t used = 0, reserved = 0, peak = 0;
    uint64_t threshold = 0;
    /// The end of the pool that was made last and set.
    size_t most = SIZE_MAX, of_new_pool = SIZE_MAX;
    std::unordered_map<uintptr_t, size_t> blocks;
    size_t up = 0, down = 0, uploads = 0, downloads = 0, allocations = 0, events = 0, synchronisations = 0;
    std::map<std::string, Count> kernels;
} device;

const char* given(const char* name) { return getenv(name) ? getenv(name) : ""; }

/// What others hold.
size_t taken() {
    size_t bytes = 0;
    if (FILE* file = fopen(given("STANDIN_TAKEN"), "r")) {
        if (fscanf(file, "%zu", &bytes) != 1) bytes = 0;
        fclose(file);
    }
    return bytes;
}

size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

std::unordered_map<std::string, Launch>& kernels() {
    static std::unordered_map<std::string, Launch> all;
    return all;
}

void synchronised() {
    device.synchronisations++;
    size_t least = device.threshold > device.used ? device.threshold : device.used;
    if (least < device.reserved) device.reserved = pages(least);
}

struct Function { std::string name; Launch launch; };

struct Report {
    ~Report() {
        const char* path = getenv("STANDIN_REPORT");
        FILE* file = path ? fopen(path, "a") : nullptr;
        if (!file) return;
        size_t launches = 0;
        for (auto& k : device.kernels) launches += k.second.launches;
        fprintf(file, "{\"peak\": %zu, \"up\": %zu, \"uploads\": %zu, \"down\": %zu, \"downloads\": %zu, \"allocations\": %zu, \"events\": %zu, "
                "\"synchronisations\": %zu, \"left\": %zu, \"launches\": %zu, \"kernels\": {", device.peak, device.up, device.uploads, device.down,
                device.downloads, device.allocations, device.events, device.synchronisations, device.used, launches);
        const char* comma = "";
        for (auto& k : device.kernels) { fprintf(file, "%s\"%s\": %zu", comma, k.first.c_str(), k.second.launches); comma = ", "; }
        fputs("}}\n", file);
        fclose(file);
    }
} report;
}  // namespace

void announce(const char* name, Launch launch) { kernels()[name] = launch; }
void count_launch(const char* name, size_t threads) {
    auto& k = device.kernels[name];
    k.launches++;
    k.threads += threads;
}
std::mutex& device_lock() { return lock; }

#define API extern "C" __attribute__((visibility("default"))) Result
API cuInit(unsigned) { return OK; }
API cuDriverGetVersion(int* v) { *v = 13000; return OK; }
API cuDeviceGetCount(int* n) { *n = 1; return OK; }
API cuDeviceGet(int* d, int n) { *d = n; return n == 0 ? OK : INVALID_DEVICE; }
API cuDeviceGetName(char* name, int length, int) { snprintf(name, length, "stand-in on the processor"); return OK; }
API cuDeviceGetUuid_v2(char* uuid, int) { memset(uuid, 7, 16); return OK; }
API cuDeviceTotalMem_v2(size_t* n, int) { *n = device.total; return OK; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 1: *value = 1024; return OK;  // threads of a block
        case 10: *value = 32; return OK;   // lanes of a warp
        case 16: *value = 1; return OK;    // multiprocessors
        case 75: *value = 8; return OK;    // compute capability
        case 76: *value = 0; return OK;
        case 115: *value = 1; return OK;   // memory pools
        default: fprintf(stderr, "stand-in: attribute %d of the device is not here\n", attribute); return NOT_SUPPORTED;
    }
}
API cuDevicePrimaryCtxRetain(void** c, int) { *c = &device; return OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void*) { return OK; }
API cuCtxGetCurrent(void** c) { *c = &device; return OK; }
API cuCtxSynchronize() { std::lock_guard hold(lock); synchronised(); return OK; }
API cuGetErrorName(Result e, const char** text) {
    *text = e == OK ? "CUDA_SUCCESS" : e == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND"
          : e == INVALID_DEVICE ? "CUDA_ERROR_INVALID_DEVICE" : e == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : "CUDA_ERROR_NOT_SUPPORTED";
    return OK;
}
API cuGetErrorString(Result e, const char** text) { *text = e == OUT_OF_MEMORY ? "out of memory" : "error of the stand-in"; return OK; }

// ---- streams and events: everything has happened when a call returns
API cuStreamCreate(void** s, unsigned) { *s = new char; return OK; }
API cuStreamDestroy_v2(void* s) { delete static_cast<char*>(s); return OK; }
API cuStreamSynchronize(void*) { std::lock_guard hold(lock); synchronised(); return OK; }
API cuStreamWaitEvent(void*, void*, unsigned) { return OK; }
API cuStreamIsCapturing(void*, int* status) { *status = 0; return OK; }
API cuEventCreate(void** e, unsigned) { std::lock_guard hold(lock); device.events++; *e = new char; return OK; }
API cuEventDestroy_v2(void* e) { delete static_cast<char*>(e); return OK; }
API cuEventRecord(void*, void*) { return OK; }
API cuEventSynchronize(void*) { return OK; }
API cuEventQuery(void*) { return OK; }

// ---- memory
API cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard hold(lock);
    size_t held = device.reserved + taken();
    *free = device.total > held ? device.total - held : 0;
    *total = device.total;
    return OK;
}
API cuMemAllocAsync(void** at, size_t bytes, void*) {
    std::lock_guard hold(lock);
    size_t reserved = pages(device.used + bytes);
    // The driver gives nothing in order, and refuses it out of order.
    if (bytes == 0) { *at = nullptr; return OK; }
    static const size_t full_at = strtoull(given("STANDIN_FULL_AT"), nullptr, 10);
    if (++device.allocations == full_at || reserved + taken() > device.total || device.used + bytes > device.most) return OUT_OF_MEMORY;
    auto* block = static_cast<unsigned char*>(::operator new(bytes + 2 * MARGIN, std::align_val_t(256), std::nothrow));
    if (!block) return OUT_OF_MEMORY;
    // Aligned as the device's memory is, guarded on both sides.
    static_assert(MARGIN % 64 == 0);
    memset(block, GUARD, MARGIN);
    memset(block + MARGIN, WILD, bytes);
    memset(block + MARGIN + bytes, GUARD, MARGIN);
    *at = block + MARGIN;
    device.blocks[reinterpret_cast<uintptr_t>(*at)] = bytes;
    device.used += bytes;
    if (reserved > device.reserved) device.reserved = reserved;
    if (device.used > device.peak) device.peak = device.used;
    return OK;
}
API cuMemFreeAsync(void* at, void*) {
    std::lock_guard hold(lock);
    if (!at) return OK;
    auto found = device.blocks.find(reinterpret_cast<uintptr_t>(at));
    if (found == device.blocks.end()) { fputs("stand-in: what is given back was never given\n", stderr); abort(); }
    auto* block = static_cast<unsigned char*>(at) - MARGIN;
    size_t bytes = found->second;
    for (size_t i = 0; i < MARGIN; i++)
        if (block[i] != GUARD || block[MARGIN + bytes + i] != GUARD) { fprintf(stderr, "stand-in: a kernel wrote beside %zu bytes\n", bytes); abort(); }
    memset(at, WILD, bytes);
    device.blocks.erase(found);
    device.used -= bytes;
    ::operator delete(block, std::align_val_t(256));
    return OK;
}
API cuMemAlloc_v2(void** at, size_t bytes) { return bytes ? cuMemAllocAsync(at, bytes, nullptr) : INVALID_VALUE; }
API cuMemFree_v2(void* at) { return cuMemFreeAsync(at, nullptr); }
API cuDeviceGetDefaultMemPool(void** pool, int) { *pool = &device; return OK; }
API cuDeviceGetMemPool(void** pool, int) { *pool = &device; return OK; }
API cuMemPoolCreate(void** pool, const void* properties) {
    std::lock_guard hold(lock);
    struct Properties { int type, handles, location, id; void* security; size_t most; unsigned char reserved[56]; } p;
    static_assert(sizeof p == 88);
    memcpy(&p, properties, sizeof p);
    if (p.type != 1 || p.handles != 0 || p.location != 1 || p.id != 0) return INVALID_VALUE;
    for (auto byte : p.reserved) if (byte != 0) return INVALID_VALUE;
    device.of_new_pool = p.most ? p.most : SIZE_MAX;
    *pool = &device;
    return OK;
}
API cuDeviceSetMemPool(int, void*) { std::lock_guard hold(lock); device.most = device.of_new_pool; return OK; }
API cuMemPoolSetAttribute(void*, int attribute, void* value) {
    std::lock_guard hold(lock);
    if (attribute != 4) return NOT_SUPPORTED;
    device.threshold = *static_cast<uint64_t*>(value);
    return OK;
}
API cuMemPoolGetAttribute(void*, int attribute, void* value) {
    std::lock_guard hold(lock);
    auto* to = static_cast<uint64_t*>(value);
    switch (attribute) {
        case 4: *to = device.threshold; return OK;
        case 5: *to = device.reserved; return OK;
        case 7: *to = device.used; return OK;
        default: return NOT_SUPPORTED;
    }
}
API cuMemPoolTrimTo(void*, size_t least) {
    std::lock_guard hold(lock);
    size_t kept = pages(least > device.used ? least : device.used);
    if (device.reserved > kept) device.reserved = kept;
    return OK;
}
API cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, void*) {
    std::lock_guard hold(lock);
    device.up += bytes;
    device.uploads++;
    memcpy(to, from, bytes);
    return OK;
}
API cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, void*) {
    std::lock_guard hold(lock);
    device.down += bytes;
    device.downloads++;
    memcpy(to, from, bytes);
    return OK;
}
API cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t bytes, void*) { std::lock_guard hold(lock); memmove(to, from, bytes); return OK; }
API cuMemsetD8Async(void* at, unsigned char value, size_t bytes, void*) { std::lock_guard hold(lock); memset(at, value, bytes); return OK; }
API cuMemHostAlloc(void** at, size_t bytes, unsigned) { *at = malloc(bytes); return *at ? OK : OUT_OF_MEMORY; }
API cuMemFreeHost(void* at) { free(at); return OK; }

// ---- kernels, by the names that the PTX has for them
API cuModuleLoadData(void** m, const void* image) {
    if (!strstr(static_cast<const char*>(image), ".entry")) { fputs("stand-in: a module without a kernel\n", stderr); return INVALID_VALUE; }
    *m = new std::string(static_cast<const char*>(image));
    return OK;
}
API cuModuleUnload(void* m) { delete static_cast<std::string*>(m); return OK; }
API cuModuleGetFunction(void** f, void* m, const char* name) {
    auto& image = *static_cast<std::string*>(m);
    if (image.find(std::string(".entry ") + name + "(") == std::string::npos) {
        fprintf(stderr, "stand-in: the PTX has no kernel %s\n", name);
        return NOT_FOUND;
    }
    auto found = kernels().find(name);
    if (found == kernels().end()) { fprintf(stderr, "stand-in: no kernel %s\n", name); return NOT_FOUND; }
    *f = new Function{name, found->second};
    return OK;
}
API cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void*, void** arguments, void**) {
    std::lock_guard hold(lock);
    auto* function = static_cast<Function*>(f);
    size_t threads = size_t(bx) * by * bz;
    // A GPU refuses what follows; so does this.
    if (threads == 0 || threads > 1024 || gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || shared > 48 << 10) {
        fprintf(stderr, "stand-in: %s in %u x %u x %u blocks of %zu threads, %u bytes shared\n", function->name.c_str(), gx, gy, gz, threads, shared);
        return INVALID_VALUE;
    }
    count_launch(function->name.c_str(), threads * gx * gy * gz);
    function->launch(arguments, {gx, gy, gz}, {bx, by, bz});
    return OK;
}
