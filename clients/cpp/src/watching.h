// The Watch stream of a client.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "bidi.h"
#include "restante/cancellation.h"
#include "restante/v1/sync.pb.h"
#include "retry.h"

namespace grpc {
class Channel;
}

namespace restante::detail {

struct Core;
class WatchStream;

constexpr std::size_t kMaxNotices = 10'000;  // that a reader has not taken: beyond, it reads anew

// One thing that is watched. Its notices wait until they are taken. Its members are the stream's, under its mutex.
struct Watched {
  std::int64_t id = 0;
  std::int64_t mailbox_id = 0;
  std::int64_t folder_id = 0;
  std::int64_t since = 0;
  std::int64_t epoch = 0;

  std::deque<v1::WatchResponse> notices;
  bool late = false;   // some could not be kept
  bool woken = false;  // look at what may have ended the watch
  std::condition_variable changed;
};

// One Watch call. Its members are the stream's, under its mutex.
class WatchCall final : public BidiCall<v1::WatchRequest, v1::WatchResponse> {
 public:
  explicit WatchCall(WatchStream& owner) : owner_(owner) {}

  std::shared_ptr<grpc::Channel> channel;
  std::string token;
  std::deque<v1::WatchRequest> requests;
  bool drained = false;

 private:
  Next produce(v1::WatchRequest& out) override;
  void received(v1::WatchResponse& in) override;
  void over(const grpc::Status& status) override;

  WatchStream& owner_;
};

// The one Watch stream of a client, on which it subscribes to any number of folders and mailboxes. It is opened with
// the first subscription, opened again whenever it breaks, and each subscription resumes from what it has been told.
class WatchStream {
 public:
  explicit WatchStream(Core& core) : core_(core) {}

  std::shared_ptr<Watched> subscribe(std::int64_t mailbox_id, std::int64_t folder_id, std::int64_t since,
                                     std::int64_t epoch);
  void unsubscribe(const std::shared_ptr<Watched>& watched);

  // The next notice of a subscription; nothing when some were lost, or when it was woken.
  struct Taken {
    std::optional<v1::WatchResponse> notice;
    bool late = false;
  };
  Taken take(Watched& watched);

  // Has `take` return.
  void wake(Watched& watched);
  void wake_all();

  // Ends the call and waits until it is gone.
  void close();

 private:
  friend class WatchCall;

  Next collect(WatchCall& call, v1::WatchRequest& out);
  void receive(WatchCall& call, v1::WatchResponse& notice);
  void over(WatchCall& call, const grpc::Status& status);
  void open(std::unique_lock<std::mutex>& lock);
  static v1::WatchRequest request_of(const Watched& watched, const std::string& token);

  Core& core_;
  std::mutex mutex_;
  std::condition_variable empty_;
  std::int64_t last_id_ = 0;
  std::map<std::int64_t, std::shared_ptr<Watched>> watching_;
  std::map<const WatchCall*, std::shared_ptr<WatchCall>> calls_;
  std::shared_ptr<WatchCall> call_;  // carries the subscriptions; nullptr: none is open
  Retry retry_{kFirstStreamPause, kLongestWatchPause};
  bool resting_ = false;  // until the next call is opened
  bool closed_ = false;
};

}  // namespace restante::detail
