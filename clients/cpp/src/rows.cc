#include "restante/rows.h"

namespace restante {

namespace {

const std::string& nothing() {
  static const auto* const empty = new std::string;
  return *empty;
}

}  // namespace

const std::string* Row::section(int number) const {
  if (number < 0 || number >= batch_->sections_size()) return nullptr;
  const auto& cells = batch_->sections(number);
  if (index_ >= cells.total_octets_size() || cells.total_octets(index_) < 0) return nullptr;
  return &text(cells.octets());
}

const std::string& Row::text(const google::protobuf::RepeatedPtrField<std::string>& column) const {
  return index_ < column.size() ? column.Get(index_) : nothing();
}

}  // namespace restante
