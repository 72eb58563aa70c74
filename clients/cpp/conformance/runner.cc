#include "runner.h"

#include <absl/strings/escaping.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "restante/restante.h"
#include "restante/v1/batch.grpc.pb.h"

namespace conformance {

namespace pb = google::protobuf;
namespace v1 = restante::v1;

using Message = std::unique_ptr<pb::Message>;
using Milliseconds = std::chrono::milliseconds;

namespace {

constexpr int kTimeoutMilliseconds = 30'000;

std::string decoded(const std::string& text) {
  std::string octets;
  if (!absl::Base64Unescape(text, &octets)) throw std::invalid_argument("not base64: " + text);
  return octets;
}

std::int64_t integer(const Json& value) {
  return value.is_string() ? std::stoll(value.get<std::string>()) : value.get<std::int64_t>();
}

Milliseconds timeout_of(const Json& command) {
  return Milliseconds(command.value("timeout_milliseconds", kTimeoutMilliseconds));
}

restante::CallOptions options_of(const Json& command) {
  restante::CallOptions options;
  options.timeout = timeout_of(command);
  options.independent = command.value("independent", false);
  return options;
}

Json shown(const pb::Message& message) {
  std::string text;
  const auto status = pb::util::MessageToJsonString(message, &text);
  if (!status.ok()) throw std::runtime_error("cannot write " + message.GetTypeName() + ": " + status.ToString());
  return Json::parse(text);
}

template <class Kind>
void read_into(const Json& value, Kind* message) {
  const auto status = pb::util::JsonStringToMessage(value.dump(), message);
  if (!status.ok()) throw std::runtime_error("cannot read " + message->GetTypeName() + ": " + status.ToString());
}

Message made(const pb::Descriptor* type) {
  return Message(pb::MessageFactory::generated_factory()->GetPrototype(type)->New());
}

const pb::MethodDescriptor* rpc_of(const Json& command) {
  const auto name = command.at("method").get<std::string>();
  const auto slash = name.find('/');
  // That the contract is linked into this program is seen to by the table of methods.
  static_cast<void>(restante::Method::find(name));
  const auto* service = pb::DescriptorPool::generated_pool()->FindServiceByName("restante.v1." + name.substr(0, slash));
  const auto* rpc = service == nullptr ? nullptr : service->FindMethodByName(name.substr(slash + 1));
  if (rpc == nullptr) throw std::invalid_argument("there is no RPC " + name);
  return rpc;
}

Message request_of(const Json& command) {
  auto request = made(rpc_of(command)->input_type());
  read_into(command.at("request"), request.get());
  return request;
}

// An error as a program that uses the SDK sees it.
Json shown_error(const restante::Error& error) {
  Json found = {{"code", restante::code_name(error.code())},
                {"reason", error.reason_name()},
                {"metadata", error.metadata()},
                {"message", error.message()},
                {"violations", Json::array()},
                {"text", error.what()},
                {"type", "restante::Error"}};
  for (const restante::FieldViolation& each : error.violations()) {
    found["violations"].push_back({{"field", each.field}, {"problem", each.problem}});
  }
  if (const auto delay = error.retry_delay()) {
    found["retry_seconds"] = std::chrono::duration<double>(*delay).count();
  }
  return found;
}

Json outcome(const std::function<Message()>& get) {
  try {
    return {{"response", shown(*get())}};
  } catch (const restante::Error& error) {
    return {{"error", shown_error(error)}};
  }
}

grpc::ByteBuffer encoded(const pb::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

Message decoded(const grpc::ByteBuffer& octets, const pb::Descriptor* type) {
  grpc::Slice whole;
  auto message = made(type);
  if (!octets.DumpToSingleSlice(&whole).ok() ||
      !message->ParseFromArray(whole.begin(), static_cast<int>(whole.size()))) {
    throw std::runtime_error("cannot decode " + type->full_name());
  }
  return message;
}

// Waits until what was begun on a queue is done, and tells whether it went well.
bool done(grpc::CompletionQueue& queue) {
  void* tag = nullptr;
  bool ok = false;
  if (!queue.Next(&tag, &ok)) throw std::logic_error("the queue was shut down");
  return ok;
}

}  // namespace

// --- Streams ---

class Stream {
 public:
  // `read` gives one event after the other, and null at the end; `cancel` ends it.
  Stream(std::function<Json()> read, std::function<void()> cancel)
      : cancel_(std::move(cancel)), thread_([this, read = std::move(read)] { run(read); }) {}

