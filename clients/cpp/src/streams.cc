#include "restante/streams.h"

#include <algorithm>
#include <utility>

#include "impl.h"
#include "message_set.h"

namespace restante {

// --- Content ---

Content::Impl::Impl(const std::shared_ptr<detail::Core>& core, v1::ReadContentRequest its_request,
                    const CallOptions& options)
    : request(std::move(its_request)),
      start(request.section().offset_octets()),
      length(request.section().has_length_octets() ? std::optional(request.section().length_octets()) : std::nullopt),
      stream(core, options.cancellation, [this](const auto& channel, grpc::ClientContext& context) {
        auto* section = request.mutable_section();
        if (start + done > 0) section->set_offset_octets(start + done);
        if (length) section->set_length_octets(*length - done);
        return v1::ContentService::NewStub(channel)->ReadContent(&context, request);
      }) {}

std::optional<std::string> Content::Impl::fetch() {
  if (over) return std::nullopt;
  auto chunk = stream.next();
  if (!chunk) {
    over = true;
    return std::nullopt;
  }
  if (done == 0) total = std::max(total, chunk->total_octets());
  done += static_cast<std::int64_t>(chunk->octets().size());
  return std::move(*chunk->mutable_octets());
}

Content::Content(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Content::Content(Content&&) noexcept = default;
Content& Content::operator=(Content&&) noexcept = default;
Content::~Content() = default;

std::optional<std::string> Content::next() {
  if (impl_->first) return std::exchange(impl_->first, std::nullopt);
  return impl_->fetch();
}

std::int64_t Content::size() {
  if (impl_->done == 0 && !impl_->first) impl_->first = impl_->fetch();
  return impl_->total;
}

void Content::cancel() const { impl_->stream.cancel(); }

// --- Messages ---

MessageStream::Impl::Impl(const std::shared_ptr<detail::Core>& core, v1::StreamMessagesRequest its_request,
                          const CallOptions& options)
    : request(std::move(its_request)),
      whole(request.messages()),
      stream(core, options.cancellation,
             [this](const auto& channel, grpc::ClientContext& context) -> decltype(stream)::Reader {
               if (detail::finished(request.messages())) return nullptr;
               return v1::MessageService::NewStub(channel)->StreamMessages(&context, request);
             }) {
  stream.on_restart([this] { batch.reset(); });  // it comes again
}

// Gives the batch that is whole.
v1::MessageRows MessageStream::Impl::give() {
  v1::MessageRows given = std::move(*batch);
  batch.reset();
  *request.mutable_messages() = detail::behind(whole, given);
  return given;
}

MessageStream::MessageStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MessageStream::MessageStream(MessageStream&&) noexcept = default;
MessageStream& MessageStream::operator=(MessageStream&&) noexcept = default;
MessageStream::~MessageStream() = default;

std::optional<v1::MessageRows> MessageStream::next() {
  auto& batch = impl_->batch;
  if (impl_->over) return std::nullopt;
  for (;;) {
    if (batch && detail::whole(*batch)) return impl_->give();
    auto response = impl_->stream.next();
    if (!response) {
      impl_->over = true;
      return batch ? std::optional(impl_->give()) : std::nullopt;
    }
    if (response->matching_below() != 0) {
      impl_->whole.mutable_matching()->set_below(response->matching_below());
    }
    if (response->has_rest() && batch) detail::join(*batch, response->rest());
    if (!response->has_rows()) continue;
    std::optional<v1::MessageRows> before;
    if (batch) before = impl_->give();
    batch = std::move(*response->mutable_rows());
    if (before) return before;
  }
}

void MessageStream::cancel() const { impl_->stream.cancel(); }

// --- Sync ---

SyncStream::Impl::Impl(std::shared_ptr<detail::Core> its_core, v1::SyncMailboxRequest its_request,
                       const CallOptions& options)
    : core(std::move(its_core)),
      request(std::move(its_request)),
      stream(core, options.cancellation, [this](const auto& channel, grpc::ClientContext& context) {
        began = detail::Clock::now();
        return v1::SyncService::NewStub(channel)->SyncMailbox(&context, request);
      }) {}

SyncStream::SyncStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SyncStream::SyncStream(SyncStream&&) noexcept = default;
SyncStream& SyncStream::operator=(SyncStream&&) noexcept = default;
SyncStream::~SyncStream() = default;

std::optional<v1::SyncMailboxResponse> SyncStream::next() {
  if (impl_->over) return std::nullopt;
  for (;;) {
    auto change = impl_->stream.next();
    if (change) {
      if (change->change_case() == v1::SyncMailboxResponse::kCheckpoint) {
        impl_->request.set_cursor(change->checkpoint().cursor());
      } else if (change->change_case() == v1::SyncMailboxResponse::kResetReason) {
        impl_->request.clear_cursor();
        impl_->again = true;
      }
      return change;
    }
    if (!impl_->request.follow() && !std::exchange(impl_->again, false)) {
      impl_->over = true;
      return std::nullopt;
    }
    // A server that drains ends streams after a checkpoint.
    if (detail::Clock::now() - impl_->began > detail::kLongestPause) impl_->retry.worked();
    const auto delay = impl_->retry.delay(Error(grpc::StatusCode::UNAVAILABLE, "The server ended the stream."));
    impl_->core->pause(delay, impl_->stream.cancellation());
  }
}

void SyncStream::cancel() const { impl_->stream.cancel(); }

// --- Jobs ---

JobStream::Impl::Impl(const std::shared_ptr<detail::Core>& core, v1::WatchJobRequest its_request,
                      const CallOptions& options)
    : request(std::move(its_request)),
      stream(core, options.cancellation, [this](const auto& channel, grpc::ClientContext& context) {
        return v1::JobService::NewStub(channel)->WatchJob(&context, request);
      }) {}

JobStream::JobStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
JobStream::JobStream(JobStream&&) noexcept = default;
JobStream& JobStream::operator=(JobStream&&) noexcept = default;
JobStream::~JobStream() = default;

std::optional<v1::WatchJobResponse> JobStream::next() {
  if (impl_->over) return std::nullopt;
  auto step = impl_->stream.next();
  if (!step) {
    impl_->over = true;
  } else if (step->findings_size() > 0) {
    impl_->request.set_after_finding(step->findings().rbegin()->finding_number());
  }
  return step;
}

void JobStream::cancel() const { impl_->stream.cancel(); }

}  // namespace restante
