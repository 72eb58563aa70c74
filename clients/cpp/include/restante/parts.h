// The parts of a message, found in its part tree.
#pragma once

#include <string>
#include <vector>

#include "restante/v1/message.pb.h"

namespace restante {

// A part and the parts below it, in order, without those of embedded messages. The tree must outlive the result.
std::vector<const v1::MessagePart*> parts_of(const v1::MessagePart& root);

// The attachments of a message, in order. An embedded message counts as one. The tree must outlive the result.
std::vector<const v1::MessagePart*> attachments(const v1::MessagePart& root);

// The first part of a media type, such as "text/plain", that is no attachment; nullptr where there is none.
const v1::MessagePart* find_part(const v1::MessagePart& root, const std::string& media_type);

// The section with a part's octets in this form.
v1::Section section_of(const v1::MessagePart& part, v1::SectionDecoding decoding);

}  // namespace restante
