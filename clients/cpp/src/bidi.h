// A call with streams both ways, over gRPC's reactor.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <memory>
#include <mutex>
#include <utility>

namespace restante::detail {

// What a call is to do now that it may write.
enum class Next { kNothing, kMessage, kClose };

// One call. It asks for a message when it may write one, which is after `begin`, after each message that went out, and
// after `wake`; so whatever comes together meanwhile can go together. It keeps itself alive until gRPC is done with it.
template <class Out, class In>
class BidiCall : public grpc::ClientBidiReactor<Out, In>, public std::enable_shared_from_this<BidiCall<Out, In>> {
 public:
  grpc::ClientContext& context() { return context_; }

  // Takes the call that was prepared with this as its reactor on its way.
  void begin() {
    self_ = this->shared_from_this();
    this->AddHold();  // for writes, which come from anywhere
    this->StartRead(&incoming_);
    this->StartCall();
    write();
  }

  // There may be something to write. Any thread may call it, holding no lock that `produce` takes.
  void wake() {
    {
      const std::lock_guard lock(mutex_);
      if (writing_) {
        again_ = true;
        return;
      }
      if (ended_ || closed_) return;
      writing_ = true;
    }
    write();
  }

  // Breaks the call off.
  void cancel() { context_.TryCancel(); }

 protected:
  // Fills in the next message to write, if there is one.
  virtual Next produce(Out& out) = 0;
  // A message has come.
  virtual void received(In& in) = 0;
  // The call is over; nothing more is asked or told.
  virtual void over(const grpc::Status& status) = 0;

 private:
  void write() {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        again_ = false;
      }
      const Next next = produce(outgoing_);
      if (next == Next::kMessage) return this->StartWrite(&outgoing_);
      if (next == Next::kClose) return this->StartWritesDone();
      {
        const std::lock_guard lock(mutex_);
        if (again_ && !ended_) continue;
        writing_ = false;
        if (!ended_) return;
      }
      return close();
    }
  }

  // Nothing is written any more.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      if (std::exchange(closed_, true)) return;
    }
    this->RemoveHold();
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      received(incoming_);
      this->StartRead(&incoming_);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      if (writing_) return;  // whoever writes closes
    }
    close();
  }

  void OnWriteDone(bool ok) override {
    bool over = !ok;
    {
      const std::lock_guard lock(mutex_);
      over = over || ended_;
    }
    if (over) {
      close();
    } else {
      write();
    }
  }

  void OnWritesDoneDone(bool) override { close(); }

  void OnDone(const grpc::Status& status) override {
    const auto keep = std::move(self_);
    over(status);
  }

  grpc::ClientContext context_;
  std::shared_ptr<BidiCall> self_;
  Out outgoing_;
  In incoming_;

  std::mutex mutex_;
  bool writing_ = true;   // a write is under way, or being looked for; until begin has looked
  bool again_ = false;    // look once more
  bool closed_ = false;   // nothing is written any more, and the hold is gone
  bool ended_ = false;    // nothing more will come
};

}  // namespace restante::detail
