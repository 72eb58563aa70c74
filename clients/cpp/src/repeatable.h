// What may be sent twice. Pure.
#pragma once

#include <google/protobuf/message.h>

#include "restante/error.h"
#include "restante/method.h"

namespace restante::detail {

// Whether a call whose answer was lost may be sent again. Whatever must not happen twice carries a request_id; what
// remains is a later step of a SASL exchange, which is good once, and a change of password, which would be answered by
// a complaint about the old one.
bool may_repeat(const Method& method, const google::protobuf::Message& request);

// Whether a call that failed so may succeed a little later, and do no harm.
bool should_repeat(const Method& method, const google::protobuf::Message& request, const Error& error);

}  // namespace restante::detail
