// Cancelling calls and streams from elsewhere.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace restante {

// A switch that ends what it was given to: calls, operations, streams. Copies are the same switch; any thread may use
// them. It cannot be undone.
class Cancellation {
 public:
  Cancellation();

  // Ends everything this was given to, at the server too; harmless to repeat.
  void cancel() const;

  // Whether it was.
  bool cancelled() const;

  // Waits until it is cancelled, at most so long. Tells whether it is.
  bool wait_for(std::chrono::nanoseconds longest) const;

  // Keeps a function registered while it lives. When its destructor returns, the function neither runs nor will.
  class Registration {
   public:
    Registration() = default;
    Registration(Registration&& other) noexcept;
    Registration& operator=(Registration&& other) noexcept;
    ~Registration();

   private:
    friend class Cancellation;
    struct Entry;
    explicit Registration(std::shared_ptr<Entry> entry);
    std::shared_ptr<Entry> entry_;
  };

  // Has a function called when this is cancelled, by the cancelling thread; at once where it is already. It must not
  // throw.
  [[nodiscard]] Registration on_cancel(std::function<void()> function) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace restante
