#include "repeatable.h"

#include "restante/v1/session.pb.h"
#include "retry.h"

namespace restante::detail {

bool may_repeat(const Method& method, const google::protobuf::Message& request) {
  if (method.request == v1::ChangePasswordRequest::descriptor()) return false;
  if (method.request != v1::AuthenticateRequest::descriptor()) return true;
  const auto* step = dynamic_cast<const v1::AuthenticateRequest*>(&request);
  return step != nullptr && step->exchange().empty();
}

bool should_repeat(const Method& method, const google::protobuf::Message& request, const Error& error) {
  return (is_temporary(error) || error.reason() == v1::ERROR_REASON_TOO_MANY_OPERATIONS) &&
         may_repeat(method, request);
}

}  // namespace restante::detail
