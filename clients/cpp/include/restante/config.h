// Where the server is, and how a client behaves.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "restante/error.h"
#include "restante/v1/session.pb.h"

namespace grpc {
class Channel;
class ChannelArguments;
class ClientContext;
}  // namespace grpc

namespace restante {

// The contents of a PEM file. Throws std::ios_base::failure when it cannot be read, and std::invalid_argument when it
// has no certificate.
std::string read_pem(const std::string& file);

// Only `address` is needed.
struct Config {
  // "HOST:PORT", or whatever else gRPC's resolvers take.
  std::string address;

  // Certificates to trust, and no others, in PEM: see read_pem. Empty: the system's. The connection is always
  // encrypted and the server's certificate always verified.
  std::string root_certificates;

  // The deadline of a call, retries included, that has none of its own. It is also how long a stream that breaks is
  // tried again in vain before it fails.
  std::chrono::milliseconds timeout = std::chrono::seconds(30);

  // How long operations wait for a server that cannot be reached before they fail as UNAVAILABLE, and may be tried
  // again.
  std::chrono::milliseconds patience = std::chrono::seconds(5);

  // The session ends where it cannot be renewed any more, after 24 hours at the latest. Otherwise the password is kept
  // in memory and begins the next session then.
  bool forget_password = false;

  // Is told of each new session token, by one thread at a time. It must not block, throw or close the client.
  std::function<void(const v1::Session&)> on_session;

  // Is told, once, why the session is over, except when the client is closed. It must not block, throw or close the
  // client.
  std::function<void(const Error&)> on_ended;

  // Changes gRPC's channel arguments, such as the name to expect in the server's certificate.
  std::function<void(grpc::ChannelArguments&)> channel_arguments;

  // Opens a connection as clients have it, for programs that use the generated stubs (restante/v1/*.grpc.pb.h) by
  // themselves. There is nothing to wait for until the first call.
  std::shared_ptr<grpc::Channel> dial() const;
};

// Adds a session token to a call that is made by a generated stub.
void authorize(grpc::ClientContext& context, const std::string& token);

}  // namespace restante
