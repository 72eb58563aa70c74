// What a client consists of.
#pragma once

#include <google/protobuf/message.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "link.h"
#include "multiplexer.h"
#include "restante/call.h"
#include "restante/config.h"
#include "restante/v1/session.pb.h"
#include "restante/v1/types.pb.h"
#include "retry.h"
#include "timer.h"
#include "watching.h"

namespace restante::detail {

// What is added to a request by this library, as encoded fields.
struct Added {
  std::string request_id;
  std::string min_commit;
};

// Who a call is made as.
enum class As { kSession, kNobody };

// A client without its handle: streams and operations keep it, too.
struct Core {
  explicit Core(Config its_config);
  ~Core();

  void close();

  // Calls (calls.cc).
  void call(const google::protobuf::Message& request, google::protobuf::Message& response, const CallOptions& options);
  // A call that is repeated until it succeeds, fails for good, or its time is over.
  void repeat(const Method& method, const google::protobuf::Message& request, const Added& added,
              google::protobuf::Message& response, As as, const CallOptions& options, Clock::time_point deadline);
  // A call that is made once.
  void attempt(const Method& method, const google::protobuf::Message& request, const Added& added,
               google::protobuf::Message& response, As as, const CallOptions& options, Clock::time_point deadline);
  std::shared_ptr<Pending> start(const google::protobuf::Message& request, const CallOptions& options);
  // Waits for an operation and fills in its response.
  void await(Pending& pending, google::protobuf::Message& response);
  // The end of a call with these options.
  Clock::time_point deadline_of(const CallOptions& options) const;
  // Waits; throws where it is cancelled meanwhile.
  void pause(Nanoseconds delay, const Cancellation& cancellation) const;

  std::optional<v1::CommitToken> min_commit(std::int64_t mailbox_id);
  void remember(const Method& method, const google::protobuf::Message& response);
  void forget_commits();

  // The session (session.cc).
  std::string token();
  v1::Session session();
  std::optional<Error> end_reason();
  void authenticate(const std::string& user, const std::string& password, const CallOptions& options);
  void resume(const std::string& token, const CallOptions& options);
  // Replaces a token, unless somebody else has just done it.
  void renew(const std::string& before, const CallOptions& options);
  void change_password(const std::string& old_password, const std::string& new_password, const CallOptions& options);
  void log_off(const CallOptions& options);
  void take(const v1::Session& given);
  void end_session(const Error& reason);
  void keep_password(const std::string& password);
  void begin_renewing();
  // Has the session looked at soon: it may be over.
  void check_soon();

  const Config config;
  Cancellation closing;
  Link link;
  Timer timer;
  Multiplexer operations;
  WatchStream watching;

 private:
  // Makes the session this caller's to replace, until its end.
  std::unique_lock<std::timed_mutex> lock_session(Clock::time_point deadline);
  void keep_fresh();
  Nanoseconds until_renewal();
  bool check();

  std::mutex commits_mutex_;
  std::map<std::int64_t, v1::CommitToken> commits_;  // the latest write to each mailbox that was seen

  std::timed_mutex replacing_;  // held while the session is being replaced
  std::mutex session_mutex_;
  std::condition_variable session_changed_;
  v1::Session session_;
  Clock::time_point lapses_;  // of its token, by this machine's steady clock: the server's clock may be another
  std::string password_;  // empty: not kept
  std::optional<Error> end_reason_;
  bool check_wanted_ = false;
  bool closed_ = false;
  std::thread renewing_;
};

}  // namespace restante::detail
