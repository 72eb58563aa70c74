#include "wire.h"

#include <algorithm>

namespace restante::detail {

namespace {

// Numbers of fields (protos/restante/v1/batch.proto).
constexpr int kRequestOperations = 1, kRequestCancels = 2;
constexpr int kOperationId = 1, kOperationToken = 2, kOperationTimeout = 3, kOperationIndependent = 4;
constexpr int kResponseResults = 1, kResponseDraining = 2;
constexpr int kResultId = 1, kResultStatus = 2;

constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::minutes(10);

enum Kind : unsigned { kVarint = 0, kFixed64 = 1, kOctets = 2, kFixed32 = 5 };

std::uint64_t tag(int field, Kind kind) { return static_cast<std::uint64_t>(field) << 3 | kind; }

void append_integer(std::string& octets, int field, std::uint64_t value) {
  append_varint(octets, tag(field, kVarint));
  append_varint(octets, value);
}

std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++size;
  }
  return size;
}

// Reads fields one after the other.
class Reader {
 public:
  explicit Reader(std::string_view octets) : rest_(octets) {}

  int field = 0;
  Kind kind = kVarint;
  std::uint64_t integer = 0;  // of a varint
  std::string_view value;     // of octets

  // Whether there is another field, which is then read.
  bool next() {
    std::uint64_t head = 0;
    if (rest_.empty()) return false;
    if (!varint(head) || head >> 3 == 0 || head >> 3 > 0x1fff'ffff) return fail();
    field = static_cast<int>(head >> 3);
    kind = static_cast<Kind>(head & 7);
    switch (kind) {
      case kVarint:
        return varint(integer) || fail();
      case kOctets: {
        std::uint64_t size = 0;
        return (varint(size) && take(size)) || fail();
      }
      case kFixed64:
        return take(8) || fail();
      case kFixed32:
        return take(4) || fail();
    }
    return fail();
  }

  // Whether something was wrong.
  bool failed() const { return failed_; }

 private:
  bool fail() {
    failed_ = true;
    return false;
  }

  bool take(std::uint64_t size) {
    if (size > rest_.size()) return false;
    value = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

  bool varint(std::uint64_t& into) {
    into = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto octet = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      into |= static_cast<std::uint64_t>(octet & 0x7f) << shift;
      if (octet < 0x80) return true;
    }
    return false;
  }

  std::string_view rest_;
  bool failed_ = false;
};

bool read_result(std::string_view octets, Result& result) {
  Reader reader(octets);
  while (reader.next()) {
    if (reader.field == kResultId && reader.kind == kVarint) {
      result.id = static_cast<std::int64_t>(reader.integer);
    } else if (reader.field == kResultStatus && reader.kind == kOctets) {
      result.status = reader.value;
    } else if (reader.kind == kOctets) {
      result.field = reader.field;
      result.response = reader.value;
    }
  }
  return !reader.failed();
}

}  // namespace

void append_varint(std::string& octets, std::uint64_t value) {
  while (value >= 0x80) {
    octets.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  octets.push_back(static_cast<char>(value));
}

void append_octets(std::string& octets, int field, std::string_view value) {
  append_varint(octets, tag(field, kOctets));
  append_varint(octets, value.size());
  octets.append(value);
}

void append_operation(std::string& octets, const OperationHead& head, std::string_view body) {
  std::uint64_t timeout = 0;
  if (head.timeout) {
    timeout = static_cast<std::uint64_t>(
        std::clamp(*head.timeout, std::chrono::milliseconds(1), kLongestTimeout).count());
  }
  const auto id = static_cast<std::uint64_t>(head.id);
  std::size_t size = 1 + varint_size(id) + body.size();
  if (!head.token.empty()) size += 1 + varint_size(head.token.size()) + head.token.size();
  if (timeout > 0) size += 1 + varint_size(timeout);
  if (head.independent) size += 2;
  append_varint(octets, tag(kRequestOperations, kOctets));
  append_varint(octets, size);
  append_integer(octets, kOperationId, id);
  if (!head.token.empty()) append_octets(octets, kOperationToken, head.token);
  if (timeout > 0) append_integer(octets, kOperationTimeout, timeout);
  if (head.independent) append_integer(octets, kOperationIndependent, 1);
  octets.append(body);
}

void append_cancel(std::string& octets, std::int64_t id) {
  append_integer(octets, kRequestCancels, static_cast<std::uint64_t>(id));
}

bool read_response(std::string_view octets, Response& response) {
  Reader reader(octets);
  while (reader.next()) {
    if (reader.field == kResponseResults && reader.kind == kOctets) {
      if (!read_result(reader.value, response.results.emplace_back())) return false;
    } else if (reader.field == kResponseDraining && reader.kind == kVarint) {
      response.draining = reader.integer != 0;
    }
  }
  return !reader.failed();
}

}  // namespace restante::detail
