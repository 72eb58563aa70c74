#include "message_set.h"

#include <algorithm>
#include <utility>

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

void pass_over(v1::MessageSet& set, const v1::MessageRows& told) {
  if (set.folder_id() != 0) {
    if (told.uids().empty()) return;
    const auto last = told.uids(told.uids_size() - 1);
    v1::MessageSet left;
    for (const auto& range : set.uids()) {
      if (range.last() <= last) continue;
      auto* kept = left.add_uids();
      kept->set_first(std::max(range.first(), last + 1));
      kept->set_last(range.last());
    }
    set.mutable_uids()->Swap(left.mutable_uids());
    return;
  }
  if (told.message_ids().empty()) return;
  const auto last = told.message_ids(told.message_ids_size() - 1);
  auto* ids = set.mutable_message_ids();
  ids->erase(std::remove_if(ids->begin(), ids->end(), [last](auto id) { return id <= last; }), ids->end());
}

bool finished(const v1::MessageSet& set) { return set.uids().empty() && set.message_ids().empty(); }

}  // namespace restante::detail
