// A user's session with a server.
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "restante/call.h"
#include "restante/config.h"
#include "restante/pages.h"
#include "restante/streams.h"
#include "restante/v1/content.pb.h"
#include "restante/v1/message.pb.h"
#include "restante/v1/session.pb.h"
#include "restante/v1/sync.pb.h"
#include "restante/v1/types.pb.h"
#include "restante/watch.h"

namespace restante {

// One user's session with a server. Any number of threads may use it.
//
// Calls of all threads travel together in one Execute stream: 256 operations and 1 MiB a message, 1,000 in flight, 64
// of the session. A stream that drains finishes what it has while new calls go by another. Everything that fails throws
// Error.
class Client {
 public:
  // Connects and proves who the user is by a password. The session is renewed in the background until the client is
  // closed; after its 24 hours the password begins the next one (see Config::forget_password). The reason is
  // AUTHENTICATION_FAILED for a wrong name or password, and TOO_MANY_ATTEMPTS with a delay after several.
  static Client log_on(Config config, const std::string& user, const std::string& password,
                       const CallOptions& options = {});

  // Connects with a session token that was kept, and tries it at once. There is no password: the session ends when it
  // cannot be renewed. The reason of a failure is SESSION_EXPIRED, SESSION_REVOKED or INVALID_SESSION.
  static Client resume(Config config, const std::string& token, const CallOptions& options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  // as close

  // Ends all streams and connections. The session itself stays good until it lapses; log_off ends it. Calls that are
  // under way fail with the code CANCELLED. Harmless to repeat.
  void close();

  // Calls a unary RPC of the contract: the request's type says which.
  //
  // It gets a request_id and min_commit where it lacks them, and is repeated while the failure is temporary
  // (UNAVAILABLE, a lost connection, TOO_MANY_OPERATIONS), no sooner than the server asks for; a session that has
  // expired is renewed once.
  template <class Request>
  ResponseOf<Request> call(const Request& request, const CallOptions& options = {}) {
    ResponseOf<Request> response;
    call_any(request, &response, options);
    return response;
  }

  // Hands an operation to the Execute stream and returns at once.
  //
  // Operations are sent in the order of these calls, and each begins after the one before has answered, unless
  // independent. Where the stream is lost, what was not answered is sent again on the next. Otherwise the request goes
  // as it is, and once: a missing request_id is an error, and nothing is repeated that the server has answered.
  template <class Request>
  Operation<ResponseOf<Request>> start(const Request& request, const CallOptions& options = {}) {
    return Operation<ResponseOf<Request>>(start_any(request, options));
  }

  // Every page of a list: `for (auto& page : client.pages(request))`.
  template <class Request>
  Pages<ResponseOf<Request>> pages(const Request& request, const CallOptions& options = {}) {
    return Pages<ResponseOf<Request>>(pages_any(request, options));
  }

  // As call, start and pages, for requests whose type is known only at run time (see Method). Throws
  // std::invalid_argument for one that is none of a unary RPC.
  void call_any(const google::protobuf::Message& request, google::protobuf::Message* response,
                const CallOptions& options = {});
  AnyOperation start_any(const google::protobuf::Message& request, const CallOptions& options = {});
  AnyPages pages_any(const google::protobuf::Message& request, const CallOptions& options = {});

  // Uploads octets that are too many for one call. The answer's upload_id goes into AppendMessage, SubmitMessage or an
  // attachment, within an hour. It begins anew when the connection breaks, as long as the client's timeout brings it
  // further. The reason of a failure is MESSAGE_TOO_LARGE, INVALID_CONTENT or STORE_FULL.
  v1::UploadContentResponse upload(v1::UploadKind kind, std::string_view octets, const CallOptions& options = {});

  // Uploads what a stream holds from where it stands to its end; it must be one that can be sought in. Throws
  // std::ios_base::failure when it cannot be read.
  v1::UploadContentResponse upload(v1::UploadKind kind, std::istream& from, const CallOptions& options = {});

  // Uploads a file. Throws std::ios_base::failure when it cannot be read.
  v1::UploadContentResponse upload_file(v1::UploadKind kind, const std::string& file, const CallOptions& options = {});

  // Reads a message, or a section of it, as it is stored, no faster than it is taken. Absent: the whole. The mailbox 0
  // is the user's own.
  Content open_content(std::int64_t message_id, const std::optional<v1::Section>& section = std::nullopt,
                       std::int64_t mailbox_id = 0, const CallOptions& options = {});

  // All the octets that open_content gives.
  std::string read_content(std::int64_t message_id, const std::optional<v1::Section>& section = std::nullopt,
                           std::int64_t mailbox_id = 0, const CallOptions& options = {});

  // The part tree of a message: the whole message, as the root of its parts. Throws MESSAGE_NOT_FOUND.
  v1::MessagePart parts(std::int64_t message_id, std::int64_t mailbox_id = 0, const CallOptions& options = {});

  // Reads a part of a message without its transfer encoding, no faster than it is taken. The multipart of a whole message
  // has no octets of its own.
  Content open_part(std::int64_t message_id, const v1::MessagePart& part, std::int64_t mailbox_id = 0,
                    const CallOptions& options = {});

  // All the octets that open_part gives.
  std::string read_part(std::int64_t message_id, const v1::MessagePart& part, std::int64_t mailbox_id = 0,
                        const CallOptions& options = {});

  // The text of a text part, in UTF-8. The server decodes its charset; line ends are LF.
  std::string read_text(std::int64_t message_id, const v1::MessagePart& part, std::int64_t mailbox_id = 0,
                        const CallOptions& options = {});

  // Reads columns and sections of any number of messages, no faster than they are taken.
  MessageStream stream_messages(v1::StreamMessagesRequest request, const CallOptions& options = {});

  // Tells the changes of a folder.
  FolderWatch watch(std::int64_t folder_id, const WatchOptions& options = {});

  // Tells each new change number of a mailbox (0: the user's own) from now on.
  MailboxWatch watch_mailbox(std::int64_t mailbox_id = 0, const CallOptions& options = {});

  // Brings a copy of a mailbox or folder up to date and, with `follow`, keeps it so: all that is there, or has changed
  // since the cursor of the request, and then what comes.
  SyncStream sync(v1::SyncMailboxRequest request, const CallOptions& options = {});

  // Tells a job as it is now, and after each change until its end, to a session that may administer.
  JobStream watch_job(v1::WatchJobRequest request, const CallOptions& options = {});

  // The session as it is now, with its token, which may be kept for resume. No server is asked.
  v1::Session session() const;

  // The session's present token.
  std::string token() const;

  // Why the session is over; nothing while it is not known to be.
  std::optional<Error> end_reason() const;

  // Gets a fresh token now. There is seldom a need: the session is renewed in the background. Where it cannot be
  // renewed any more and the password is known, the user is logged on again; otherwise the reason is SESSION_EXPIRED,
  // SESSION_REVOKED or INVALID_SESSION.
  void renew(const CallOptions& options = {});

  // Sets a new password. Other sessions of the account end; this client goes on under a new one. The reason is
  // AUTHENTICATION_FAILED for a wrong old password and WEAK_PASSWORD for a new one that is not taken. The call is not
  // sent again when its answer is lost.
  void change_password(const std::string& old_password, const std::string& new_password,
                       const CallOptions& options = {});

  // Ends the session at the server. The client must still be closed.
  void log_off(const CallOptions& options = {});

  // The latest write to a mailbox that this client has seen (0: the session's own mailbox). Calls carry it by
  // themselves, so that they see what this client has written; streams by the bare stubs take it in their requests.
  std::optional<v1::CommitToken> min_commit(std::int64_t mailbox_id = 0) const;

 private:
  explicit Client(std::shared_ptr<detail::Core> core);
  std::shared_ptr<detail::Core> core_;
};

}  // namespace restante
