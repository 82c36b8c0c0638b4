// A GPU's threads as threads of the operating system, three blocks at once, for ThreadSanitizer. Barriers order memory; a fence makes the
// next atomic addition acquire and release, all other atomics order nothing; warp instructions order nothing either.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "runtime.h"

namespace ptx {
namespace {

constexpr uint32_t kResident = 3;

struct Warp {  // one meeting of its lanes at a time; counters that only grow tell the meetings apart
  std::atomic<uint32_t> arrived{0}, left{0};
  std::atomic<uint32_t> value[32], by[32], clamp[32];
};
struct Block {
  uint32_t index, size;
  pthread_barrier_t barrier;
  std::vector<uint8_t> memory;
  std::vector<Warp> warps;
};

thread_local Block* block = nullptr;
thread_local uint32_t thread = 0;
thread_local bool fenced = false;

}  // namespace

uint32_t thread_index() { return thread; }
uint32_t block_index() { return block->index; }
uint32_t block_size() { return block->size; }
void barrier() { pthread_barrier_wait(&block->barrier); }
void fence() { fenced = true; }
int fence_order() {
  const bool was = fenced;
  fenced = false;
  return was ? __ATOMIC_ACQ_REL : __ATOMIC_RELAXED;
}
uint32_t active_mask() { return 1u << (thread & 31); }  // any group of lanes may be the active one

uint64_t warp_exchange(Exchange what, uint32_t mask, uint32_t value, uint32_t by, uint32_t clamp) {
  const uint32_t lane = thread & 31;
  if (mask == 1u << lane) {
    Offer alone[32] = {};
    alone[lane] = {value, by, clamp};
    return exchanged(what, mask, alone, static_cast<int>(lane));
  }
  if (mask != 0xffffffffu) object("only whole warps exchange here", mask);
  Warp& w = block->warps[thread / 32];
  constexpr auto relaxed = std::memory_order_relaxed;
  w.value[lane].store(value, relaxed);
  w.by[lane].store(by, relaxed);
  w.clamp[lane].store(clamp, relaxed);
  // relaxed throughout: ThreadSanitizer must not take a meeting for an order of memory. x86 keeps stores, and locked additions, in order.
  const uint32_t meeting = w.arrived.fetch_add(1, relaxed) / 32;
  while (w.arrived.load(relaxed) < 32 * (meeting + 1)) sched_yield();
  Offer offers[32];
  for (int l = 0; l < 32; ++l) offers[l] = {w.value[l].load(relaxed), w.by[l].load(relaxed), w.clamp[l].load(relaxed)};
  const uint64_t answer = exchanged(what, mask, offers, static_cast<int>(lane));
  w.left.fetch_add(1, relaxed);
  while (w.left.load(relaxed) < 32 * (meeting + 1)) sched_yield();
  return answer;
}

void launch(uint32_t grid, uint32_t size, size_t shared_bytes, const Body& body) {
  for (uint32_t first = 0; first < grid; first += kResident) {
    std::vector<std::unique_ptr<Block>> blocks;
    for (uint32_t k = first; k < grid && k < first + kResident; ++k) {
      blocks.emplace_back(new Block{});
      Block& b = *blocks.back();
      b.index = k;
      b.size = size;
      b.memory.assign(shared_bytes + 64, 0xff);
      b.warps = std::vector<Warp>((size + 31) / 32);
      pthread_barrier_init(&b.barrier, nullptr, size);
    }
    std::vector<std::thread> pool;
    for (uint32_t t = 0; t < size; ++t) {
      for (auto& b : blocks) {
        pool.emplace_back([&body, t, mine = b.get()] {
          block = mine;
          thread = t;
          fenced = false;
          body(reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(mine->memory.data()) + 63) & ~uintptr_t(63)), mine->index, t);
        });
      }
    }
    for (auto& t : pool) t.join();
    for (auto& b : blocks) pthread_barrier_destroy(&b->barrier);
  }
}

}  // namespace ptx
