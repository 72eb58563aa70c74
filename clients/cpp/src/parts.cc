#include "restante/parts.h"

#include <algorithm>
#include <iterator>

namespace restante {

namespace {

void collect(const v1::MessagePart& part, std::vector<const v1::MessagePart*>* found) {
  found->push_back(&part);
  if (part.media_type().rfind("multipart/", 0) != 0) return;
  for (const v1::MessagePart& each : part.parts()) collect(each, found);
}

}  // namespace

std::vector<const v1::MessagePart*> parts_of(const v1::MessagePart& root) {
  std::vector<const v1::MessagePart*> found;
  collect(root, &found);
  return found;
}

std::vector<const v1::MessagePart*> attachments(const v1::MessagePart& root) {
  const auto parts = parts_of(root);
  std::vector<const v1::MessagePart*> found;
  std::copy_if(parts.begin(), parts.end(), std::back_inserter(found),
               [](const v1::MessagePart* part) { return part->attachment(); });
  return found;
}

const v1::MessagePart* find_part(const v1::MessagePart& root, const std::string& media_type) {
  const auto parts = parts_of(root);
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const v1::MessagePart* part) {
    return part->media_type() == media_type && !part->attachment();
  });
  return found == parts.end() ? nullptr : *found;
}

v1::Section section_of(const v1::MessagePart& part, v1::SectionDecoding decoding) {
  v1::Section section;
  *section.mutable_part() = part.part();
  section.set_kind(v1::SECTION_KIND_WHOLE);
  section.set_decoding(decoding);
  return section;
}

}  // namespace restante
