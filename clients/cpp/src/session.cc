// The session: who the client is, and the renewing of its token.
#include <algorithm>
#include <utility>

#include "core.h"

namespace restante::detail {

namespace {

constexpr Nanoseconds kShortestRenewal = std::chrono::milliseconds(200);
constexpr Nanoseconds kRenewalRetry = std::chrono::seconds(2);

const Method& method_of(const google::protobuf::Message& request) { return Method::of(request.GetDescriptor()); }

}  // namespace

std::string Core::token() {
  const std::lock_guard lock(session_mutex_);
  return session_.session_token();
}

v1::Session Core::session() {
  const std::lock_guard lock(session_mutex_);
  return session_;
}

std::optional<Error> Core::end_reason() {
  const std::lock_guard lock(session_mutex_);
  return end_reason_;
}

std::unique_lock<std::timed_mutex> Core::lock_session(Clock::time_point deadline) {
  std::unique_lock lock(replacing_, deadline);
  if (!lock.owns_lock()) throw late_error();
  return lock;
}

void Core::authenticate(const std::string& user, const std::string& password, const CallOptions& options) {
  v1::AuthenticateRequest request;
  request.set_mechanism("PLAIN");
  request.set_response(std::string(1, '\0') + user + '\0' + password);  // RFC 4616 2
  request.set_scope(v1::SCOPE_API);
  v1::AuthenticateResponse answer;
  attempt(method_of(request), request, {}, answer, As::kNobody, options, deadline_of(options));
  take(answer.session());
}

void Core::resume(const std::string& token, const CallOptions& options) {
  v1::Session kept;
  kept.set_session_token(token);
  {
    const std::lock_guard lock(session_mutex_);
    session_ = kept;
  }
  const v1::GetSessionRequest request;
  v1::GetSessionResponse answer;
  attempt(method_of(request), request, {}, answer, As::kSession, options, deadline_of(options));
  kept = answer.session();
  kept.set_session_token(token);
  take(kept);
}

void Core::renew(const std::string& before, const CallOptions& options) {
  const auto deadline = deadline_of(options);
  const auto lock = lock_session(deadline);
  if (token() != before) return;
  const v1::RenewSessionRequest request;
  v1::RenewSessionResponse answer;
  try {
    attempt(method_of(request), request, {}, answer, As::kSession, options, deadline);
  } catch (const Error& error) {
    std::string user, password;
    {
      const std::lock_guard guard(session_mutex_);
      user = session_.address();
      password = password_;
    }
    const bool over = error.reason() == v1::ERROR_REASON_SESSION_EXPIRED ||
                      error.reason() == v1::ERROR_REASON_INVALID_SESSION;
    if (password.empty() || !over) throw;
    return authenticate(user, password, options);
  }
  take(answer.session());
}

void Core::change_password(const std::string& old_password, const std::string& new_password,
                           const CallOptions& options) {
  const auto deadline = deadline_of(options);
  const auto lock = lock_session(deadline);
  v1::ChangePasswordRequest request;
  request.set_old_password(old_password);
  request.set_new_password(new_password);
  v1::ChangePasswordResponse answer;
  attempt(method_of(request), request, {}, answer, As::kSession, options, deadline);
  {
    const std::lock_guard guard(session_mutex_);
    if (!password_.empty()) password_ = new_password;
  }
  take(answer.session());
}

void Core::log_off(const CallOptions& options) {
  const v1::LogoffRequest request;
  v1::LogoffResponse answer;
  attempt(method_of(request), request, {}, answer, As::kSession, options, deadline_of(options));
  end_session(Error(grpc::StatusCode::UNAUTHENTICATED, v1::ERROR_REASON_SESSION_REVOKED, "Logged off."));
}

void Core::take(const v1::Session& given) {
  {
    const std::lock_guard lock(session_mutex_);
    session_ = given;
    lapses_ = Clock::now() + std::chrono::milliseconds(given.lifetime_milliseconds());
  }
  if (config.on_session) config.on_session(given);
}

void Core::keep_password(const std::string& password) {
  const std::lock_guard lock(session_mutex_);
  password_ = password;
}

void Core::end_session(const Error& reason) {
  {
    const std::lock_guard lock(session_mutex_);
    if (end_reason_) return;
    end_reason_ = reason;
    session_changed_.notify_all();
  }
  watching.wake_all();
  if (config.on_ended) config.on_ended(reason);
}

void Core::begin_renewing() {
  renewing_ = std::thread([this] { keep_fresh(); });
}

void Core::check_soon() {
  const std::lock_guard lock(session_mutex_);
  check_wanted_ = true;
  session_changed_.notify_all();
}

// How long the present token may be left alone: half of its life. The other half is for a server that is away.
Nanoseconds Core::until_renewal() {
  const std::lock_guard lock(session_mutex_);
  return std::max<Nanoseconds>((lapses_ - Clock::now()) / 2, kShortestRenewal);
}

// Renews the session before it lapses, until it has ended or the client is closed.
void Core::keep_fresh() {
  auto wait = until_renewal();
  std::unique_lock lock(session_mutex_);
  for (;;) {
    session_changed_.wait_for(lock, wait, [this] { return closed_ || end_reason_ || check_wanted_; });
    if (closed_ || end_reason_) return;
    check_wanted_ = false;
    lock.unlock();
    wait = check() ? until_renewal() : kRenewalRetry;
    lock.lock();
  }
}

// Renews the session, and ends it where that is refused. Tells whether there is nothing more to do for now.
bool Core::check() {
  try {
    renew(token(), {});
    return true;
  } catch (const Error& error) {
    if (!is_over(error)) return false;
    end_session(error);
    return true;
  }
}

}  // namespace restante::detail
