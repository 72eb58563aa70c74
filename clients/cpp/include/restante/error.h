// What went wrong, as every call of this library throws it.
#pragma once

#include <grpcpp/support/status.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "restante/v1/errors.pb.h"

namespace google::rpc {
class Status;
}

namespace restante {

// The name of a status code, such as "NOT_FOUND".
std::string code_name(grpc::StatusCode code);

// One bad field of a refused request.
struct FieldViolation {
  std::string field;    // its path in the request, such as "draft.attachments"
  std::string problem;  // what is wrong with its value
};

// Thrown by every call that fails. what() names the reason, or the code, has the message, and names the bad fields that
// the message does not.
class Error : public std::runtime_error {
 public:
  // An error of this side's own, without a reason.
  Error(grpc::StatusCode code, const std::string& message);

  // An error with a reason, and the facts that the reason declares.
  Error(grpc::StatusCode code, v1::ErrorReason reason, const std::string& message,
        std::map<std::string, std::string> metadata = {});

  // What a generated stub returned; the status must not be OK.
  static Error from(const grpc::Status& status);

  // The status of one result of ExecuteOnce; it must not be OK.
  static Error from(const google::rpc::Status& status);

  // The gRPC status code.
  grpc::StatusCode code() const noexcept { return details_->code; }

  // The contract's reason, such as v1::ERROR_REASON_FOLDER_NOT_FOUND. It is v1::ERROR_REASON_UNSPECIFIED where the
  // failure was not the server's (a connection that was lost, a deadline that passed, a call that was cancelled here),
  // and where this version does not know the reason: see reason_name.
  v1::ErrorReason reason() const noexcept { return details_->reason; }

  // The reason's name without its prefix, such as "FOLDER_NOT_FOUND"; empty where there is none.
  const std::string& reason_name() const noexcept { return details_->reason_name; }

  // The facts that the reason declares, such as "folder_id".
  const std::map<std::string, std::string>& metadata() const noexcept { return details_->metadata; }

  // A sentence for people.
  const std::string& message() const noexcept { return details_->message; }

  // How long to wait before another attempt, where the server says so.
  std::optional<std::chrono::nanoseconds> retry_delay() const noexcept { return details_->retry_delay; }

  // All bad fields of a refused request, the reason's field first; empty where no field is at fault.
  const std::vector<FieldViolation>& violations() const noexcept { return details_->violations; }

 private:
  struct Details {
    grpc::StatusCode code = grpc::StatusCode::UNKNOWN;
    v1::ErrorReason reason = v1::ERROR_REASON_UNSPECIFIED;
    std::string reason_name;
    std::map<std::string, std::string> metadata;
    std::string message;
    std::optional<std::chrono::nanoseconds> retry_delay;
    std::vector<FieldViolation> violations;
  };

  static std::string sentence(const Details& details);

  explicit Error(Details details);

  std::shared_ptr<const Details> details_;  // shared, so that copying cannot throw
};

}  // namespace restante
