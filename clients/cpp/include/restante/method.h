// The unary RPCs of the contract, for programs that handle calls in general.
#pragma once

#include <string>
#include <string_view>

#include "restante/rpcs.h"

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace restante {

// One unary RPC. There is one object of each, which lives as long as the program.
class Method {
 public:
  // A method by its name, such as "FolderService/GetFolder"; nullptr where there is none.
  static const Method* find(std::string_view name);

  // A method by its request. Throws std::invalid_argument where it is none of the contract's.
  static const Method& of(const google::protobuf::Descriptor* request);

  std::string path;                              // on the wire, such as "/restante.v1.FolderService/GetFolder"
  const google::protobuf::Descriptor* request;   // the type of its request
  const google::protobuf::Descriptor* response;  // the type of its response

  int operation_field = 0;  // of Operation.request; 0: it is no operation of a batch
  int result_field = 0;     // of OperationResult.response
  const google::protobuf::FieldDescriptor* request_id = nullptr;  // of the request; nullptr: it has none
  const google::protobuf::FieldDescriptor* min_commit = nullptr;  // of the request
  const google::protobuf::FieldDescriptor* mailbox_id = nullptr;  // of the request
  const google::protobuf::FieldDescriptor* commit = nullptr;      // of the response
};

}  // namespace restante
