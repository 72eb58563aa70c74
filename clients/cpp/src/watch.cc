#include "restante/watch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "google/rpc/status.pb.h"
#include "impl.h"
#include "restante/v1/mailbox.pb.h"

namespace restante {

namespace detail {

namespace {

v1::Mailbox mailbox_now(Core& core, std::int64_t mailbox_id, const Cancellation& cancellation) {
  v1::GetMailboxRequest request;
  request.set_mailbox_id(mailbox_id);
  v1::GetMailboxResponse answer;
  CallOptions options;
  options.cancellation = cancellation;
  core.call(request, answer, options);
  return std::move(*answer.mutable_mailbox());
}

}  // namespace

Notices::Notices(std::shared_ptr<Core> core, std::int64_t mailbox_id, std::int64_t folder_id,
                 const std::optional<Cancellation>& cancellation)
    : core_(std::move(core)), mailbox_id_(mailbox_id), folder_id_(folder_id), ending_(core_, cancellation) {}

Notices::~Notices() { stop(); }

void Notices::begin(std::int64_t since, std::int64_t epoch) {
  since_ = since;
  epoch_ = epoch;
  token_ = core_->token();
  watched_ = core_->watching.subscribe(mailbox_id_, folder_id_, since_, epoch_);
}

void Notices::stop() {
  if (watched_) core_->watching.unsubscribe(watched_);
  watched_.reset();
}

std::optional<v1::WatchResponse> Notices::next() {
  const auto waking =
      ending_.cancellation().on_cancel([core = core_, watched = watched_] { core->watching.wake(*watched); });
  for (;;) {
    if (ending_.cancelled()) throw ending_.error();
    if (const auto reason = core_->end_reason()) throw *reason;
    auto taken = core_->watching.take(*watched_);
    if (taken.late) {
      stop();
      return std::nullopt;
    }
    if (!taken.notice) continue;
    switch (taken.notice->notice_case()) {
      case v1::WatchResponse::kFolder:
        since_ = std::max(since_, taken.notice->folder().change_number());
        break;
      case v1::WatchResponse::kMailbox:
        since_ = std::max(since_, taken.notice->mailbox().change_number());
        break;
      case v1::WatchResponse::kResetReason:
        stop();
        return std::nullopt;
      case v1::WatchResponse::kRejected: {
        stop();
        if (!again_after(Error::from(taken.notice->rejected()))) return std::nullopt;
        begin(since_, epoch_);
        return next();
      }
      case v1::WatchResponse::kSubscribed:
        retry_.worked();  // the token is good: one that lapses later may be renewed again
        continue;
      default:
        continue;
    }
    retry_.worked();
    return std::move(taken.notice);
  }
}

bool Notices::again_after(const Error& refusal) {
  if (is_over(refusal) && retry_.renewal()) {  // it may have been replaced by this client's own doing
    CallOptions options;
    options.cancellation = ending_.cancellation();
    try {
      core_->renew(token_, options);
    } catch (const Error& error) {
      if (is_over(error)) core_->end_session(error);
      throw;
    }
    return true;
  }
  if (refusal.reason() == v1::ERROR_REASON_EPOCH_CHANGED) return false;  // it is read anew
  if (!is_temporary(refusal)) throw refusal;
  core_->pause(retry_.delay(refusal), ending_.cancellation());
  return true;
}

}  // namespace detail

// --- A folder ---

FolderWatch::Impl::Impl(std::shared_ptr<detail::Core> its_core, std::int64_t its_folder_id,
                        const WatchOptions& its_options)
    : core(std::move(its_core)),
      folder_id(its_folder_id),
      options(its_options),
      notices(core, options.mailbox_id, folder_id, options.cancellation) {}

void FolderWatch::Impl::begin() {
  begun = true;
  if (options.snapshot) return read_anew();
  const auto& cancellation = notices.ending().cancellation();
  if (options.epoch == 0) options.epoch = detail::mailbox_now(*core, options.mailbox_id, cancellation).epoch();
  if (options.since == 0) {
    v1::GetFolderRequest request;
    request.set_mailbox_id(options.mailbox_id);
    request.set_folder_id(folder_id);
    v1::GetFolderResponse answer;
    CallOptions how;
    how.cancellation = cancellation;
    core->call(request, answer, how);
    options.since = answer.folder().change_number();
  }
  notices.begin(options.since, options.epoch);
}

// Gives what the folder holds. A break begins it anew, so that it is only told once it is whole.
void FolderWatch::Impl::read_anew() {
  const auto& cancellation = notices.ending().cancellation();
  const auto epoch = detail::mailbox_now(*core, options.mailbox_id, cancellation).epoch();
  v1::OpenFolderRequest request;
  request.set_mailbox_id(options.mailbox_id);
  request.set_folder_id(folder_id);
  if (const auto commit = core->min_commit(options.mailbox_id)) *request.mutable_min_commit() = *commit;
  std::vector<v1::OpenFolderResponse> pieces;
  const auto open = [&](const auto& channel, grpc::ClientContext& context) {
    return v1::FolderService::NewStub(channel)->OpenFolder(&context, request);
  };
  detail::Resumed<v1::OpenFolderResponse> stream(core, cancellation, open);
  stream.on_restart([&] { pieces.clear(); });
  while (auto piece = stream.next()) pieces.push_back(std::move(*piece));
  std::int64_t since = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].has_folder()) since = pieces[i].folder().change_number();
    events.push_back({std::move(*pieces[i].mutable_rows()), i == 0});
  }
  notices.begin(since, epoch);
}

