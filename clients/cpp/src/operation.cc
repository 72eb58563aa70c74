#include <google/protobuf/descriptor.h>

#include <stdexcept>
#include <utility>

#include "core.h"
#include "restante/call.h"
#include "restante/pages.h"

namespace restante {

// --- Operations ---

AnyOperation::AnyOperation(std::shared_ptr<detail::Core> core, std::shared_ptr<detail::Pending> pending,
                           const std::optional<Cancellation>& cancellation)
    : core_(std::move(core)), pending_(std::move(pending)) {
  if (!cancellation) return;
  cancelling_ = cancellation->on_cancel([core = core_, pending = pending_] {
    core->operations.abandon(*pending, detail::cancelled_error());
  });
}

void AnyOperation::get(google::protobuf::Message* response) const { core_->await(*pending_, *response); }

bool AnyOperation::done() const { return pending_->done(); }

bool AnyOperation::wait_for(std::chrono::nanoseconds longest) const {
  if (!pending_->done()) core_->operations.flush();
  return pending_->wait_until(detail::Clock::now() + longest);
}

void AnyOperation::cancel() const { core_->operations.abandon(*pending_, detail::cancelled_error()); }

// --- Pages ---

AnyPages::AnyPages(std::shared_ptr<detail::Core> core, const google::protobuf::Message& request, CallOptions options)
    : core_(std::move(core)), request_(request.New()), options_(std::move(options)) {
  request_->CopyFrom(request);
}

AnyPages::AnyPages(AnyPages&&) noexcept = default;
AnyPages& AnyPages::operator=(AnyPages&&) noexcept = default;
AnyPages::~AnyPages() = default;

bool AnyPages::next(google::protobuf::Message* page) {
  if (over_) return false;
  const auto* asks = request_->GetReflection();
  const auto* token = request_->GetDescriptor()->FindFieldByName("page_token");
  const auto* next_token = page->GetDescriptor()->FindFieldByName("next_page_token");
  if (token == nullptr || next_token == nullptr) {
    throw std::invalid_argument(request_->GetTypeName() + " asks for no list");
  }
  core_->call(*request_, *page, options_);
  const std::string following = page->GetReflection()->GetString(*page, next_token);
  over_ = following.empty();
  asks->SetString(request_.get(), token, following);
  return true;
}

}  // namespace restante
