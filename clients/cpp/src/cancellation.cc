#include "restante/cancellation.h"

#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace restante {

struct Cancellation::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool cancelled = false;
  std::list<std::shared_ptr<Registration::Entry>> entries;
};

struct Cancellation::Registration::Entry {
  std::weak_ptr<State> state;
  std::function<void()> function;
  std::list<std::shared_ptr<Entry>>::iterator place;
  bool listed = false;
  std::thread::id running;  // the thread that runs the function; none: it does not run

  // Runs the function. The lock is released meanwhile.
  void run(State& of, std::unique_lock<std::mutex>& lock) {
    running = std::this_thread::get_id();
    lock.unlock();
    function();
    lock.lock();
    running = {};
    of.changed.notify_all();
  }
};

Cancellation::Cancellation() : state_(std::make_shared<State>()) {}

void Cancellation::cancel() const {
  std::unique_lock lock(state_->mutex);
  if (state_->cancelled) return;
  state_->cancelled = true;
  state_->changed.notify_all();
  while (!state_->entries.empty()) {
    const auto entry = state_->entries.front();
    state_->entries.pop_front();
    entry->listed = false;
    entry->run(*state_, lock);
  }
}

bool Cancellation::cancelled() const {
  const std::lock_guard lock(state_->mutex);
  return state_->cancelled;
}

bool Cancellation::wait_for(std::chrono::nanoseconds longest) const {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, longest, [this] { return state_->cancelled; });
}

Cancellation::Registration Cancellation::on_cancel(std::function<void()> function) const {
  auto entry = std::make_shared<Registration::Entry>();
  entry->state = state_;
  entry->function = std::move(function);
  std::unique_lock lock(state_->mutex);
  if (state_->cancelled) {
    entry->run(*state_, lock);
  } else {
    entry->place = state_->entries.insert(state_->entries.end(), entry);
    entry->listed = true;
  }
  return Registration(std::move(entry));
}

Cancellation::Registration::Registration(std::shared_ptr<Entry> entry) : entry_(std::move(entry)) {}

Cancellation::Registration::Registration(Registration&& other) noexcept : entry_(std::move(other.entry_)) {}

Cancellation::Registration& Cancellation::Registration::operator=(Registration&& other) noexcept {
  Registration old(std::move(*this));
  entry_ = std::move(other.entry_);
  return *this;
}

Cancellation::Registration::~Registration() {
  if (!entry_) return;
  const auto state = entry_->state.lock();
  if (!state) return;
  std::unique_lock lock(state->mutex);
  if (entry_->listed) {
    state->entries.erase(entry_->place);
    entry_->listed = false;
  }
  // A function may end its own registration; from elsewhere it is waited for.
  state->changed.wait(lock, [this] {
    return entry_->running == std::thread::id() || entry_->running == std::this_thread::get_id();
  });
}

}  // namespace restante
