#include "resumed.h"

namespace restante::detail {

void Resumption::after(const Error& error) {
  if (error.reason() == v1::ERROR_REASON_SESSION_EXPIRED && retry_.renewal()) {
    CallOptions options;
    options.cancellation = cancelled_;
    return core_->renew(token_, options);
  }
  const auto now = Clock::now();
  if (!failing_since_ || now - began_ > kLongestPause) {  // it worked, if in silence
    failing_since_ = now;
    retry_.worked();
  }
  const auto delay = retry_.delay(error);
  if (!is_temporary(error) || now + delay >= *failing_since_ + core_->config.timeout) throw error;
  core_->pause(delay, cancelled_);
}

}  // namespace restante::detail
