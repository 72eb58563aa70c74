// What the streams of the public headers consist of.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core.h"
#include "restante/streams.h"
#include "restante/v1/content.grpc.pb.h"
#include "restante/v1/folder.grpc.pb.h"
#include "restante/v1/job.grpc.pb.h"
#include "restante/v1/message.grpc.pb.h"
#include "restante/v1/sync.grpc.pb.h"
#include "restante/watch.h"
#include "resumed.h"

namespace restante {

struct Content::Impl {
  Impl(const std::shared_ptr<detail::Core>& core, v1::ReadContentRequest request, const CallOptions& options);
  // The next octets; nothing at the end.
  std::optional<std::string> fetch();

  v1::ReadContentRequest request;
  std::int64_t start = 0, done = 0, total = 0;
  std::optional<std::int64_t> length;
  std::optional<std::string> first;  // read for the size, and not given yet
  bool over = false;
  detail::Resumed<v1::ReadContentResponse> stream;
};

struct MessageStream::Impl {
  Impl(const std::shared_ptr<detail::Core>& core, v1::StreamMessagesRequest request, const CallOptions& options);
  v1::MessageRows give();

  v1::StreamMessagesRequest request;
  v1::MessageSet whole;  // of the caller's request
  std::optional<v1::MessageRows> batch;  // that has not been given
  bool over = false;
  detail::Resumed<v1::StreamMessagesResponse> stream;
};

struct SyncStream::Impl {
  Impl(std::shared_ptr<detail::Core> core, v1::SyncMailboxRequest request, const CallOptions& options);

  std::shared_ptr<detail::Core> core;
  v1::SyncMailboxRequest request;
  detail::Retry retry{detail::kFirstStreamPause, detail::kLongestPause};
  detail::Clock::time_point began;
  bool again = false, over = false;
  detail::Resumed<v1::SyncMailboxResponse> stream;
};

struct JobStream::Impl {
  Impl(const std::shared_ptr<detail::Core>& core, v1::WatchJobRequest request, const CallOptions& options);

  v1::WatchJobRequest request;
  bool over = false;
  detail::Resumed<v1::WatchJobResponse> stream;
};

namespace detail {

// The notices of one subscription, for as long as it stands.
class Notices {
 public:
  Notices(std::shared_ptr<Core> core, std::int64_t mailbox_id, std::int64_t folder_id,
          const std::optional<Cancellation>& cancellation);
  ~Notices();
  Notices(const Notices&) = delete;
  Notices& operator=(const Notices&) = delete;

  // Begins above a change number of an epoch.
  void begin(std::int64_t since, std::int64_t epoch);
  // The next one; nothing when everything must be read anew. Throws Error.
  std::optional<v1::WatchResponse> next();
  // Whether it has begun and not ended since.
  bool stands() const { return watched_ != nullptr; }

  const Ending& ending() const { return ending_; }

 private:
  void stop();
  // Does what helps after a refusal, and tells whether to subscribe again. Throws it where nothing helps.
  bool again_after(const Error& refusal);

  std::shared_ptr<Core> core_;
  const std::int64_t mailbox_id_, folder_id_;
  std::int64_t since_ = 0, epoch_ = 0;
  std::string token_;
  Retry retry_{kFirstPause, kLongestWatchPause};
  std::shared_ptr<Watched> watched_;
  Ending ending_;
};

}  // namespace detail

struct FolderWatch::Impl {
  Impl(std::shared_ptr<detail::Core> core, std::int64_t folder_id, const WatchOptions& options);
  void begin();
  void read_anew();

  std::shared_ptr<detail::Core> core;
  std::int64_t folder_id;
  WatchOptions options;
  bool begun = false;
  std::deque<FolderEvent> events;  // that have not been given
  detail::Notices notices;
};

struct MailboxWatch::Impl {
  Impl(std::shared_ptr<detail::Core> core, std::int64_t mailbox_id, const CallOptions& options);

  std::shared_ptr<detail::Core> core;
  std::int64_t mailbox_id;
  bool begun = false;
  detail::Notices notices;
};

}  // namespace restante