  ~Stream() {
    cancel_();
    thread_.join();
  }

  // What came next.
  Json next(Milliseconds longest) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, longest, [this] { return !answers_.empty(); })) {
      return {{"result", {{"event", nullptr}}}};
    }
    Json answer = std::move(answers_.front());
    answers_.pop_front();
    return answer;
  }

 private:
  void run(const std::function<Json()>& read) {
    for (;;) {
      Json answer;
      bool last = false;
      try {
        auto event = read();
        last = event.is_null();
        answer["result"] = last ? Json{{"end", true}} : Json{{"event", std::move(event)}};
      } catch (const restante::Error& error) {
        answer["error"] = shown_error(error);
        last = true;
      }
      const std::lock_guard lock(mutex_);
      answers_.push_back(std::move(answer));
      changed_.notify_all();
      if (last) return;
    }
  }

  std::function<void()> cancel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Json> answers_;
  std::thread thread_;
};

// --- The runner ---

Runner::Runner(const Json& hello) {
  config_.address = hello.at("target");
  config_.root_certificates = restante::read_pem(hello.at("ca"));
  core_ = config_.dial();
  restante::Config gateways = config_;
  gateways.address = hello.at("gateway_target");
  gateways_ = gateways.dial();
}

Runner::~Runner() { streams_.clear(); }

Json Runner::answer(const Json& command) {
  static const std::map<std::string, Json (Runner::*)(const Json&)> commands = {
      {"log_on", &Runner::log_on},
      {"resume", &Runner::resume},
      {"session", &Runner::session},
      {"renew", &Runner::renew},
      {"change_password", &Runner::change_password},
      {"log_off", &Runner::log_off},
      {"close", &Runner::close},
      {"rpc", &Runner::rpc},
      {"call", &Runner::call},
      {"pages", &Runner::pages},
      {"execute", &Runner::execute},
      {"execute_once", &Runner::execute_once},
      {"upload", &Runner::upload},
      {"read", &Runner::read},
      {"watch", &Runner::watch},
      {"sync", &Runner::sync},
      {"stop", &Runner::stop},
  };
  const auto name = command.at("do").get<std::string>();
  if (name == "next") return next(command);
  const auto found = commands.find(name);
  if (found == commands.end()) return {{"unsupported", "there is no command " + name}};
  try {
    return {{"result", (this->*found->second)(command)}};
  } catch (const restante::Error& error) {
    return {{"error", shown_error(error)}};
  }
}

// --- The session layer ---

restante::Client& Runner::client(const Json& command) {
  const Json& named = command.contains("as") ? command.at("as") : command;
  return *clients_.at(named.at("session"));
}

Json Runner::opened(const Json& command, const std::function<restante::Client()>& open) {
  const auto name = command.at("session").get<std::string>();
  clients_.erase(name);
  clients_[name] = std::make_unique<restante::Client>(open());
  return session(command);
}

Json Runner::log_on(const Json& command) {
  return opened(command, [&] {
    return restante::Client::log_on(config_, command.at("user"), command.at("password"), options_of(command));
  });
}

Json Runner::resume(const Json& command) {
  return opened(command, [&] {
    return restante::Client::resume(config_, decoded(command.at("token").get<std::string>()), options_of(command));
  });
}

Json Runner::session(const Json& command) { return {{"session", shown(client(command).session())}}; }

Json Runner::renew(const Json& command) {
  client(command).renew(options_of(command));
  return session(command);
}

Json Runner::change_password(const Json& command) {
  client(command).change_password(command.at("old"), command.at("new"), options_of(command));
  return session(command);
}

Json Runner::log_off(const Json& command) {
  client(command).log_off(options_of(command));
  return Json::object();
}

