// The envelopes of Execute as octets.
//
// The messages of Execute are written and read here by hand, as far as they envelop requests and responses. So a
// request is encoded where it is called, once, the stream only joins octets, and a response is decoded where it is
// wanted. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace restante::detail {

// Enough octets for an operation but for its request, with a token of 64 octets.
constexpr std::size_t kHeadOctets = 112;

// Adds an integer in base 128.
void append_varint(std::string& octets, std::uint64_t value);

// Adds a field of octets with its number.
void append_octets(std::string& octets, int field, std::string_view value);

// What goes around the request of an operation.
struct OperationHead {
  std::int64_t id = 0;
  std::string_view token;                             // empty: none
  std::optional<std::chrono::milliseconds> timeout;  // absent: the server's own
  bool independent = false;
};

// Adds an operation to the octets of an ExecuteRequest. `body` is its request, with its number.
void append_operation(std::string& octets, const OperationHead& head, std::string_view body);

// Adds the id of an operation that is to be given up to the octets of an ExecuteRequest.
void append_cancel(std::string& octets, std::int64_t id);

// An OperationResult, which looks into the octets that it was read from.
struct Result {
  std::int64_t id = 0;
  std::optional<std::string_view> status;  // absent: nothing went wrong
  int field = 0;                           // of the response; 0: there is none
  std::string_view response;
};

// An ExecuteResponse.
struct Response {
  std::vector<Result> results;
  bool draining = false;
};

// Reads the octets of an ExecuteResponse into `response`; fields that are not known are passed over. Tells whether it
// is one.
bool read_response(std::string_view octets, Response& response);

}  // namespace restante::detail
