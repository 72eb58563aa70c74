// The connection to the server.
#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace restante::detail {

// Keeps the present connection. A stream that drained asks for a fresh one, which may reach another server; the old one
// is closed when no call uses it any more.
class Link {
 public:
  using Dial = std::function<std::shared_ptr<grpc::Channel>()>;

  explicit Link(Dial dial) : dial_(std::move(dial)) {}

  // The present connection.
  std::shared_ptr<grpc::Channel> channel() {
    const std::lock_guard lock(mutex_);
    if (!current_) current_ = dial_();
    return current_;
  }

  // Makes `channel` give a fresh connection from now on, unless it does so already.
  void retire(const std::shared_ptr<grpc::Channel>& old) {
    const std::lock_guard lock(mutex_);
    if (current_ == old) current_.reset();
  }

 private:
  const Dial dial_;
  std::mutex mutex_;
  std::shared_ptr<grpc::Channel> current_;
};

}  // namespace restante::detail
