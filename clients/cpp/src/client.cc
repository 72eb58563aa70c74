#include "restante/client.h"

#include <utility>

#include "core.h"
#include "impl.h"
#include "restante/parts.h"

namespace restante {

Client::Client(std::shared_ptr<detail::Core> core) : core_(std::move(core)) {}
Client::Client(Client&&) noexcept = default;

Client& Client::operator=(Client&& other) noexcept {
  if (this != &other) {
    close();
    core_ = std::move(other.core_);
  }
  return *this;
}

Client::~Client() { close(); }

namespace {

// The error of a first call: one that says where the server was looked for, if it could not be reached.
Error unreached(detail::Core& core, const Error& error) {
  const auto trouble = core.operations.trouble();
  const Error& cause = error.code() == grpc::StatusCode::DEADLINE_EXCEEDED && trouble ? *trouble : error;
  if (cause.code() != grpc::StatusCode::UNAVAILABLE || !cause.reason_name().empty()) return error;
  return Error(grpc::StatusCode::UNAVAILABLE, "Cannot reach " + core.config.address + ": " + cause.message());
}

}  // namespace

Client Client::log_on(Config config, const std::string& user, const std::string& password,
                      const CallOptions& options) {
  Client client(std::make_shared<detail::Core>(std::move(config)));
  try {
    client.core_->authenticate(user, password, options);
  } catch (const Error& error) {
    throw unreached(*client.core_, error);
  }
  if (!client.core_->config.forget_password) client.core_->keep_password(password);
  client.core_->begin_renewing();
  return client;
}

Client Client::resume(Config config, const std::string& token, const CallOptions& options) {
  Client client(std::make_shared<detail::Core>(std::move(config)));
  try {
    client.core_->resume(token, options);
  } catch (const Error& error) {
    throw unreached(*client.core_, error);
  }
  client.core_->begin_renewing();
  return client;
}

void Client::close() {
  if (core_) core_->close();  // nullptr after a move
}

void Client::call_any(const google::protobuf::Message& request, google::protobuf::Message* response,
                      const CallOptions& options) {
  core_->call(request, *response, options);
}

AnyOperation Client::start_any(const google::protobuf::Message& request, const CallOptions& options) {
  return AnyOperation(core_, core_->start(request, options), options.cancellation);
}

AnyPages Client::pages_any(const google::protobuf::Message& request, const CallOptions& options) {
  return AnyPages(core_, request, options);
}

Content Client::open_content(std::int64_t message_id, const std::optional<v1::Section>& section,
                             std::int64_t mailbox_id, const CallOptions& options) {
  v1::ReadContentRequest request;
  request.set_mailbox_id(mailbox_id);
  request.set_message_id(message_id);
  request.mutable_section()->set_kind(v1::SECTION_KIND_WHOLE);
  if (section) *request.mutable_section() = *section;
  return Content(std::make_unique<Content::Impl>(core_, std::move(request), options));
}

std::string Client::read_content(std::int64_t message_id, const std::optional<v1::Section>& section,
                                 std::int64_t mailbox_id, const CallOptions& options) {
  auto content = open_content(message_id, section, mailbox_id, options);
  std::string octets;
  while (const auto chunk = content.next()) octets += *chunk;
  return octets;
}

v1::MessagePart Client::parts(std::int64_t message_id, std::int64_t mailbox_id, const CallOptions& options) {
  v1::BatchGetMessagesRequest request;
  request.set_mailbox_id(mailbox_id);
  request.mutable_messages()->mutable_ids()->add_message_ids(message_id);
  request.add_columns(v1::MESSAGE_COLUMN_PARTS);
  const auto response = call(request, options);
  if (response.rows().parts().empty()) {
    throw Error(grpc::StatusCode::NOT_FOUND, v1::ERROR_REASON_MESSAGE_NOT_FOUND,
                "The message does not exist (message_id " + std::to_string(message_id) + ").",
                {{"message_id", std::to_string(message_id)}});
  }
  return response.rows().parts(0);
}

Content Client::open_part(std::int64_t message_id, const v1::MessagePart& part, std::int64_t mailbox_id,
                          const CallOptions& options) {
  return open_content(message_id, section_of(part, v1::SECTION_DECODING_TRANSFER), mailbox_id, options);
}

std::string Client::read_part(std::int64_t message_id, const v1::MessagePart& part, std::int64_t mailbox_id,
                              const CallOptions& options) {
  return read_content(message_id, section_of(part, v1::SECTION_DECODING_TRANSFER), mailbox_id, options);
}

std::string Client::read_text(std::int64_t message_id, const v1::MessagePart& part, std::int64_t mailbox_id,
                              const CallOptions& options) {
  const std::string octets =
      read_content(message_id, section_of(part, v1::SECTION_DECODING_TEXT), mailbox_id, options);
  std::string text;
  for (std::size_t i = 0; i < octets.size(); ++i) {
    if (octets[i] == '\r' && i + 1 < octets.size() && octets[i + 1] == '\n') continue;
    text += octets[i];
  }
  return text;
}

MessageStream Client::stream_messages(v1::StreamMessagesRequest request, const CallOptions& options) {
  if (!request.has_min_commit()) {
    if (const auto commit = min_commit(request.mailbox_id())) *request.mutable_min_commit() = *commit;
  }
  return MessageStream(std::make_unique<MessageStream::Impl>(core_, std::move(request), options));
}

FolderWatch Client::watch(std::int64_t folder_id, const WatchOptions& options) {
  return FolderWatch(std::make_unique<FolderWatch::Impl>(core_, folder_id, options));
}

MailboxWatch Client::watch_mailbox(std::int64_t mailbox_id, const CallOptions& options) {
  return MailboxWatch(std::make_unique<MailboxWatch::Impl>(core_, mailbox_id, options));
}

SyncStream Client::sync(v1::SyncMailboxRequest request, const CallOptions& options) {
  return SyncStream(std::make_unique<SyncStream::Impl>(core_, std::move(request), options));
}

JobStream Client::watch_job(v1::WatchJobRequest request, const CallOptions& options) {
  return JobStream(std::make_unique<JobStream::Impl>(core_, std::move(request), options));
}

v1::Session Client::session() const { return core_->session(); }
std::string Client::token() const { return core_->token(); }
std::optional<Error> Client::end_reason() const { return core_->end_reason(); }
void Client::renew(const CallOptions& options) { core_->renew(core_->token(), options); }

void Client::change_password(const std::string& old_password, const std::string& new_password,
                             const CallOptions& options) {
  core_->change_password(old_password, new_password, options);
}

void Client::log_off(const CallOptions& options) { core_->log_off(options); }

std::optional<v1::CommitToken> Client::min_commit(std::int64_t mailbox_id) const {
  return core_->min_commit(mailbox_id);
}

}  // namespace restante
