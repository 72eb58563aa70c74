#include "restante/method.h"

#include <google/protobuf/descriptor.h>

#include <map>
#include <stdexcept>
#include <unordered_map>

#include "restante/v1/batch.pb.h"
#include "restante/v1/sync.pb.h"

namespace restante {

namespace {

namespace pb = google::protobuf;

// The fields of a oneof by the messages that they hold.
std::unordered_map<const pb::Descriptor*, int> numbers_by_message(const pb::OneofDescriptor* of) {
  std::unordered_map<const pb::Descriptor*, int> found;
  for (int i = 0; i < of->field_count(); ++i) found[of->field(i)->message_type()] = of->field(i)->number();
  return found;
}

struct Table {
  std::map<std::string, Method, std::less<>> by_name;
  std::unordered_map<const pb::Descriptor*, const Method*> by_request;

  Table() {
    const auto operations = numbers_by_message(v1::Operation::descriptor()->FindOneofByName("request"));
    const auto results = numbers_by_message(v1::OperationResult::descriptor()->FindOneofByName("response"));
    const auto number = [](const auto& numbers, const pb::Descriptor* message) {
      const auto found = numbers.find(message);
      return found == numbers.end() ? 0 : found->second;
    };
    // batch.proto imports all others that have unary RPCs.
    const pb::FileDescriptor* batch = v1::Operation::descriptor()->file();
    for (int i = -2; i < batch->dependency_count(); ++i) {
      const pb::FileDescriptor* file =
          i == -2 ? v1::WatchRequest::descriptor()->file() : i == -1 ? batch : batch->dependency(i);
      for (int j = 0; j < file->service_count(); ++j) {
        const pb::ServiceDescriptor* service = file->service(j);
        for (int k = 0; k < service->method_count(); ++k) {
          const pb::MethodDescriptor* rpc = service->method(k);
          if (rpc->client_streaming() || rpc->server_streaming()) continue;
          Method& method = by_name[service->name() + "/" + rpc->name()];
          method.path = "/" + service->full_name() + "/" + rpc->name();
          method.request = rpc->input_type();
          method.response = rpc->output_type();
          method.operation_field = number(operations, method.request);
          method.result_field = number(results, method.response);
          method.request_id = method.request->FindFieldByName("request_id");
          method.min_commit = method.request->FindFieldByName("min_commit");
          method.mailbox_id = method.request->FindFieldByName("mailbox_id");
          method.commit = method.response->FindFieldByName("commit");
          by_request[method.request] = &method;
        }
      }
    }
  }
};

const Table& table() {
  static const auto* const made = new Table;  // as long as the program, like descriptors
  return *made;
}

}  // namespace

const Method* Method::find(std::string_view name) {
  const auto found = table().by_name.find(name);
  return found == table().by_name.end() ? nullptr : &found->second;
}

const Method& Method::of(const pb::Descriptor* request) {
  const auto found = table().by_request.find(request);
  if (found == table().by_request.end()) {
    throw std::invalid_argument(request->full_name() + " is no request of a unary RPC of the contract");
  }
  return *found->second;
}

}  // namespace restante
