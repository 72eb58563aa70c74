#include "restante/error.h"

#include <iterator>
#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace restante {

namespace {

constexpr char kDomain[] = "restante";
constexpr char kPrefix[] = "ERROR_REASON_";

// The reason's name without its prefix.
std::string short_name(v1::ErrorReason reason) {
  return v1::ErrorReason_Name(reason).substr(sizeof(kPrefix) - 1);
}

std::string sentence(const std::string& reason, grpc::StatusCode code, const std::string& message) {
  const std::string name = reason.empty() ? code_name(code) : reason;
  return "restante: " + name + (message.empty() ? "" : ": " + message);
}

}  // namespace

std::string code_name(grpc::StatusCode code) {
  static const char* const names[] = {"OK",
                                      "CANCELLED",
                                      "UNKNOWN",
                                      "INVALID_ARGUMENT",
                                      "DEADLINE_EXCEEDED",
                                      "NOT_FOUND",
                                      "ALREADY_EXISTS",
                                      "PERMISSION_DENIED",
                                      "RESOURCE_EXHAUSTED",
                                      "FAILED_PRECONDITION",
                                      "ABORTED",
                                      "OUT_OF_RANGE",
                                      "UNIMPLEMENTED",
                                      "INTERNAL",
                                      "UNAVAILABLE",
                                      "DATA_LOSS",
                                      "UNAUTHENTICATED"};
  const auto index = static_cast<std::size_t>(code);
  return index < std::size(names) ? names[index] : "UNKNOWN";
}

Error::Error(Details details)
    : std::runtime_error(sentence(details.reason_name, details.code, details.message)),
      details_(std::make_shared<const Details>(std::move(details))) {}

Error::Error(grpc::StatusCode code, const std::string& message) : Error([&] {
      Details details;
      details.code = code;
      details.message = message;
      return details;
    }()) {}

Error::Error(grpc::StatusCode code, v1::ErrorReason reason, const std::string& message) : Error([&] {
      Details details;
      details.code = code;
      details.reason = reason;
      details.reason_name = short_name(reason);
      details.message = message;
      return details;
    }()) {}

Error Error::from(const google::rpc::Status& status) {
  Details found;
  found.code = static_cast<grpc::StatusCode>(status.code());
  found.message = status.message();
  for (const auto& detail : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info) && info.domain() == kDomain) {
      found.reason_name = info.reason();
      if (!v1::ErrorReason_Parse(kPrefix + info.reason(), &found.reason)) {
        found.reason = v1::ERROR_REASON_UNSPECIFIED;  // newer than this version
      }
      found.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (detail.Is<google::rpc::RetryInfo>() && detail.UnpackTo(&retry)) {
      found.retry_delay = std::chrono::seconds(retry.retry_delay().seconds()) +
                          std::chrono::nanoseconds(retry.retry_delay().nanos());
    }
  }
  return Error(std::move(found));
}

Error Error::from(const grpc::Status& status) {
  google::rpc::Status whole;
  if (!status.error_details().empty() && whole.ParseFromString(status.error_details())) return from(whole);
  return Error(status.error_code(), status.error_message());
}

}  // namespace restante
