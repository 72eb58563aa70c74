#include "pending.h"

#include <utility>

#include "google/rpc/status.pb.h"

namespace restante::detail {

Pending::Pending(const Method& its_method, std::string its_body, Clock::time_point its_deadline, bool is_independent,
                 bool is_repeatable)
    : method(its_method),
      body(std::move(its_body)),
      deadline(its_deadline),
      independent(is_independent),
      repeatable(is_repeatable) {}

template <class Function>
void Pending::end(Function how) {
  const std::lock_guard lock(mutex_);
  if (done_) return;
  how();
  done_ = true;
  changed_.notify_all();
}

void Pending::finish(const Result& result, const grpc::Slice& whole) {
  end([&] {
    if (result.status) {
      google::rpc::Status status;
      if (status.ParseFromArray(result.status->data(), static_cast<int>(result.status->size()))) {
        error_ = Error::from(status);
      } else {
        error_ = Error(grpc::StatusCode::INTERNAL, "The result's status cannot be read.");
      }
    } else if (result.field != method.result_field) {
      error_ = Error(grpc::StatusCode::INTERNAL, "The result holds no response of " + method.path + ".");
    } else {
      whole_ = whole;
      response_octets_ = result.response.size();
      if (response_octets_ > 0) response_begin_ = result.response.data() - reinterpret_cast<const char*>(whole.begin());
    }
  });
}

void Pending::fail(const Error& error) {
  end([&] { error_ = error; });
}

bool Pending::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

bool Pending::wait_until(Clock::time_point until) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, until, [this] { return done_; });
}

void Pending::read(google::protobuf::Message& response) const {
  // What is done does not change any more, and done was learnt under the mutex.
  if (error_) throw *error_;
  if (!response.ParseFromArray(whole_.begin() + response_begin_, static_cast<int>(response_octets_))) {
    throw Error(grpc::StatusCode::INTERNAL, "The response of " + method.path + " cannot be read.");
  }
}

std::string operation_body(const Method& method, const google::protobuf::Message& request, std::string_view added) {
  const std::size_t size = request.ByteSizeLong() + added.size();
  std::string body;
  body.reserve(size + 12);
  append_varint(body, static_cast<std::uint64_t>(method.operation_field) << 3 | 2);
  append_varint(body, size);
  if (!request.AppendPartialToString(&body)) {
    throw Error(grpc::StatusCode::INVALID_ARGUMENT, "The request cannot be encoded.");
  }
  body.append(added);
  return body;
}

}  // namespace restante::detail
