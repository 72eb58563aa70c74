#include "restante/config.h"

#include <absl/strings/escaping.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "restante/version.h"

namespace restante {

namespace {

constexpr int kMaxReceivedOctets = 4 << 20;

}  // namespace

std::string read_pem(const std::string& file) {
  std::ifstream opened(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(opened), {}};
  if (!opened.is_open() || opened.bad()) throw std::ios_base::failure("cannot read " + file);
  if (text.find("-----BEGIN CERTIFICATE-----") == std::string::npos) {
    throw std::invalid_argument(file + " has no certificate");
  }
  return text;
}

std::shared_ptr<grpc::Channel> Config::dial() const {
  grpc::SslCredentialsOptions trust;
  trust.pem_root_certs = root_certificates;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceivedOctets);
  arguments.SetUserAgentPrefix("restante-cpp/" RESTANTE_VERSION);
  // A connection of its own: channels would share one otherwise, and a fresh one could not leave a server that drains.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // that is for this library to decide
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);  // an attempt may take so long
  if (channel_arguments) channel_arguments(arguments);
  return grpc::CreateCustomChannel(address, grpc::SslCredentials(trust), arguments);
}

void authorize(grpc::ClientContext& context, const std::string& token) {
  if (token.empty()) return;
  std::string encoded = absl::WebSafeBase64Escape(token);  // without padding
  context.AddMetadata("authorization", "Bearer " + encoded);
}

}  // namespace restante