Json Runner::close(const Json& command) {
  clients_.erase(command.at("session").get<std::string>());
  return Json::object();
}

// --- Calls ---

std::shared_ptr<grpc::Channel> Runner::caller(const Json& command, grpc::ClientContext& context) {
  const Json as = command.value("as", Json::object());
  if (as.contains("identity")) {
    context.AddMetadata("restante-identity", as.at("identity").get<std::string>());
    context.AddMetadata("restante-secret", as.at("secret").get<std::string>());
    return gateways_;
  }
  if (as.contains("token")) {
    restante::authorize(context, decoded(as.at("token").get<std::string>()));
  } else if (as.contains("session")) {
    restante::authorize(context, client(command).token());
  }
  return core_;
}

Json Runner::rpc(const Json& command) {
  const auto* called = rpc_of(command);
  const auto request = request_of(command);
  grpc::ClientContext context;
  const auto channel = caller(command, context);
  context.set_deadline(std::chrono::system_clock::now() + timeout_of(command));
  const std::optional<int> take =
      command.contains("take") ? std::optional(command.at("take").get<int>()) : std::nullopt;

  std::optional<std::thread> cancelling;
  restante::Cancellation over;
  if (command.contains("cancel_after_milliseconds")) {
    const Milliseconds after(command.at("cancel_after_milliseconds").get<int>());
    cancelling.emplace([&context, over, after] {
      if (!over.wait_for(after)) context.TryCancel();
    });
  }

  // A generic stub, since any RPC may be asked for; it does what a generated one does, and no more.
  grpc::CompletionQueue queue;
  const auto call = grpc::GenericStub(channel).PrepareCall(
      &context, "/restante.v1." + command.at("method").get<std::string>(), &queue);
  call->StartCall(nullptr);
  Json responses = Json::array();
  bool complete = false;
  bool ok = done(queue);
  if (ok) {
    call->WriteLast(encoded(*request), {}, nullptr);
    done(queue);  // where it fails, reading does, too
    while (!take || static_cast<int>(responses.size()) < *take) {
      grpc::ByteBuffer octets;
      call->Read(&octets, nullptr);
      if (!done(queue)) {
        complete = true;
        break;
      }
      responses.push_back(shown(*decoded(octets, called->output_type())));
    }
  }
  if (ok && !complete) context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  done(queue);
  queue.Shutdown();
  if (cancelling) {
    over.cancel();
    cancelling->join();
  }
  if ((!ok || complete) && !status.ok()) throw restante::Error::from(status);
  if (called->server_streaming()) return {{"responses", responses}, {"complete", complete}};
  return {{"response", responses.at(0)}};
}

Json Runner::call(const Json& command) {
  const auto request = request_of(command);
  const auto response = made(rpc_of(command)->output_type());
  client(command).call_any(*request, response.get(), options_of(command));
  return {{"response", shown(*response)}};
}

Json Runner::pages(const Json& command) {
  Json responses = Json::array();
  auto pages = client(command).pages_any(*request_of(command));
  const auto page = made(rpc_of(command)->output_type());
  while (pages.next(page.get())) responses.push_back(shown(*page));
  return {{"responses", responses}};
}

Json Runner::execute(const Json& command) {
  std::vector<Message> requests;
  for (const Json& operation : command.at("operations")) requests.push_back(request_of(operation));
  std::vector<restante::AnyOperation> started;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    started.push_back(client(command).start_any(*requests[i], options_of(command.at("operations").at(i))));
  }
  Json outcomes = Json::array();
  for (std::size_t i = 0; i < started.size(); ++i) {
    outcomes.push_back(outcome([&] {
      auto response = made(rpc_of(command.at("operations").at(i))->output_type());
      started[i].get(response.get());
      return response;
    }));
  }
  return {{"outcomes", outcomes}};
}

