#include "multiplexer.h"

#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <utility>

namespace restante::detail {

namespace {

constexpr Nanoseconds kLongestRest = std::chrono::seconds(1);
constexpr char kExecute[] = "/restante.v1.BatchService/Execute";

grpc::ByteBuffer buffer_of(std::string&& octets) {
  auto* const kept = new std::string(std::move(octets));
  const grpc::Slice slice(kept->data(), kept->size(), [](void* string) { delete static_cast<std::string*>(string); },
                          kept);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

bool Lane::may_send(const Pending& next, const ExecuteStream* stream, const std::string& present_token) const {
  if (bounded && in_flight >= kMaxSessionInFlight) return false;
  return next.independent || ordered == 0 || (ordered_stream == stream && ordered_token == present_token);
}

void Lane::sent(Pending& operation, const ExecuteStream* stream, const std::string& present_token) {
  operation.stream = stream;
  ++in_flight;
  if (operation.independent) return;
  ++ordered;
  ordered_stream = stream;
  ordered_token = present_token;
}

void Lane::settled(Pending& operation) {
  operation.stream = nullptr;
  --in_flight;
  if (!operation.independent) --ordered;
}

Next ExecuteStream::produce(grpc::ByteBuffer& out) { return owner_.collect(*this, out); }
void ExecuteStream::received(grpc::ByteBuffer& in) { owner_.answered(*this, in); }

void ExecuteStream::over(const grpc::Status& status) {
  owner_.lost(*this, status.ok() ? Error(grpc::StatusCode::UNAVAILABLE, "The server ended the stream.")
                                 : Error::from(status));
}

Multiplexer::Multiplexer(Link& link, Timer& timer, Nanoseconds patience, std::function<std::string()> token)
    : link_(link), timer_(timer), patience_(patience) {
  nobody_.token = [] { return std::string(); };
  session_.token = std::move(token);
  session_.bounded = true;
}

void Multiplexer::start(const std::shared_ptr<Pending>& operation, bool as_session, bool now) {
  if (operation->octets() > kMaxBatchOctets) {
    operation->fail(Error(grpc::StatusCode::RESOURCE_EXHAUSTED, "The request is larger than a batch may be (1 MiB)."));
    return;
  }
  std::unique_lock lock(mutex_);
  if (closed_) {
    lock.unlock();
    operation->fail(closed_error());
    return;
  }
  operation->id = ++last_id_;
  operation->lane = as_session ? &session_ : &nobody_;
  operation->lane->pending.push_back(operation);
  if (now) {
    kick(lock);
  } else if (!std::exchange(flushing_, true)) {
    lock.unlock();
    timer_.after(Nanoseconds::zero(), [this] { flush(); });
  }
}

void Multiplexer::flush() {
  std::unique_lock lock(mutex_);
  flushing_ = false;
  kick(lock);
}

bool Multiplexer::waiting() const { return !nobody_.pending.empty() || !session_.pending.empty(); }

// Has what waits sent: by the stream that is open, or by a new one. Releases the lock.
void Multiplexer::kick(std::unique_lock<std::mutex>& lock) {
  if (stream_) {
    const auto stream = stream_;
    lock.unlock();
    stream->wake();
    return;
  }
  if (resting_ || closed_ || !waiting()) {
    lock.unlock();
    return;
  }
  const auto opened = std::make_shared<ExecuteStream>(*this);
  stream_ = opened;
  streams_[opened.get()] = opened;
  opened->channel = link_.channel();
  lock.unlock();
  grpc::GenericStub(opened->channel).PrepareBidiStreamingCall(&opened->context(), kExecute, {}, opened.get());
  opened->begin();
}

Next Multiplexer::collect(ExecuteStream& stream, grpc::ByteBuffer& out) {
  const std::lock_guard lock(mutex_);
  std::string octets;
  const std::size_t some = std::min(stream.cancels.size(), kMaxCancels);
  for (std::size_t i = 0; i < some; ++i) append_cancel(octets, stream.cancels[i]);
  stream.cancels.erase(stream.cancels.begin(), stream.cancels.begin() + static_cast<std::ptrdiff_t>(some));
  if (!stream.retired && !closed_) take(stream, octets);
  if (!octets.empty()) {
    out = buffer_of(std::move(octets));
    return Next::kMessage;
  }
  return stream.retired && stream.flying.empty() ? Next::kClose : Next::kNothing;
}

// Adds what one message may carry. The mutex is held.
void Multiplexer::take(ExecuteStream& stream, std::string& octets) {
  const auto now = Clock::now();
  std::size_t count = 0;
  for (Lane* lane : {&nobody_, &session_}) {
    if (lane->pending.empty()) continue;
    const std::string token = lane->token();
    while (!lane->pending.empty() && lane->may_send(*lane->pending.front(), &stream, token)) {
      const auto& next = lane->pending.front();
      if (count == kMaxBatchOperations || stream.flying.size() == kMaxInFlight) return;
      if (count > 0 && octets.size() + next->octets() > kMaxBatchOctets) return;
      OperationHead head;
      head.id = next->id;
      head.token = token;
      head.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(next->deadline - now);
      head.independent = next->independent;
      append_operation(octets, head, next->body);
      lane->sent(*next, &stream, token);
      stream.flying.emplace(next->id, next);
      lane->pending.pop_front();
      ++count;
    }
  }
}

void Multiplexer::answered(ExecuteStream& stream, grpc::ByteBuffer& in) {
  grpc::Slice whole;
  Response response;
  if (!in.DumpToSingleSlice(&whole).ok() ||
      !read_response({reinterpret_cast<const char*>(whole.begin()), whole.size()}, response)) {
    stream.cancel();  // what comes next would make no more sense
    return;
  }
  in.Clear();
  std::vector<std::pair<std::shared_ptr<Pending>, const Result*>> done;
  done.reserve(response.results.size());
  std::unique_lock lock(mutex_);
  stream.worked = true;
  trouble_.reset();
  pause_ = kFirstStreamPause;
  for (const Result& result : response.results) {
    const auto found = stream.flying.find(result.id);
    if (found == stream.flying.end()) continue;
    found->second->lane->settled(*found->second);
    done.emplace_back(std::move(found->second), &result);
    stream.flying.erase(found);
  }
  if (response.draining) {
    stream.retired = true;
    if (stream_.get() == &stream) {
      stream_.reset();
      link_.retire(stream.channel);
    }
  }
  const bool closing = stream.retired;
  if (waiting()) {
    kick(lock);
  } else {
    lock.unlock();
  }
  if (closing) stream.wake();
  for (const auto& [operation, result] : done) operation->finish(*result, whole);
}

void Multiplexer::lost(ExecuteStream& stream, const Error& cause) {
  std::vector<std::shared_ptr<Pending>> left, failed;
  std::unique_lock lock(mutex_);
  for (auto& [id, operation] : stream.flying) {
    operation->lane->settled(*operation);
    left.push_back(std::move(operation));
  }
  stream.flying.clear();
  std::sort(left.begin(), left.end(), [](const auto& a, const auto& b) { return a->id > b->id; });
  const auto now = Clock::now();
  const bool another = !closed_ && is_loss(cause);
  for (auto& operation : left) {  // from the last on, each before what is there
    if (another && operation->repeatable && !operation->done() && patient(*operation, now)) {
      operation->lane->pending.push_front(std::move(operation));
    } else {
      failed.push_back(std::move(operation));
    }
  }
  if (stream_.get() == &stream) {
    stream_.reset();
    if (!stream.worked) {  // those that wait have waited too long, or another stream will not help them
      trouble_ = cause;
      for (Lane* lane : {&nobody_, &session_}) {
        auto& pending = lane->pending;
        const auto kept = std::stable_partition(pending.begin(), pending.end(), [&](const auto& operation) {
          return another && patient(*operation, now);
        });
        failed.insert(failed.end(), kept, pending.end());
        pending.erase(kept, pending.end());
      }
    }
    rest();
    lock.unlock();
  } else {
    kick(lock);
  }
  for (const auto& operation : failed) operation->fail(cause);
  const std::lock_guard last(mutex_);
  streams_.erase(&stream);
  if (streams_.empty()) empty_.notify_all();
}

std::optional<Error> Multiplexer::trouble() {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

// Whether an operation waits for another stream.
bool Multiplexer::patient(Pending& operation, Clock::time_point now) const {
  if (!operation.give_up) operation.give_up = now + patience_;
  return now < *operation.give_up;
}

// Opens the next stream after a pause, which grows while none works. The mutex is held.
void Multiplexer::rest() {
  if (resting_ || closed_) return;
  resting_ = true;
  timer_.after(jittered(pause_), [this] {
    std::unique_lock lock(mutex_);
    resting_ = false;
    kick(lock);
  });
  pause_ = std::min(2 * pause_, kLongestRest);
}

void Multiplexer::abandon(Pending& operation, const Error& error) {
  std::shared_ptr<ExecuteStream> stream;
  {
    const std::lock_guard lock(mutex_);
    if (operation.stream != nullptr) {
      const auto found = streams_.find(operation.stream);
      if (found != streams_.end() && found->second->flying.count(operation.id) > 0) {
        stream = found->second;
        stream->cancels.push_back(operation.id);
      }
    } else if (operation.lane != nullptr) {
      auto& pending = operation.lane->pending;
      const auto is_it = [&](const auto& each) { return each.get() == &operation; };
      pending.erase(std::remove_if(pending.begin(), pending.end(), is_it), pending.end());
    }
  }
  if (stream) stream->wake();
  operation.fail(error);
}

void Multiplexer::close() {
  std::vector<std::shared_ptr<Pending>> left;
  std::vector<std::shared_ptr<ExecuteStream>> streams;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (Lane* lane : {&nobody_, &session_}) {
      left.insert(left.end(), lane->pending.begin(), lane->pending.end());
      lane->pending.clear();
    }
    for (const auto& [key, stream] : streams_) {
      for (const auto& [id, operation] : stream->flying) {
        operation->lane->settled(*operation);
        left.push_back(operation);
      }
      stream->flying.clear();
      streams.push_back(stream);
    }
    stream_.reset();
  }
  for (const auto& stream : streams) stream->cancel();
  for (const auto& operation : left) operation->fail(closed_error());
  std::unique_lock lock(mutex_);
  empty_.wait(lock, [this] { return streams_.empty(); });
}

}  // namespace restante::detail
