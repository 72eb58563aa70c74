// Does the commands of the judge with the SDK.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/channel.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "restante/client.h"

namespace conformance {

using Json = nlohmann::json;

// A stream of the SDK that is read in the background, and what has come of it.
class Stream;

// Keeps the clients and streams of the judge's names.
class Runner {
 public:
  explicit Runner(const Json& hello);
  ~Runner();

  // Does a command: an object with result, error or unsupported. What is no error of the SDK is a fault of this program
  // and goes through.
  Json answer(const Json& command);

 private:
  Json log_on(const Json& command);
  Json resume(const Json& command);
  Json session(const Json& command);
  Json renew(const Json& command);
  Json change_password(const Json& command);
  Json log_off(const Json& command);
  Json close(const Json& command);
  Json rpc(const Json& command);
  Json call(const Json& command);
  Json pages(const Json& command);
  Json execute(const Json& command);
  Json execute_once(const Json& command);
  Json upload(const Json& command);
  Json read(const Json& command);
  Json watch(const Json& command);
  Json sync(const Json& command);
  Json next(const Json& command);
  Json stop(const Json& command);

  Json opened(const Json& command, const std::function<restante::Client()>& open);
  restante::Client& client(const Json& command);
  // A connection for bare stubs, and the metadata of who calls.
  std::shared_ptr<grpc::Channel> caller(const Json& command, grpc::ClientContext& context);

  restante::Config config_;
  std::shared_ptr<grpc::Channel> core_, gateways_;
  std::map<std::string, std::unique_ptr<restante::Client>> clients_;
  std::map<std::string, std::unique_ptr<Stream>> streams_;
};

}  // namespace conformance
