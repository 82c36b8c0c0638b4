// A GPU's threads as fibers of one process thread, several blocks at once, in an order drawn anew at every barrier and warp instruction.
// Any order that a GPU may take between these points can come up; what a kernel does in between runs whole.
//   DADKIT_PTX_SEED      of the order (1)
//   DADKIT_PTX_RESIDENT  blocks at once (4)
#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "runtime.h"

#if !defined(__x86_64__)
#error "fibers.cpp switches stacks in x86-64's assembly"
#endif

extern "C" void ptx_switch(void** from, void* to);
asm(R"(
.text
.globl ptx_switch
.type ptx_switch,@function
ptx_switch:
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

namespace ptx {
namespace {

constexpr size_t kStack = 256 * 1024;
enum State { kReady, kAtBarrier, kAsksActive, kExchanges, kDone };

struct Block;
struct Fiber {
  void* stack_pointer = nullptr;
  std::unique_ptr<char[]> stack;
  Block* block = nullptr;
  uint32_t thread = 0;
  State state = kDone;
  uint32_t mask = 0;
  Exchange what = kMatchAll;
  Offer offer{};
  uint64_t answer = 0;
};
struct Block {
  uint32_t index = 0;
  bool live = false;
  std::vector<Fiber> fibers;
  std::vector<int> ready;
  int at_barrier = 0, done = 0, asking = 0;
  std::unique_ptr<uint8_t[]> memory;
  uint8_t* shared = nullptr;
  const Body* body = nullptr;
};

void* scheduler = nullptr;
Fiber* current = nullptr;

int setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}
std::mt19937& draws() {
  static std::mt19937 generator(static_cast<unsigned>(setting("DADKIT_PTX_SEED", 1)));
  return generator;
}

void pause(State state) {
  Fiber* me = current;
  me->state = state;
  ptx_switch(&me->stack_pointer, scheduler);
}

void entry() {
  Fiber* me = current;
  (*me->block->body)(me->block->shared, me->block->index, me->thread);
  pause(kDone);
  std::abort();
}

void start(Block& b, uint32_t index, uint32_t size, size_t shared_bytes, const Body& body) {
  if (b.fibers.size() != size) b.fibers = std::vector<Fiber>(size);
  b.index = index;
  b.live = true;
  b.body = &body;
  b.at_barrier = b.done = b.asking = 0;
  b.memory.reset(new uint8_t[shared_bytes + 64]);
  b.shared = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(b.memory.get()) + 63) & ~uintptr_t(63));
  std::memset(b.shared, 0xff, shared_bytes);
  b.ready.clear();
  for (uint32_t t = 0; t < size; ++t) {
    Fiber& f = b.fibers[t];
    if (!f.stack) f.stack.reset(new char[kStack]);
    f.block = &b;
    f.thread = t;
    f.state = kReady;
    void** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(f.stack.get()) + kStack) & ~uintptr_t(15));
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&entry);
    for (int k = 0; k < 6; ++k) *--top = nullptr;
    f.stack_pointer = top;
    b.ready.push_back(static_cast<int>(t));
  }
}

void make_ready(Block& b, int t) {
  b.fibers[static_cast<size_t>(t)].state = kReady;
  b.ready.push_back(t);
}

// Lanes that ask which of them are active: some or all of those of a warp that has nobody else to wait for.
void answer_active(Block& b) {
  const int size = static_cast<int>(b.fibers.size());
  for (int first = 0; first < size; first += 32) {
    int asking[32], count = 0;
    for (int t = first; t < std::min(size, first + 32); ++t)
      if (b.fibers[static_cast<size_t>(t)].state == kAsksActive) asking[count++] = t;
    if (count == 0) continue;
    uint32_t mask = 0;
    const bool all = draws()() % 4 != 0;
    while (mask == 0)
      for (int k = 0; k < count; ++k)
        if (all || (draws()() & 1)) mask |= 1u << (asking[k] & 31);
    for (int k = 0; k < count; ++k) {
      if (!(mask >> (asking[k] & 31) & 1)) continue;
      b.fibers[static_cast<size_t>(asking[k])].answer = mask;
      --b.asking;
      make_ready(b, asking[k]);
    }
  }
}

