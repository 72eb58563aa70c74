// Operations on one Execute stream.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/support/byte_buffer.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "bidi.h"
#include "link.h"
#include "pending.h"
#include "timer.h"

namespace restante::detail {

// The bounds of Execute (protos/restante/v1/batch.proto).
constexpr std::size_t kMaxBatchOperations = 256;
constexpr std::size_t kMaxBatchOctets = 1 << 20;
constexpr std::size_t kMaxInFlight = 1'000;      // of the 1024 at which the server stops reading
constexpr std::size_t kMaxSessionInFlight = 64;  // beyond, the server answers TOO_MANY_OPERATIONS
constexpr std::size_t kMaxCancels = 1'000;       // in one message; 10 octets each

class Multiplexer;

// The operations of one session, or of nobody, in order.
struct Lane {
  std::function<std::string()> token;  // gives the one to send now
  bool bounded = false;                // as sessions are
  std::deque<std::shared_ptr<Pending>> pending;
  std::size_t in_flight = 0;

  // Order holds only on one stream and under one token: what is sent elsewhere waits until these have answered.
  std::size_t ordered = 0;
  const ExecuteStream* ordered_stream = nullptr;
  std::string ordered_token;

  // Whether an operation may go now.
  bool may_send(const Pending& next, const ExecuteStream* stream, const std::string& present_token) const;
  void sent(Pending& operation, const ExecuteStream* stream, const std::string& present_token);
  void settled(Pending& operation);  // the opposite of sent
};

// One Execute call. Its members are the multiplexer's, under its mutex.
class ExecuteStream final : public BidiCall<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit ExecuteStream(Multiplexer& owner) : owner_(owner) {}

  std::shared_ptr<grpc::Channel> channel;
  std::unordered_map<std::int64_t, std::shared_ptr<Pending>> flying;
  std::deque<std::int64_t> cancels;
  bool retired = false;  // takes nothing new
  bool worked = false;

 private:
  Next produce(grpc::ByteBuffer& out) override;
  void received(grpc::ByteBuffer& in) override;
  void over(const grpc::Status& status) override;

  Multiplexer& owner_;
};

// Runs the operations of one session, and of nobody, on one Execute stream.
//
// Whatever waits when the stream is free goes into one message; there is no timer. A stream that is lost is replaced,
// and what it had not answered is sent again, in the order it was given. A stream that drains takes nothing new and
// finishes what it has.
class Multiplexer {
 public:
  // `token` gives the session's. `patience` is how long operations wait for a server that cannot be reached.
  Multiplexer(Link& link, Timer& timer, Nanoseconds patience, std::function<std::string()> token);

  // Hands an operation over, as the session or as nobody. Those of one are sent in the order of these calls: at once
  // with `now`, otherwise soon, together with those that follow.
  void start(const std::shared_ptr<Pending>& operation, bool as_session, bool now);

  // Sends what waits, as far as it may go.
  void flush();

  // Ends an operation for which nobody waits any more. What was sent keeps its place until it is answered, since the
  // server counts it.
  void abandon(Pending& operation, const Error& error);

  // Fails whatever has not been answered, and waits until no call is left.
  void close();

  // Why no stream could be opened; nothing where one works, or none was tried.
  std::optional<Error> trouble();

 private:
  friend class ExecuteStream;

  Next collect(ExecuteStream& stream, grpc::ByteBuffer& out);
  void answered(ExecuteStream& stream, grpc::ByteBuffer& in);
  void lost(ExecuteStream& stream, const Error& cause);

  void kick(std::unique_lock<std::mutex>& lock);
  void take(ExecuteStream& stream, std::string& octets);
  bool waiting() const;
  bool patient(Pending& operation, Clock::time_point now) const;
  void rest();

  Link& link_;
  Timer& timer_;
  const Nanoseconds patience_;

  std::mutex mutex_;
  std::condition_variable empty_;
  std::int64_t last_id_ = 0;
  Lane nobody_, session_;
  std::shared_ptr<ExecuteStream> stream_;  // takes new operations; nullptr: none is open
  std::map<const ExecuteStream*, std::shared_ptr<ExecuteStream>> streams_;
  Nanoseconds pause_ = kFirstStreamPause;
  bool resting_ = false;   // until the next stream is opened
  bool flushing_ = false;  // soon
  bool closed_ = false;
  std::optional<Error> trouble_;  // why the last stream never worked
};

}  // namespace restante::detail