Json Runner::execute_once(const Json& command) {
  v1::ExecuteOnceRequest request;
  const Json& operations = command.at("operations");
  for (std::size_t i = 0; i < operations.size(); ++i) {
    auto* operation = request.add_operations();
    operation->set_operation_id(static_cast<std::int64_t>(i) + 1);
    operation->set_timeout_milliseconds(operations.at(i).value("timeout_milliseconds", 0));
    operation->set_independent(operations.at(i).value("independent", false));
    if (command.contains("as") && command.at("as").contains("session")) {
      operation->set_session_token(client(command).token());
    }
    const auto asked = request_of(operations.at(i));
    const auto& method = restante::Method::of(asked->GetDescriptor());
    const auto* field = v1::Operation::descriptor()->FindFieldByNumber(method.operation_field);
    operation->GetReflection()->MutableMessage(operation, field)->CopyFrom(*asked);
  }
  grpc::ClientContext context;
  const auto stub = v1::BatchService::NewStub(caller(command, context));
  context.set_deadline(std::chrono::system_clock::now() + timeout_of(command));
  v1::ExecuteOnceResponse response;
  const auto status = stub->ExecuteOnce(&context, request, &response);
  if (!status.ok()) throw restante::Error::from(status);
  Json outcomes = Json::array();
  for (int i = 0; i < response.results_size(); ++i) {
    const auto& result = response.results(i);
    outcomes.push_back(outcome([&] {
      if (result.has_status()) throw restante::Error::from(result.status());
      const auto& method = restante::Method::of(rpc_of(operations.at(static_cast<std::size_t>(i)))->input_type());
      const auto* field = v1::OperationResult::descriptor()->FindFieldByNumber(method.result_field);
      auto found = made(method.response);
      found->CopyFrom(result.GetReflection()->GetMessage(result, field));
      return found;
    }));
  }
  return {{"outcomes", outcomes}};
}

// --- Octets ---

Json Runner::upload(const Json& command) {
  v1::UploadKind kind = v1::UPLOAD_KIND_UNSPECIFIED;
  if (!v1::UploadKind_Parse(command.at("kind").get<std::string>(), &kind)) throw std::invalid_argument("kind");
  return {{"response", shown(client(command).upload_file(kind, command.at("path")))}};
}

Json Runner::read(const Json& command) {
  std::optional<v1::Section> section;
  if (command.contains("section")) read_into(command.at("section"), &section.emplace());
  const auto octets = client(command).read_content(integer(command.at("message_id")), section);
  return {{"octets", absl::Base64Escape(octets)}};
}

// --- Streams ---

Json Runner::watch(const Json& command) {
  restante::WatchOptions options;
  options.snapshot = true;
  const auto folder_id = integer(command.at("folder_id"));
  auto watch = std::make_shared<restante::FolderWatch>(client(command).watch(folder_id, options));
  const auto next = [watch]() -> Json {
    const auto event = watch->next();
    return {{"fresh", event->fresh}, {"changes", shown(event->changes)}};
  };
  streams_[command.at("stream")] = std::make_unique<Stream>(next, [watch] { watch->cancel(); });
  return Json::object();
}

Json Runner::sync(const Json& command) {
  v1::SyncMailboxRequest request;
  if (command.contains("folder_id")) request.set_folder_id(integer(command.at("folder_id")));
  if (command.contains("cursor")) request.set_cursor(decoded(command.at("cursor").get<std::string>()));
  request.set_follow(command.at("follow"));
  for (const Json& name : command.value("columns", Json::array())) {
    v1::MessageColumn column = v1::MESSAGE_COLUMN_UNSPECIFIED;
    if (!v1::MessageColumn_Parse(name.get<std::string>(), &column)) throw std::invalid_argument("column");
    request.add_columns(column);
  }
  auto stream = std::make_shared<restante::SyncStream>(client(command).sync(std::move(request)));
  const auto next = [stream]() -> Json {
    const auto change = stream->next();
    return change ? shown(*change) : Json();
  };
  streams_[command.at("stream")] = std::make_unique<Stream>(next, [stream] { stream->cancel(); });
  return Json::object();
}

Json Runner::next(const Json& command) {
  return streams_.at(command.at("stream"))->next(Milliseconds(command.at("timeout_milliseconds").get<int>()));
}

Json Runner::stop(const Json& command) {
  streams_.erase(command.at("stream").get<std::string>());
  return Json::object();
}

}  // namespace conformance