FolderWatch::FolderWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FolderWatch::FolderWatch(FolderWatch&&) noexcept = default;
FolderWatch& FolderWatch::operator=(FolderWatch&&) noexcept = default;
FolderWatch::~FolderWatch() = default;

std::optional<FolderEvent> FolderWatch::next() {
  if (!impl_->begun) impl_->begin();
  for (;;) {
    if (!impl_->events.empty()) {
      FolderEvent event = std::move(impl_->events.front());
      impl_->events.pop_front();
      return event;
    }
    if (!impl_->notices.stands()) {
      impl_->read_anew();
      continue;
    }
    auto notice = impl_->notices.next();
    if (notice && notice->has_folder()) return FolderEvent{std::move(*notice->mutable_folder()), false};
  }
}

void FolderWatch::cancel() const { impl_->notices.ending().cancellation().cancel(); }

// --- A mailbox ---

MailboxWatch::Impl::Impl(std::shared_ptr<detail::Core> its_core, std::int64_t its_mailbox_id,
                         const CallOptions& options)
    : core(std::move(its_core)), mailbox_id(its_mailbox_id), notices(core, mailbox_id, 0, options.cancellation) {}

MailboxWatch::MailboxWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MailboxWatch::MailboxWatch(MailboxWatch&&) noexcept = default;
MailboxWatch& MailboxWatch::operator=(MailboxWatch&&) noexcept = default;
MailboxWatch::~MailboxWatch() = default;

std::optional<MailboxEvent> MailboxWatch::next() {
  for (;;) {
    if (!impl_->notices.stands()) {
      const auto now = detail::mailbox_now(*impl_->core, impl_->mailbox_id, impl_->notices.ending().cancellation());
      impl_->notices.begin(now.change_number(), now.epoch());
      if (std::exchange(impl_->begun, true)) return MailboxEvent{now.change_number(), {}, true};
    }
    const auto notice = impl_->notices.next();
    if (!notice || !notice->has_mailbox()) continue;
    const auto& folders = notice->mailbox().folder_ids();
    return MailboxEvent{notice->mailbox().change_number(), {folders.begin(), folders.end()}, false};
  }
}

void MailboxWatch::cancel() const { impl_->notices.ending().cancellation().cancel(); }

}  // namespace restante
