// An operation of the multiplexer.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/slice.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "restante/method.h"
#include "retry.h"
#include "wire.h"

namespace restante::detail {

struct Lane;
class ExecuteStream;

// One operation, from its start until it is answered or has failed.
struct Pending {
  Pending(const Method& method, std::string body, Clock::time_point deadline, bool independent, bool repeatable);

  // The most that the operation takes of a message.
  std::size_t octets() const { return body.size() + kHeadOctets; }

  // Takes the answer; `whole` keeps its octets. Nothing happens where it has ended.
  void finish(const Result& result, const grpc::Slice& whole);
  // Ends it with an error. Nothing happens where it has ended.
  void fail(const Error& error);

  bool done() const;
  // Tells whether it is done by then.
  bool wait_until(Clock::time_point until) const;
  // Fills in the response of one that is done. Throws Error.
  void read(google::protobuf::Message& response) const;

  const Method& method;
  const std::string body;  // the request, with its number as a field of Operation
  const Clock::time_point deadline;
  const bool independent;
  const bool repeatable;  // it may be sent again when its answer is lost

  // What follows is the multiplexer's, under its mutex.
  std::int64_t id = 0;
  Lane* lane = nullptr;
  const ExecuteStream* stream = nullptr;     // that it was sent on; nullptr: it waits
  std::optional<Clock::time_point> give_up;  // set when a stream was lost: it is not sent again after this

 private:
  template <class Function>
  void end(Function how);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool done_ = false;
  std::optional<Error> error_;
  grpc::Slice whole_;
  std::ptrdiff_t response_begin_ = 0;  // within whole_, whose octets move with it where they are few
  std::size_t response_octets_ = 0;
};

// A request as the body of an operation, with what is added to it: encoded fields.
std::string operation_body(const Method& method, const google::protobuf::Message& request, std::string_view added);

}  // namespace restante::detail
