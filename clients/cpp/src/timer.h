// Things to do a little later, on a thread of their own.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "retry.h"

namespace restante::detail {

// Calls functions after a time, one after the other. They must not block.
class Timer {
 public:
  Timer();
  ~Timer();  // as stop

  // Has a function called after a delay. After stop it never is.
  void after(Nanoseconds delay, std::function<void()> function);

  // Ends the thread, and waits for a function that runs. What has not been called is dropped.
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> waiting_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace restante::detail
