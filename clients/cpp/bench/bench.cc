// Reads mail from a running server, by the SDK or by the bare generated stubs, and prints what a message costs this
// process: see tests/bench/sdk.py for the loads.
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "restante/restante.h"
#include "restante/v1/batch.grpc.pb.h"
#include "restante/v1/message.grpc.pb.h"

namespace {

namespace v1 = restante::v1;
using Clock = std::chrono::steady_clock;

constexpr int kBatchMessages = 20;     // of one BatchGetMessages in the load batch_get
constexpr int kWaitingOfExecute = 32;  // operations that wait together in the load execute, each for one message
constexpr int kOperationMilliseconds = 30'000;

// Reads some messages, and tells how many.
using Load = std::function<int()>;

// Throws for a call of a bare stub that failed.
void expect(const grpc::Status& status) {
  if (!status.ok()) throw restante::Error::from(status);
}

template <class Request>
void add_columns(Request& request) {
  for (const auto column : {v1::MESSAGE_COLUMN_FLAGS, v1::MESSAGE_COLUMN_SIZE, v1::MESSAGE_COLUMN_SUMMARY}) {
    request.add_columns(column);
  }
}

// Gives the requests of the loads, whose messages go round and round.
class Turns {
 public:
  explicit Turns(std::vector<std::int64_t> ids) : ids_(std::move(ids)) {}

  v1::BatchGetMessagesRequest batch(int count) {
    v1::BatchGetMessagesRequest request;
    add_columns(request);
    const int most = std::min(count, static_cast<int>(ids_.size()));
    for (int i = 0; i < most; ++i) {
      request.mutable_messages()->mutable_ids()->add_message_ids(ids_[next_]);
      next_ = (next_ + 1) % ids_.size();
    }
    return request;
  }

  v1::StreamMessagesRequest stream() const {
    v1::StreamMessagesRequest request;
    add_columns(request);
    request.add_sections()->set_kind(v1::SECTION_KIND_WHOLE);
    const auto most = static_cast<std::ptrdiff_t>(std::min<std::size_t>(1'000, ids_.size()));
    request.mutable_messages()->mutable_ids()->mutable_message_ids()->Add(ids_.begin(), ids_.begin() + most);
    return request;
  }

 private:
  std::vector<std::int64_t> ids_;
  std::size_t next_ = 0;
};

Load batch_get_by_sdk(restante::Client& client, Turns& turns) {
  return [&] { return client.call(turns.batch(kBatchMessages)).rows().message_ids_size(); };
}

Load batch_get_by_stub(const std::shared_ptr<grpc::Channel>& bare, const std::string& token, Turns& turns) {
  return [stub = std::shared_ptr(v1::MessageService::NewStub(bare)), token, &turns] {
    grpc::ClientContext context;
    restante::authorize(context, token);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(kOperationMilliseconds));
    v1::BatchGetMessagesResponse answer;
    expect(stub->BatchGetMessages(&context, turns.batch(kBatchMessages), &answer));
    return answer.rows().message_ids_size();
  };
}

Load execute_by_sdk(restante::Client& client, Turns& turns) {
  return [&] {
    restante::CallOptions options;
    options.independent = true;
    std::vector<restante::Operation<v1::BatchGetMessagesResponse>> operations;
    operations.reserve(kWaitingOfExecute);
    for (int i = 0; i < kWaitingOfExecute; ++i) operations.push_back(client.start(turns.batch(1), options));
    int messages = 0;
    for (const auto& operation : operations) messages += operation.get().rows().message_ids_size();
    return messages;
  };
}

// A bare Execute stream, ended with the program.
struct BareExecute {
  grpc::ClientContext context;
  std::unique_ptr<v1::BatchService::Stub> stub;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ExecuteRequest, v1::ExecuteResponse>> stream;
  std::int64_t last_id = 0;

