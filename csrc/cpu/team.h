// Threads that work through one image together, and how a batch's images are shared out among all threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <thread>
#include <vector>

namespace dadkit {

using Clock = std::chrono::steady_clock;

// The calling thread's time on a core.
inline Clock::duration time_on_core() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec t;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0) return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
#endif
  return Clock::now().time_since_epoch();
}

// Counts what ended, also by an exception (parallel_for passes it on): nobody waits for it forever.
class Counted {
 public:
  explicit Counted(std::atomic<int64_t>* count) : count_(*count) {}
  ~Counted() { count_.fetch_add(1, std::memory_order_release); }

 private:
  std::atomic<int64_t>& count_;
};

// One thread leads; others take what it offers. It never waits for a thread that has not begun: it works through everything by itself if
// nobody comes, and waits at the end of a step only for tasks that are being worked on.
class alignas(64) Team {
 public:
  // f(0) … f(n - 1), in any order; called by the leader alone.
  template <typename F>
  void each(int64_t n, const F& f) {
    body_ = &f;
    call_ = [](const void* body, int64_t i) { (*static_cast<const F*>(body))(i); };
    size_ = n;
    done_.store(0, std::memory_order_relaxed);
    left_.store(n, std::memory_order_release);
    const Finish finish{this, n};
    while (work()) {}
  }
  Clock::duration waited() const { return waited_; }

  // Takes one task, if there is one. Only with a task in hand is what the leader wrote read: it cannot change before the task is done.
  bool work() {
    int64_t left = left_.load(std::memory_order_acquire);
    while (left > 0) {
      if (!left_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      const Counted end(&done_);
      call_(body_, size_ - left);
      return true;
    }
    return false;
  }

  // A moment without work: spinning for about a microsecond, then leaving the core to others.
  static void rest(int turn) {
    if (turn >= 64) return std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

 private:
  // Waits for the tasks in hand, also where one of the leader's own throws: they use what is on its stack.
  struct Finish {
    Team* team;
    int64_t n;
    ~Finish() {
      const int64_t taken = n - team->left_.exchange(0, std::memory_order_acq_rel);
      if (team->done_.load(std::memory_order_acquire) == taken) return;
      const Clock::time_point begin = Clock::now();
      for (int turn = 0; team->done_.load(std::memory_order_acquire) < taken; ++turn) rest(turn);
      team->waited_ += Clock::now() - begin;
    }
  };

  std::atomic<int64_t> left_{0}, done_{0};
  Clock::duration waited_{0};
  int64_t size_ = 0;
  const void* body_ = nullptr;
  void (*call_)(const void*, int64_t) = nullptr;
};

// f(0) … f(n - 1): by a team, or in order without one.
template <typename F>
void for_each(Team* team, int64_t n, const F& f) {
  if (team && n > 1) return team->each(n, f);
  for (int64_t i = 0; i < n; ++i) f(i);
}

// Whether helpers are asked for. A region of threads begins and ends when all have come, and where other processes want the cores one may come
// late, or lose its core with a task in hand: calls that mostly waited are followed by one, two, four, at most sixteen without helpers.
class Patience {
 public:
  bool ask() {
    int left = pause_;
    while (left > 0)
      if (pause_.compare_exchange_weak(left, left - 1)) return false;
    return true;
  }
  void learn(bool mostly_waited) {
    next_ = mostly_waited ? std::min(16, std::max(1, 2 * next_)) : 0;
    pause_ = next_.load();
  }

 private:
  std::atomic<int> pause_{0}, next_{0};
};

// Calls f(image, team) for all images. Every thread takes the next image; those that find none help where images are left to do, if they are
// large enough for it. team: nullptr where all threads have an image of their own.
template <typename F>
void share_out(int64_t images, bool large, const F& f) {
  static Patience patience;
  const int64_t all = torch::stable::get_num_threads();
  const bool helped = large && images < all && patience.ask();
  const int64_t threads = helped ? all : std::min(all, images);
  std::atomic<int64_t> next{0}, finished{0};
  std::vector<Team> teams(static_cast<size_t>(threads));
  const Clock::time_point begin = Clock::now();
  Clock::duration worked{0};  // by the calling thread; neither waiting for others nor for a core
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      const Clock::duration came = helped ? time_on_core() : Clock::duration(0);
      for (int64_t image; (image = next++) < images;) {
        const Counted end(&finished);
        f(image, large && images - image < threads ? &teams[static_cast<size_t>(thread)] : nullptr);
      }
      for (int turn = 0; finished < images; ++turn) {
        for (Team& team : teams)
          while (team.work()) turn = 0;
        Team::rest(turn);
      }
      if (helped && thread == 0) worked = time_on_core() - came;
    }
  });
  if (!helped) return;
  for (const Team& team : teams) worked -= team.waited();
  patience.learn(2 * worked < Clock::now() - begin);
}

}  // namespace dadkit
