// How a call is made, and operations that are under way.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "restante/cancellation.h"
#include "restante/method.h"

namespace google::protobuf {
class Message;
}

namespace restante {

// How a call, an operation or a stream is to be made. Default: with the client's timeout, and no cancellation.
struct CallOptions {
  // How long it may take, retries included; the client's timeout where it is absent. Streams have no deadline.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;

  // Ends it early, with an Error of the code CANCELLED.
  std::optional<Cancellation> cancellation = std::nullopt;

  // Lets an operation begin before those that were handed over earlier have answered. For `start`.
  bool independent = false;
};

namespace detail {
struct Core;
struct Pending;
}  // namespace detail

// An operation that was handed to the Execute stream, of any type. It may be thrown away; it happens nevertheless.
class AnyOperation {
 public:
  // Waits until the operation is done and fills in the response. Throws Error. May be repeated.
  void get(google::protobuf::Message* response) const;

  // Whether it is done, well or not.
  bool done() const;

  // Waits until it is done, at most so long. Tells whether it is.
  bool wait_for(std::chrono::nanoseconds longest) const;

  // Gives it up: it fails with the code CANCELLED. What has begun at the server is finished there.
  void cancel() const;

 private:
  friend class Client;
  AnyOperation(std::shared_ptr<detail::Core> core, std::shared_ptr<detail::Pending> pending,
               const std::optional<Cancellation>& cancellation);
  std::shared_ptr<detail::Core> core_;
  std::shared_ptr<detail::Pending> pending_;
  Cancellation::Registration cancelling_;
};

// An operation that was handed to the Execute stream with Client::start.
template <class Response>
class Operation : public AnyOperation {
 public:
  explicit Operation(AnyOperation any) : AnyOperation(std::move(any)) {}

  // Waits until the operation is done. Throws Error. May be repeated.
  Response get() const {
    Response response;
    AnyOperation::get(&response);
    return response;
  }
};

}  // namespace restante
