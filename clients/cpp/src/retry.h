// Which failures pass, and when to try again. Pure, but for chance.
#pragma once

#include <chrono>

#include "restante/error.h"

namespace restante::detail {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

constexpr Nanoseconds kFirstPause = std::chrono::milliseconds(100);
constexpr Nanoseconds kLongestPause = std::chrono::seconds(5);
constexpr Nanoseconds kFirstStreamPause = std::chrono::milliseconds(50);
constexpr Nanoseconds kLongestWatchPause = std::chrono::seconds(2);

// Between the half and the whole of a pause.
Nanoseconds jittered(Nanoseconds pause);

// Whether the same call may succeed a little later, on another connection.
inline bool is_temporary(const Error& error) { return error.code() == grpc::StatusCode::UNAVAILABLE; }

// Whether the session is no good any more.
inline bool is_over(const Error& error) { return error.code() == grpc::StatusCode::UNAUTHENTICATED; }

// Whether a stream ended in a way that another may not: what gRPC says of a connection that broke in the middle, too.
inline bool is_loss(const Error& error) {
  switch (error.code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return true;
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
      return error.reason_name().empty();
    default:
      return false;
  }
}

// The attempts of one call or stream.
class Retry {
 public:
  explicit Retry(Nanoseconds first = kFirstPause, Nanoseconds longest = kLongestPause)
      : first_(first), longest_(longest), pause_(first) {}

  // An attempt has brought something: begin anew.
  void worked() {
    pause_ = first_;
    renewed_ = false;
  }

  // Whether a session may be renewed, which it may once.
  bool renewal() {
    const bool first = !renewed_;
    renewed_ = true;
    return first;
  }

  // How long to wait now, at least as long as the server asks for.
  Nanoseconds delay(const Error& failure) {
    const auto chosen = std::max(jittered(pause_), failure.retry_delay().value_or(Nanoseconds::zero()));
    pause_ = std::min(2 * pause_, longest_);
    return chosen;
  }

 private:
  Nanoseconds first_, longest_, pause_;
  bool renewed_ = false;
};

inline Error closed_error() { return Error(grpc::StatusCode::CANCELLED, "The client was closed."); }
inline Error cancelled_error() { return Error(grpc::StatusCode::CANCELLED, "The call was cancelled."); }
inline Error late_error() { return Error(grpc::StatusCode::DEADLINE_EXCEEDED, "The call's time ran out."); }

}  // namespace restante::detail
