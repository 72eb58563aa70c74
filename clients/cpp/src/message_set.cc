#include "message_set.h"

#include <algorithm>
#include <cstdint>

namespace restante::detail {

void join(v1::MessageRows& batch, const v1::SectionRest& rest) {
  if (rest.section_index() < 0 || rest.section_index() >= batch.sections_size()) return;
  auto* cells = batch.mutable_sections(rest.section_index());
  if (cells->octets_size() > 0) cells->mutable_octets(cells->octets_size() - 1)->append(rest.octets());
}

bool whole(const v1::MessageRows& batch) {
  for (const auto& cells : batch.sections()) {
    const int last = std::min(cells.octets_size(), cells.total_octets_size()) - 1;
    if (last >= 0 && static_cast<std::int64_t>(cells.octets(last).size()) < cells.total_octets(last)) return false;
  }
  return true;
}

namespace {

// The matching messages whose UIDs, or in all folders message ids, are above the last one told.
v1::MatchingMessages matching_behind(const v1::MatchingMessages& matching, std::int64_t last_id,
                                     std::int64_t last_uid) {
  v1::MatchingMessages left = matching;
  left.set_above(matching.folder_id() != 0 ? last_uid : last_id);
  return left;
}

}  // namespace

v1::MessageSet behind(const v1::MessageSet& set, const v1::MessageRows& told) {
  if (told.message_ids().empty()) return set;
  const std::int64_t last_id = *told.message_ids().rbegin();
  const std::int64_t last_uid = told.uids().empty() ? 0 : *told.uids().rbegin();
  v1::MessageSet left;
  if (set.has_matching()) {
    *left.mutable_matching() = matching_behind(set.matching(), last_id, last_uid);
  } else if (set.has_uids()) {
    left.mutable_uids()->set_folder_id(set.uids().folder_id());
    for (const auto& range : set.uids().ranges()) {
      if (range.last() <= last_uid) continue;
      auto* kept = left.mutable_uids()->add_ranges();
      kept->set_first(std::max<std::int64_t>(range.first(), last_uid + 1));
      kept->set_last(range.last());
    }
  } else {
    auto* kept = left.mutable_ids();
    for (const auto id : set.ids().message_ids()) {
      if (id > last_id) kept->add_message_ids(id);
    }
  }
  return left;
}

bool finished(const v1::MessageSet& set) {
  return !set.has_matching() && set.uids().ranges().empty() && set.ids().message_ids().empty();
}

}  // namespace restante::detail
