// What has been read of a set of messages. Pure.
#pragma once

#include "restante/v1/message.pb.h"

namespace restante::detail {

// Adds octets to a cut cell of the last message of a batch.
void join(v1::MessageRows& batch, const v1::SectionRest& rest);

// Whether no cell of the last message is cut.
bool whole(const v1::MessageRows& batch);

// The part of a set that follows a batch: batches come in ascending order of UIDs or message ids.
v1::MessageSet behind(const v1::MessageSet& set, const v1::MessageRows& told);

// Whether nothing is left of a set.
bool finished(const v1::MessageSet& set);

}  // namespace restante::detail
