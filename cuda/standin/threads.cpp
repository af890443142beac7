// The threads of a block, each on a stack of its own; one runs until it waits, then the next.
#include <kernel.h>

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace {
constexpr unsigned MOST = 1024;
constexpr size_t STACK = 32 << 10;
enum class State { Ready, WaitsForBlock, WaitsForWarp, Done };
struct Thread { void* stack_pointer; uint3 index; State state; unsigned shuffles; };

Thread threads[MOST];
alignas(64) char stacks[MOST][STACK];
// Two sets of slots take turns: nobody writes to a set before all have read what was written there last.
alignas(64) char slots[MOST / 32][2][32 * 8];
unsigned count, running;
void* scheduler;
void (*entry)(void*);
void* entry_context;

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
    threads[running].state = state;
    standin_switch(&threads[running].stack_pointer, scheduler);
}

void first() {
    entry(entry_context);
    wait(State::Done);
    abort();
}

bool release(unsigned from, unsigned to, State waiting) {
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
}  // namespace

unsigned lane() { return running % 32; }
void* warp_slots() { return slots[running / 32][threads[running].shuffles++ % 2]; }
void wait_for_warp() { wait(State::WaitsForWarp); }
void wait_for_block() { wait(State::WaitsForBlock); }

void run_threads(void (*thread)(void*), void* context, uint3 block) {
    count = block.x * block.y * block.z;
    if (count > MOST) { fprintf(stderr, "stand-in: a block of %u threads\n", count); abort(); }
    entry = thread;
    entry_context = context;
    for (unsigned i = 0; i < count; i++) {
        void** top = reinterpret_cast<void**>(stacks[i] + STACK) - 2;
        // The address that `first` would return to, then its own, then six registers.
        top[0] = nullptr;
        top[-1] = reinterpret_cast<void*>(first);
        memset(top - 7, 0, 6 * sizeof(void*));
        threads[i] = {top - 7, {i % block.x, i / block.x % block.y, i / block.x / block.y}, State::Ready, 0};
    }
    for (;;) {
        bool ran = false, left = false;
        for (running = 0; running < count; running++) {
            if (threads[running].state != State::Ready) continue;
            threadIdx = threads[running].index;
            standin_switch(&scheduler, threads[running].stack_pointer);
            ran = true;
        }
        for (unsigned i = 0; i < count; i++) left |= threads[i].state != State::Done;
        if (!left) return;
        for (unsigned warp = 0; warp < count; warp += 32) ran |= release(warp, warp + 32 < count ? warp + 32 : count, State::WaitsForWarp);
        if (!ran && !release(0, count, State::WaitsForBlock)) {
            fputs("stand-in: the threads of a block wait for each other\n", stderr);
            abort();
        }
    }
}
