// Blocks beside each other, and the threads of a block, each on a stack of its own: one runs until it waits, then the next.
#include <kernel.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

__thread uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace {
constexpr unsigned MOST = 1024;
constexpr size_t STACK = 32 << 10;
enum class State { Ready, WaitsForBlock, WaitsForWarp, Done };
struct Thread { void* stack_pointer; uint3 index; State state; unsigned shuffles; };

struct Block {
    Thread threads[MOST];
    unsigned count, running;
    void* scheduler;
    void (*entry)(void*);
    void* context;
    // Two sets of slots take turns: nobody writes to a set before all have read what was written there last.
    alignas(64) char slots[MOST / 32][2][32 * 8];
    alignas(64) char stacks[MOST][STACK];
};
/// The block that this thread of the processor runs.
thread_local std::unique_ptr<Block> own;
__thread Block* block;

// Saves what System V's callee keeps, changes stacks.
extern "C" void standin_switch(void** from, void* to);
asm(R"(
.text
.local standin_switch
.type standin_switch, @function
standin_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

void wait(State state) {
    block->threads[block->running].state = state;
    standin_switch(&block->threads[block->running].stack_pointer, block->scheduler);
}

void first() {
    block->entry(block->context);
    wait(State::Done);
    abort();
}

bool release(unsigned from, unsigned to, State waiting) {
    Thread* threads = block->threads;
    bool some = false;
    for (unsigned i = from; i < to; i++) {
        if (threads[i].state == State::Done) continue;
        if (threads[i].state != waiting) return false;
        some = true;
    }
    for (unsigned i = from; some && i < to; i++)
        if (threads[i].state == waiting) threads[i].state = State::Ready;
    return some;
}

std::mutex alone;
}  // namespace

Alone::Alone() { alone.lock(); }
Alone::~Alone() { alone.unlock(); }

unsigned lane() { return block->running % 32; }
void* warp_slots() { return block->slots[block->running / 32][block->threads[block->running].shuffles++ % 2]; }
void wait_for_warp() { wait(State::WaitsForWarp); }
void wait_for_block() { wait(State::WaitsForBlock); }

void parallel(size_t count, void (*work)(size_t, void*), void* context) {
    static const size_t most = std::max(1u, std::thread::hardware_concurrency());
    static thread_local bool inside = false;
    // What is done beside each other already is not split once more.
    if (inside || count < 2) {
        for (size_t i = 0; i < count; i++) work(i, context);
        return;
    }
    std::atomic<size_t> next = 0;
    // A few at a time, so that small blocks do not queue for the counter.
    size_t step = std::max<size_t>(1, count / (most * 8));
    auto run = [&] {
        inside = true;
        for (size_t from; (from = next.fetch_add(step)) < count;)
            for (size_t i = from; i < count && i < from + step; i++) work(i, context);
        inside = false;
    };
    std::vector<std::thread> others;
    for (size_t i = 1; i < most; i++) others.emplace_back(run);
    run();
    for (auto& other : others) other.join();
}

void run_threads(void (*thread)(void*), void* context, uint3 size) {
    if (!own) own = std::make_unique<Block>();
    block = own.get();
    unsigned count = block->count = size.x * size.y * size.z;
    block->entry = thread;
    block->context = context;
    Thread* threads = block->threads;
    for (unsigned i = 0; i < count; i++) {
        void** top = reinterpret_cast<void**>(block->stacks[i] + STACK) - 2;
        // The address that `first` would return to, then its own, then six registers.
        top[0] = nullptr;
        top[-1] = reinterpret_cast<void*>(first);
        memset(top - 7, 0, 6 * sizeof(void*));
        threads[i] = {top - 7, {i % size.x, i / size.x % size.y, i / size.x / size.y}, State::Ready, 0};
    }
    for (;;) {
        bool ran = false, left = false;
        for (unsigned i = 0; i < count; i++) {
            if (threads[i].state != State::Ready) continue;
            block->running = i;
            threadIdx = threads[i].index;
            standin_switch(&block->scheduler, threads[i].stack_pointer);
            ran = true;
        }
        for (unsigned i = 0; i < count; i++) left |= threads[i].state != State::Done;
        if (!left) return;
        for (unsigned warp = 0; warp < count; warp += 32) ran |= release(warp, std::min(warp + 32, count), State::WaitsForWarp);
        if (!ran && !release(0, count, State::WaitsForBlock)) {
            fputs("stand-in: the threads of a block wait for each other\n", stderr);
            abort();
        }
    }
}
