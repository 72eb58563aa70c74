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

// The bad fields by name. It is empty where the only one is the reason's, which the message names.
std::string bad_fields(const std::vector<FieldViolation>& violations,
                       const std::map<std::string, std::string>& metadata) {
  if (violations.empty()) return "";
  const auto named = metadata.find("field");
  if (violations.size() == 1 && named != metadata.end() && named->second == violations.front().field) return "";
  std::string shown;
  for (const FieldViolation& each : violations) {
    shown += (shown.empty() ? " Bad fields: " : "; ") + each.field + " (" + each.problem + ")";
  }
  return shown + ".";
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

std::string Error::sentence(const Details& details) {
  const std::string name = details.reason_name.empty() ? code_name(details.code) : details.reason_name;
  return "restante: " + name + (details.message.empty() ? "" : ": " + details.message) +
         bad_fields(details.violations, details.metadata);
}

Error::Error(Details details)
    : std::runtime_error(sentence(details)),
      details_(std::make_shared<const Details>(std::move(details))) {}

Error::Error(grpc::StatusCode code, const std::string& message) : Error([&] {
      Details details;
      details.code = code;
      details.message = message;
      return details;
    }()) {}

Error::Error(grpc::StatusCode code, v1::ErrorReason reason, const std::string& message,
             std::map<std::string, std::string> metadata) : Error([&] {
      Details details;
      details.metadata = std::move(metadata);
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
    google::rpc::BadRequest bad;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info) && info.domain() == kDomain) {
      found.reason_name = info.reason();
      if (!v1::ErrorReason_Parse(kPrefix + info.reason(), &found.reason)) {
        found.reason = v1::ERROR_REASON_UNSPECIFIED;  // newer than this version
      }
      found.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (detail.Is<google::rpc::RetryInfo>() && detail.UnpackTo(&retry)) {
      found.retry_delay = std::chrono::seconds(retry.retry_delay().seconds()) +
                          std::chrono::nanoseconds(retry.retry_delay().nanos());
    } else if (detail.Is<google::rpc::BadRequest>() && detail.UnpackTo(&bad)) {
      for (const auto& each : bad.field_violations()) found.violations.push_back({each.field(), each.description()});
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
