#include "timer.h"

#include <utility>

namespace restante::detail {

Timer::Timer() : thread_([this] { run(); }) {}

Timer::~Timer() { stop(); }

void Timer::after(Nanoseconds delay, std::function<void()> function) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  waiting_.emplace(Clock::now() + delay, std::move(function));
  changed_.notify_one();
}

void Timer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    waiting_.clear();
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Timer::run() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    if (waiting_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto next = waiting_.begin();
    if (const auto at = next->first; Clock::now() < at) {
      changed_.wait_until(lock, at);
      continue;
    }
    const auto function = std::move(next->second);
    waiting_.erase(next);
    lock.unlock();
    function();
    lock.lock();
  }
}

}  // namespace restante::detail
