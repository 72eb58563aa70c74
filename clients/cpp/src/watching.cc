#include "watching.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core.h"
#include "restante/v1/sync.grpc.pb.h"

namespace restante::detail {

Next WatchCall::produce(v1::WatchRequest& out) { return owner_.collect(*this, out); }
void WatchCall::received(v1::WatchResponse& in) { owner_.receive(*this, in); }
void WatchCall::over(const grpc::Status& status) { owner_.over(*this, status); }

std::shared_ptr<Watched> WatchStream::subscribe(std::int64_t mailbox_id, std::int64_t folder_id, std::int64_t since,
                                                std::int64_t epoch) {
  const auto watched = std::make_shared<Watched>();
  watched->mailbox_id = mailbox_id;
  watched->folder_id = folder_id;
  watched->since = since;
  watched->epoch = epoch;
  std::unique_lock lock(mutex_);
  watched->id = ++last_id_;
  watching_[watched->id] = watched;
  if (call_) {
    const auto call = call_;
    call->requests.push_back(request_of(*watched, core_.token()));
    lock.unlock();
    call->wake();
  } else {
    open(lock);
  }
  return watched;
}

void WatchStream::unsubscribe(const std::shared_ptr<Watched>& watched) {
  std::unique_lock lock(mutex_);
  if (watching_.erase(watched->id) == 0 || !call_) return;
  const auto call = call_;
  if (watching_.empty()) {
    call_.reset();
    lock.unlock();
    call->cancel();
    return;
  }
  call->requests.emplace_back().set_unsubscribe(watched->id);
  lock.unlock();
  call->wake();
}

v1::WatchRequest WatchStream::request_of(const Watched& watched, const std::string& token) {
  v1::WatchRequest request;
  auto* asked = request.mutable_subscribe();
  asked->set_subscription_id(watched.id);
  asked->set_session_token(token);
  asked->set_mailbox_id(watched.mailbox_id);
  asked->set_folder_id(watched.folder_id);
  asked->set_since_change_number(watched.since);
  asked->set_epoch(watched.epoch);
  return request;
}

WatchStream::Taken WatchStream::take(Watched& watched) {
  std::unique_lock lock(mutex_);
  watched.changed.wait(lock, [&] { return !watched.notices.empty() || watched.late || watched.woken; });
  Taken taken;
  watched.woken = false;
  if (!watched.notices.empty()) {
    taken.notice = std::move(watched.notices.front());
    watched.notices.pop_front();
  } else {
    taken.late = watched.late;
  }
  return taken;
}

void WatchStream::wake(Watched& watched) {
  const std::lock_guard lock(mutex_);
  watched.woken = true;
  watched.changed.notify_all();
}

void WatchStream::wake_all() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, watched] : watching_) {
    watched->woken = true;
    watched->changed.notify_all();
  }
}

// Opens a call for all that is watched. Releases the lock.
void WatchStream::open(std::unique_lock<std::mutex>& lock) {
  if (call_ || resting_ || closed_ || watching_.empty()) {
    lock.unlock();
    return;
  }
  const auto opened = std::make_shared<WatchCall>(*this);
  opened->token = core_.token();
  opened->channel = core_.link.channel();
  for (const auto& [id, watched] : watching_) opened->requests.push_back(request_of(*watched, opened->token));
  call_ = opened;
  calls_[opened.get()] = opened;
  lock.unlock();
  authorize(opened->context(), opened->token);
  v1::SyncService::NewStub(opened->channel)->async()->Watch(&opened->context(), opened.get());
  opened->begin();
}

Next WatchStream::collect(WatchCall& call, v1::WatchRequest& out) {
  const std::lock_guard lock(mutex_);
  if (call.requests.empty()) return Next::kNothing;
  out = std::move(call.requests.front());
  call.requests.pop_front();
  return Next::kMessage;
}

void WatchStream::receive(WatchCall& call, v1::WatchResponse& notice) {
  std::unique_lock lock(mutex_);
  if (&call != call_.get()) return;  // another has taken over
  retry_.worked();
  if (notice.draining()) {
    call.drained = true;
    lock.unlock();
    call.cancel();
    return;
  }
  const auto found = watching_.find(notice.subscription_id());
  if (found == watching_.end()) return;
  const auto watched = found->second;
  switch (notice.notice_case()) {
    case v1::WatchResponse::kFolder:
      watched->since = std::max(watched->since, notice.folder().change_number());
      break;
    case v1::WatchResponse::kMailbox:
      watched->since = std::max(watched->since, notice.mailbox().change_number());
      break;
    case v1::WatchResponse::kResetReason:
    case v1::WatchResponse::kRejected:
      watching_.erase(found);
      break;
    default:
      break;
  }
  if (watched->notices.size() < kMaxNotices) {
    watched->notices.push_back(std::move(notice));
  } else {
    watched->late = true;
  }
  watched->changed.notify_all();
}

void WatchStream::over(WatchCall& call, const grpc::Status& status) {
  const bool ours = [&] {
    const std::lock_guard lock(mutex_);
    return call_.get() == &call && !closed_;
  }();
  if (ours) {
    auto delay = jittered(kFirstStreamPause);
    if (call.drained) {
      core_.link.retire(call.channel);
    } else if (!status.ok()) {
      const Error failure = Error::from(status);
      // A fresh token, or the end of the session, which its watchers learn from.
      if (is_over(failure) && core_.token() == call.token) core_.check_soon();
      const std::lock_guard lock(mutex_);
      delay = retry_.delay(failure);
    }
    const std::lock_guard lock(mutex_);
    if (call_.get() == &call) {  // nobody has given it up meanwhile
      call_.reset();
      resting_ = true;
      core_.timer.after(delay, [this] {
        std::unique_lock later(mutex_);
        resting_ = false;
        open(later);
      });
    }
  }
  const std::lock_guard lock(mutex_);
  calls_.erase(&call);
  if (calls_.empty()) empty_.notify_all();
}

void WatchStream::close() {
  std::vector<std::shared_ptr<WatchCall>> calls;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    call_.reset();
    for (const auto& [key, call] : calls_) calls.push_back(call);
  }
  for (const auto& call : calls) call->cancel();
  wake_all();
  std::unique_lock lock(mutex_);
  empty_.wait(lock, [this] { return calls_.empty(); });
}

}  // namespace restante::detail
