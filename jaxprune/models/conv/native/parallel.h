// Tasks on XLA's own threads.

#ifndef JAXPRUNE_PARALLEL_H_
#define JAXPRUNE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace jaxprune {

constexpr int kTurns = 200;  // some tens of microseconds

// Runs task(0), ..., task(n - 1) on the threads of the pool and on the one that calls; no other begins before the first
// `before` of them have ended. One call with two stages is shorter than two calls: no thread sleeps in between.
template <typename Task>
void Parallel(xla::ffi::ThreadPool& pool, int64_t before, int64_t n, const Task& task) {
  struct State {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> prepared{0};
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable all;
  };
  auto state = std::make_shared<State>();
  // A thread that starts after the last task was taken touches nothing but the state, which it owns with the others.
  auto work = [state, before, n, &task]() noexcept {
    int64_t mine = 0;
    for (int64_t i; (i = state->next.fetch_add(1)) < n; ++mine) {
      // They are handed out in order, so that who waits here waits for threads that are at work.
      while (i >= before && state->prepared.load(std::memory_order_acquire) < before) std::this_thread::yield();
      task(i);
      if (i < before) state->prepared.fetch_add(1, std::memory_order_release);
    }
    if (!mine) return;
    std::lock_guard<std::mutex> lock(state->mutex);
    if ((state->done += mine) == n) state->all.notify_all();
  };
  for (int64_t i = 1; i < std::min(n, pool.num_threads()); ++i) pool.Schedule(decltype(work)(work));
  work();
  // The others end at about the same time: waiting awake for a moment is shorter than being woken.
  for (int turn = 0; turn < kTurns && state->done.load(std::memory_order_acquire) < n; ++turn)
    std::this_thread::yield();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all.wait(lock, [&] { return state->done == n; });
}

}  // namespace jaxprune

#endif  // JAXPRUNE_PARALLEL_H_
