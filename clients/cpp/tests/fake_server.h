// A server of Execute whose every answer is the test's.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "restante/v1/batch.grpc.pb.h"

namespace restante::testing {

constexpr auto kSoon = std::chrono::seconds(10);              // what must come has come by then
constexpr auto kAWhile = std::chrono::milliseconds(200);      // what must not come would have come by then

// One Execute call, as the server has it.
class FakeCall final : public grpc::ServerBidiReactor<v1::ExecuteRequest, v1::ExecuteResponse> {
 public:
  explicit FakeCall(std::string peer) : peer_(std::move(peer)) { StartRead(&incoming_); }

  // The next message; nothing when none comes in time, or when the client has closed its side.
  std::optional<v1::ExecuteRequest> next(std::chrono::milliseconds longest = kSoon) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, longest, [this] { return !requests_.empty() || closed_; });
    if (requests_.empty()) return std::nullopt;
    auto request = std::move(requests_.front());
    requests_.pop_front();
    return request;
  }

  // All operations that come within a while after the last one.
  std::vector<v1::Operation> operations(std::size_t wanted) {
    std::vector<v1::Operation> found;
    while (const auto request = next(found.size() < wanted ? std::chrono::milliseconds(kSoon) : kAWhile)) {
      found.insert(found.end(), request->operations().begin(), request->operations().end());
    }
    return found;
  }

  // Whether the client has closed its side.
  bool closed() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kSoon, [this] { return closed_; });
  }

  void answer(v1::ExecuteResponse response) {
    std::unique_lock lock(mutex_);
    outgoing_ = std::move(response);
    written_ = false;
    StartWrite(&outgoing_);
    changed_.wait_for(lock, kSoon, [this] { return written_; });
  }

  // Answers each in its kind; a folder has the id that was asked for.
  void answer(const std::vector<v1::Operation>& operations, bool draining = false) {
    v1::ExecuteResponse response;
    response.set_draining(draining);
    for (const auto& operation : operations) {
      auto* result = response.add_results();
      result->set_operation_id(operation.operation_id());
      if (operation.has_get_folder()) {
        result->mutable_get_folder()->mutable_folder()->set_folder_id(operation.get_folder().folder_id());
      } else if (operation.has_append_message()) {
        result->mutable_append_message();
      } else {
        result->mutable_get_mechanisms();
      }
    }
    answer(std::move(response));
  }

  // Ends the call, unless it has ended.
  void end(const grpc::Status& status) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(ended_, true)) return;
    }
    Finish(status);
  }

  const std::string& peer() const { return peer_; }

 private:
  void OnReadDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    if (ok) {
      requests_.push_back(incoming_);
      StartRead(&incoming_);
    } else {
      closed_ = true;
    }
    changed_.notify_all();
  }
  void OnWriteDone(bool) override {
    const std::lock_guard lock(mutex_);
    written_ = true;
    changed_.notify_all();
  }
  void OnCancel() override { end(grpc::Status::CANCELLED); }
  void OnDone() override {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  const std::string peer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  v1::ExecuteRequest incoming_;
  v1::ExecuteResponse outgoing_;
  std::deque<v1::ExecuteRequest> requests_;
  bool closed_ = false, written_ = false, ended_ = false;
};

// Listens on loopback, without TLS.
class FakeServer final : public v1::BatchService::WithCallbackMethod_Execute<v1::BatchService::Service> {
 public:
  FakeServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }

  ~FakeServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // The next call that a client makes; nullptr when none comes in time.
  std::shared_ptr<FakeCall> call(std::chrono::milliseconds longest = kSoon) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, longest, [this] { return !calls_.empty(); })) return nullptr;
    auto call = std::move(calls_.front());
    calls_.pop_front();
    return call;
  }

 private:
  grpc::ServerBidiReactor<v1::ExecuteRequest, v1::ExecuteResponse>* Execute(
      grpc::CallbackServerContext* context) override {
    const std::lock_guard lock(mutex_);
    auto call = std::make_shared<FakeCall>(context->peer());
    all_.push_back(call);
    calls_.push_back(call);
    changed_.notify_all();
    return call.get();
  }

  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<FakeCall>> all_;  // gRPC may use them until the server is gone
  std::deque<std::shared_ptr<FakeCall>> calls_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace restante::testing