  ~BareExecute() {
    stream->WritesDone();
    context.TryCancel();
    static_cast<void>(stream->Finish());
  }
};

Load execute_by_stub(const std::shared_ptr<grpc::Channel>& bare, const std::string& token, Turns& turns) {
  const auto execute = std::make_shared<BareExecute>();
  execute->stub = v1::BatchService::NewStub(bare);
  execute->stream = execute->stub->Execute(&execute->context);
  return [execute, token, &turns] {
    v1::ExecuteRequest request;
    for (int i = 0; i < kWaitingOfExecute; ++i) {
      auto* operation = request.add_operations();
      operation->set_operation_id(++execute->last_id);
      operation->set_session_token(token);
      operation->set_independent(true);
      operation->set_timeout_milliseconds(kOperationMilliseconds);
      *operation->mutable_batch_get_messages() = turns.batch(1);
    }
    if (!execute->stream->Write(request)) throw std::runtime_error("the stream has ended");
    int messages = 0;
    for (int answered = 0; answered < kWaitingOfExecute;) {
      v1::ExecuteResponse response;
      if (!execute->stream->Read(&response)) throw std::runtime_error("the stream has ended");
      for (const auto& result : response.results()) {
        if (result.has_status()) throw restante::Error::from(result.status());
        messages += result.batch_get_messages().rows().message_ids_size();
        ++answered;
      }
    }
    return messages;
  };
}

Load stream_by_sdk(restante::Client& client, Turns& turns) {
  return [&] {
    int messages = 0;
    for (const auto& batch : client.stream_messages(turns.stream())) messages += batch.message_ids_size();
    return messages;
  };
}

Load stream_by_stub(const std::shared_ptr<grpc::Channel>& bare, const std::string& token, Turns& turns) {
  return [stub = std::shared_ptr(v1::MessageService::NewStub(bare)), token, &turns] {
    grpc::ClientContext context;
    restante::authorize(context, token);
    const auto reader = stub->StreamMessages(&context, turns.stream());
    int messages = 0;
    v1::StreamMessagesResponse response;
    while (reader->Read(&response)) messages += response.rows().message_ids_size();
    expect(reader->Finish());
    return messages;
  };
}

// The ids of the messages in the Inbox.
std::vector<std::int64_t> inbox(restante::Client& client) {
  v1::GetFolderRequest wanted;
  wanted.set_role(v1::FOLDER_ROLE_INBOX);
  v1::QueryMessagesRequest query;
  query.set_folder_id(client.call(wanted).folder().folder_id());
  query.set_page_size(1'000);
  std::vector<std::int64_t> ids;
  for (const auto& page : client.pages(query)) {
    ids.insert(ids.end(), page.rows().message_ids().begin(), page.rows().message_ids().end());
  }
  return ids;
}

int during(const Load& load, double seconds) {
  const auto until = Clock::now() + std::chrono::duration<double>(seconds);
  int messages = 0;
  while (Clock::now() < until) messages += load();
  return messages;
}

// What this process has used.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::map<std::string, std::string> options_of(int count, char** words) {
  std::map<std::string, std::string> options = {{"--mode", "sdk"}, {"--load", "batch_get"}, {"--seconds", "5"}};
  const std::string usage =
      "usage: bench --target HOST:PORT --ca FILE --user U --password P [--seconds N] [--mode sdk|bare] "
      "[--load batch_get|execute|stream]";
  for (int i = 1; i < count; i += 2) {
    static const std::vector<std::string> known = {"--target",  "--ca",   "--user", "--password",
                                                   "--seconds", "--mode", "--load"};
    const bool good = i + 1 < count && std::find(known.begin(), known.end(), words[i]) != known.end();
    if (!good) throw std::invalid_argument(usage);
    options[words[i]] = words[i + 1];
  }
  for (const auto* needed : {"--target", "--ca", "--user", "--password"}) {
    if (options.count(needed) == 0) throw std::invalid_argument(usage);
  }
  return options;
}

void run(const std::map<std::string, std::string>& options) {
  restante::Config config;
  config.address = options.at("--target");
  config.root_certificates = restante::read_pem(options.at("--ca"));
  auto client = restante::Client::log_on(config, options.at("--user"), options.at("--password"));
  Turns turns(inbox(client));
  if (turns.stream().messages().ids().message_ids().empty()) throw std::runtime_error("the Inbox is empty");
  const auto bare = config.dial();
  const auto token = client.token();

  const std::map<std::string, std::function<Load()>> loads = {
      {"sdk batch_get", [&] { return batch_get_by_sdk(client, turns); }},
      {"bare batch_get", [&] { return batch_get_by_stub(bare, token, turns); }},
      {"sdk execute", [&] { return execute_by_sdk(client, turns); }},
      {"bare execute", [&] { return execute_by_stub(bare, token, turns); }},
      {"sdk stream", [&] { return stream_by_sdk(client, turns); }},
      {"bare stream", [&] { return stream_by_stub(bare, token, turns); }},
  };
  const auto chosen = loads.find(options.at("--mode") + " " + options.at("--load"));
  if (chosen == loads.end()) throw std::invalid_argument("there is no such load in such a mode");
  const Load load = chosen->second();

  const double seconds = std::stod(options.at("--seconds"));
  during(load, seconds / 5);  // warm-up
  const double cpu = cpu_seconds();
  const auto began = Clock::now();
  const int messages = during(load, seconds);
  const double used = cpu_seconds() - cpu;
  const nlohmann::json line = {
      {"language", "C++"},
      {"mode", options.at("--mode")},
      {"load", options.at("--load")},
      {"messages", messages},
      {"seconds", std::chrono::duration<double>(Clock::now() - began).count()},
      {"cpu_seconds", used},
  };
  std::cout << line.dump() << std::endl;
}

}  // namespace

int main(int count, char** words) {
  try {
    run(options_of(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