// One decision; false when the block is finished.
bool step(Block& b) {
  const int size = static_cast<int>(b.fibers.size());
  if (!b.ready.empty()) {
    const size_t k = draws()() % b.ready.size();
    const int t = b.ready[k];
    b.ready[k] = b.ready.back();
    b.ready.pop_back();
    current = &b.fibers[static_cast<size_t>(t)];
    ptx_switch(&scheduler, current->stack_pointer);
    const State now = b.fibers[static_cast<size_t>(t)].state;
    b.at_barrier += now == kAtBarrier;
    b.done += now == kDone;
    b.asking += now == kAsksActive;
    return true;
  }
  if (b.asking) {
    answer_active(b);
    return true;
  }
  if (b.done == size) return false;
  if (b.at_barrier == size) {
    b.at_barrier = 0;
    for (int t = 0; t < size; ++t) make_ready(b, t);
    return true;
  }
  if (b.at_barrier && b.done) object("a barrier that some threads reach after others have ended", static_cast<unsigned>(b.at_barrier), static_cast<unsigned>(b.done));
  object("a warp instruction waits for lanes that do not come", b.index, static_cast<unsigned>(b.at_barrier));
}

}  // namespace

uint32_t thread_index() { return current->thread; }
uint32_t block_index() { return current->block->index; }
uint32_t block_size() { return static_cast<uint32_t>(current->block->fibers.size()); }
void barrier() { pause(kAtBarrier); }
void fence() {}
int fence_order() { return __ATOMIC_RELAXED; }
uint32_t active_mask() {
  pause(kAsksActive);
  return static_cast<uint32_t>(current->answer);
}

uint64_t warp_exchange(Exchange what, uint32_t mask, uint32_t value, uint32_t by, uint32_t clamp) {
  Fiber* me = current;
  Block& b = *me->block;
  const int lane = static_cast<int>(me->thread & 31), first = static_cast<int>(me->thread) - lane;
  if (!(mask >> lane & 1)) object("a lane outside its own mask", static_cast<unsigned>(lane), mask);
  me->mask = mask;
  me->what = what;
  me->offer = {value, by, clamp};
  Offer offers[32] = {};
  for (int l = 0; l < 32; ++l) {
    if (!(mask >> l & 1) || l == lane) continue;
    if (static_cast<size_t>(first + l) >= b.fibers.size()) object("a mask with lanes that the block does not have", mask);
    const Fiber& f = b.fibers[static_cast<size_t>(first + l)];
    if (f.state != kExchanges || f.mask != mask || f.what != what) {  // not the last to come
      pause(kExchanges);
      return me->answer;
    }
    offers[l] = f.offer;
  }
  offers[lane] = me->offer;
  for (int l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) continue;
    b.fibers[static_cast<size_t>(first + l)].answer = exchanged(what, mask, offers, l);
    if (l != lane) make_ready(b, first + l);
  }
  return me->answer;
}

void launch(uint32_t grid, uint32_t size, size_t shared_bytes, const Body& body) {
  static std::vector<std::unique_ptr<Block>> pool;
  const size_t resident = static_cast<size_t>(setting("DADKIT_PTX_RESIDENT", 4));
  while (pool.size() < resident) pool.emplace_back(new Block);
  std::vector<uint32_t> order(grid);
  for (uint32_t k = 0; k < grid; ++k) order[k] = k;
  std::shuffle(order.begin(), order.end(), draws());
  uint32_t next = 0, finished = 0;
  for (auto& b : pool) b->live = false;
  std::vector<Block*> live;
  while (finished < grid) {
    live.clear();
    for (auto& b : pool) {
      if (!b->live && next < grid) start(*b, order[next++], size, shared_bytes, body);
      if (b->live) live.push_back(b.get());
    }
    Block& b = *live[draws()() % live.size()];
    for (uint32_t burst = 1 + draws()() % 300; burst > 0 && b.live; --burst) {
      if (step(b)) continue;
      b.live = false;
      ++finished;
    }
  }
  current = nullptr;
}

}  // namespace ptx
