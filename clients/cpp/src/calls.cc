// Calls: request ids, deadlines, safe repetitions, reading what was written.
#include <google/protobuf/descriptor.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include <condition_variable>
#include <limits>
#include <random>
#include <tuple>
#include <utility>

#include "core.h"
#include "repeatable.h"

namespace restante::detail {

namespace {

constexpr Nanoseconds kGrace = std::chrono::milliseconds(250);  // for the server's own answer
constexpr std::size_t kRequestIdOctets = 16;

std::string new_request_id() {
  std::random_device random;
  std::string id;
  while (id.size() < kRequestIdOctets) {
    const unsigned some = random();
    id.append(reinterpret_cast<const char*>(&some), sizeof some);
  }
  return id;
}

std::string encoded(int field, std::string_view value) {
  std::string octets;
  append_octets(octets, field, value);
  return octets;
}

bool later(const v1::CommitToken& commit, const v1::CommitToken& than) {
  return std::make_tuple(commit.epoch(), commit.change_number()) > std::make_tuple(than.epoch(), than.change_number());
}

grpc::ByteBuffer buffer_of(const google::protobuf::Message& request, const Added& added) {
  std::string octets;
  if (!request.SerializePartialToString(&octets)) {
    throw Error(grpc::StatusCode::INVALID_ARGUMENT, "The request cannot be encoded.");
  }
  const grpc::Slice slice(octets + added.request_id + added.min_commit);
  return grpc::ByteBuffer(&slice, 1);
}

// What a unary call of its own waits for.
struct Answer {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<grpc::Status> status;
};

}  // namespace

Clock::time_point Core::deadline_of(const CallOptions& options) const {
  return Clock::now() + options.timeout.value_or(config.timeout);
}

void Core::pause(Nanoseconds delay, const Cancellation& cancellation) const {
  // The client's closing ends whatever waits, so that one switch is enough here.
  Cancellation either;
  const auto by_caller = cancellation.on_cancel([either] { either.cancel(); });
  const auto by_client = closing.on_cancel([either] { either.cancel(); });
  if (!either.wait_for(delay)) return;
  throw closing.cancelled() ? closed_error() : cancelled_error();
}

void Core::call(const google::protobuf::Message& request, google::protobuf::Message& response,
                const CallOptions& options) {
  const Method& method = Method::of(request.GetDescriptor());
  const auto deadline = deadline_of(options);
  const auto* reflection = request.GetReflection();
  Added added;
  if (method.request_id != nullptr) {
    std::string scratch;
    if (reflection->GetStringReference(request, method.request_id, &scratch).empty()) {
      added.request_id = encoded(method.request_id->number(), new_request_id());
    }
  }
  if (method.min_commit != nullptr && !reflection->HasField(request, method.min_commit)) {
    const std::int64_t mailbox_id =
        method.mailbox_id == nullptr ? 0 : reflection->GetInt64(request, method.mailbox_id);
    if (const auto commit = min_commit(mailbox_id)) {
      added.min_commit = encoded(method.min_commit->number(), commit->SerializeAsString());
    }
  }
  try {
    repeat(method, request, added, response, As::kSession, options, deadline);
  } catch (const Error& error) {
    if (added.min_commit.empty() || error.reason() != v1::ERROR_REASON_EPOCH_CHANGED) throw;
    forget_commits();  // the store was restored: what was written before may be gone
    added.min_commit.clear();
    repeat(method, request, added, response, As::kSession, options, deadline);
  }
  remember(method, response);
}

void Core::repeat(const Method& method, const google::protobuf::Message& request, const Added& added,
                  google::protobuf::Message& response, As as, const CallOptions& options, Clock::time_point deadline) {
  Retry retry;
  for (;;) {
    const std::string before = as == As::kSession ? token() : std::string();
    try {
      return attempt(method, request, added, response, as, options, deadline);
    } catch (const Error& error) {
      if (error.reason() == v1::ERROR_REASON_SESSION_EXPIRED && as == As::kSession && retry.renewal()) {
        CallOptions rest = options;
        rest.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
        renew(before, rest);
        continue;
      }
      if (!should_repeat(method, request, error)) throw;
      const auto delay = retry.delay(error);
      if (Clock::now() + delay >= deadline) throw;
      pause(delay, options.cancellation.value_or(closing));
    }
  }
}

void Core::attempt(const Method& method, const google::protobuf::Message& request, const Added& added,
                   google::protobuf::Message& response, As as, const CallOptions& options,
                   Clock::time_point deadline) {
  if (options.cancellation && options.cancellation->cancelled()) throw cancelled_error();
  if (Clock::now() >= deadline) throw late_error();
  if (method.operation_field != 0) {
    auto pending = std::make_shared<Pending>(
        method, operation_body(method, request, added.request_id + added.min_commit), deadline, true,
        may_repeat(method, request));
    if (pending->octets() <= kMaxBatchOctets) {
      operations.start(pending, as == As::kSession, true);
      Cancellation::Registration by_caller;
      if (options.cancellation) {
        by_caller = options.cancellation->on_cancel([&] { operations.abandon(*pending, cancelled_error()); });
      }
      return await(*pending, response);
    }
  }
  // A call of its own: it is no operation, or too large for one.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::microseconds>(deadline - Clock::now()));
  if (as == As::kSession) authorize(context, token());
  const grpc::ByteBuffer asked = buffer_of(request, added);
  grpc::ByteBuffer answered;
  Answer answer;
  grpc::GenericStub(link.channel()).UnaryCall(&context, method.path, {}, &asked, &answered, [&](grpc::Status status) {
    const std::lock_guard lock(answer.mutex);
    answer.status = std::move(status);
    answer.changed.notify_all();
  });
  {
    const auto by_client = closing.on_cancel([&] { context.TryCancel(); });
    Cancellation::Registration by_caller;
    if (options.cancellation) by_caller = options.cancellation->on_cancel([&] { context.TryCancel(); });
    std::unique_lock lock(answer.mutex);
    answer.changed.wait(lock, [&] { return answer.status.has_value(); });
  }
  if (!answer.status->ok()) throw Error::from(*answer.status);
  grpc::Slice whole;
  if (!answered.DumpToSingleSlice(&whole).ok() ||
      !response.ParseFromArray(whole.begin(), static_cast<int>(whole.size()))) {
    throw Error(grpc::StatusCode::INTERNAL, "The response of " + method.path + " cannot be read.");
  }
}

std::shared_ptr<Pending> Core::start(const google::protobuf::Message& request, const CallOptions& options) {
  const Method& method = Method::of(request.GetDescriptor());
  auto pending = std::make_shared<Pending>(method, operation_body(method, request, {}), deadline_of(options),
                                           options.independent, may_repeat(method, request));
  if (method.operation_field == 0) {
    pending->fail(Error(grpc::StatusCode::UNIMPLEMENTED, method.path + " is no operation of a batch."));
  } else {
    operations.start(pending, true, false);
  }
  return pending;
}

void Core::await(Pending& pending, google::protobuf::Message& response) {
  if (!pending.done()) operations.flush();
  if (!pending.wait_until(pending.deadline + kGrace)) operations.abandon(pending, late_error());
  pending.read(response);
}

std::optional<v1::CommitToken> Core::min_commit(std::int64_t mailbox_id) {
  if (mailbox_id == 0) mailbox_id = session().mailbox_id();
  const std::lock_guard lock(commits_mutex_);
  const auto found = commits_.find(mailbox_id);
  return found == commits_.end() ? std::nullopt : std::optional(found->second);
}

// Keeps the commit of a write, so that later reads see it.
void Core::remember(const Method& method, const google::protobuf::Message& response) {
  if (method.commit == nullptr || !response.GetReflection()->HasField(response, method.commit)) return;
  v1::CommitToken commit;
  commit.CopyFrom(response.GetReflection()->GetMessage(response, method.commit));
  const std::lock_guard lock(commits_mutex_);
  const auto [known, fresh] = commits_.emplace(commit.mailbox_id(), commit);
  if (!fresh && later(commit, known->second)) known->second = commit;
}

void Core::forget_commits() {
  const std::lock_guard lock(commits_mutex_);
  commits_.clear();
}

}  // namespace restante::detail
