// A server stream that is opened again when it breaks.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core.h"

namespace restante::detail {

// When to open another stream after one that broke.
class Resumption {
 public:
  // `cancelled` ends it early, and so does the client's closing.
  Resumption(std::shared_ptr<Core> core, Cancellation cancelled)
      : core_(std::move(core)), cancelled_(std::move(cancelled)) {}

  // A stream is opened now.
  void begins() {
    token_ = core_->token();
    began_ = Clock::now();
  }

  // It has brought something.
  void worked() {
    retry_.worked();
    failing_since_.reset();
  }

  // Waits until the next attempt; throws the error where there is none.
  void after(const Error& error);

 private:
  std::shared_ptr<Core> core_;
  Cancellation cancelled_;
  Retry retry_;
  std::string token_;
  Clock::time_point began_;
  std::optional<Clock::time_point> failing_since_;
};

// Ends one thing early, for whatever reason: its own cancel, the caller's switch, or the client's closing.
class Ending {
 public:
  Ending(std::shared_ptr<Core> core, const std::optional<Cancellation>& given) : core_(std::move(core)) {
    by_client_ = core_->closing.on_cancel([own = own_] { own.cancel(); });
    if (given) by_caller_ = given->on_cancel([own = own_] { own.cancel(); });
  }

  const Cancellation& cancellation() const { return own_; }
  bool cancelled() const { return own_.cancelled(); }
  // What is thrown after it was.
  Error error() const { return core_->closing.cancelled() ? closed_error() : cancelled_error(); }

 private:
  std::shared_ptr<Core> core_;
  Cancellation own_;
  Cancellation::Registration by_client_, by_caller_;
};

// One server stream after the other, as long as they break. For one thread at a time, except `cancel`.
template <class Response>
class Resumed {
 public:
  using Reader = std::unique_ptr<grpc::ClientReader<Response>>;
  // Opens a stream that begins where the last message left off; nullptr: nothing is left.
  using Open = std::function<Reader(const std::shared_ptr<grpc::Channel>&, grpc::ClientContext&)>;

  Resumed(const std::shared_ptr<Core>& core, const std::optional<Cancellation>& cancellation, Open open)
      : core_(core), open_(std::move(open)), ending_(core, cancellation), resumption_(core, ending_.cancellation()) {}

  ~Resumed() {
    if (reader_) {
      context_->TryCancel();
      drop();
    }
  }

  Resumed(const Resumed&) = delete;
  Resumed& operator=(const Resumed&) = delete;

  // The next message; nothing when a stream has ended by itself. Reading on opens another. Throws Error.
  std::optional<Response> next() {
    for (;;) {
      if (ending_.cancelled()) throw ending_.error();
      if (!reader_ && !begin()) return std::nullopt;
      std::optional<Response> message(std::in_place);
      if (reader_->Read(&*message)) {
        resumption_.worked();
        return message;
      }
      const grpc::Status status = drop();
      if (status.ok()) return std::nullopt;
      if (ending_.cancelled()) throw ending_.error();
      resumption_.after(Error::from(status));
      if (restarted_) restarted_();
    }
  }

  // Has a function called before a stream follows one that broke.
  void on_restart(std::function<void()> restarted) { restarted_ = std::move(restarted); }

  void cancel() const { ending_.cancellation().cancel(); }
  const Cancellation& cancellation() const { return ending_.cancellation(); }

 private:
  bool begin() {
    resumption_.begins();
    context_ = std::make_unique<grpc::ClientContext>();
    authorize(*context_, core_->token());
    reader_ = open_(core_->link.channel(), *context_);
    if (!reader_) return false;
    cancelling_ = ending_.cancellation().on_cancel([context = context_.get()] { context->TryCancel(); });
    return true;
  }

  // Lets go of a stream that has nothing more to say.
  grpc::Status drop() {
    const grpc::Status status = reader_->Finish();
    cancelling_ = {};
    reader_.reset();
    context_.reset();
    return status;
  }

  std::shared_ptr<Core> core_;
  Open open_;
  Ending ending_;
  Resumption resumption_;
  std::function<void()> restarted_;
  std::unique_ptr<grpc::ClientContext> context_;
  Reader reader_;
  Cancellation::Registration cancelling_;
};

}  // namespace restante::detail
