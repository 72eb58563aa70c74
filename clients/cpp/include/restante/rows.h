// Batches of messages in columns, row by row.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>

#include "restante/v1/message.pb.h"

namespace restante {

// One message of a batch. It looks into the batch, which must outlive it; a column that was not asked for reads as zero
// or empty.
class Row {
 public:
  Row(const v1::MessageRows& batch, int index) : batch_(&batch), index_(index) {}

  // The message's id.
  std::int64_t message_id() const { return cell(batch_->message_ids()); }
  // Its UID in its folder; 0 for a recoverable message.
  std::int64_t uid() const { return cell(batch_->uids()); }
  // Its folder.
  std::int64_t folder_id() const { return cell(batch_->folder_ids()); }
  // A sum of v1::Flag bits.
  int flags() const { return cell(batch_->flags()); }
  // Whether it has been read.
  bool seen() const { return (flags() & v1::FLAG_SEEN) != 0; }
  // Its keywords, in ascending order.
  const google::protobuf::RepeatedPtrField<std::string>& keywords() const {
    const int set = cell(batch_->keyword_sets());
    return (set < batch_->keyword_table_size() ? batch_->keyword_table(set) : v1::KeywordSet::default_instance())
        .keywords();
  }
  // Of its last change.
  std::int64_t change_number() const { return cell(batch_->change_numbers()); }
  // When it was received.
  std::chrono::system_clock::time_point received_at() const {
    return std::chrono::system_clock::time_point(std::chrono::seconds(cell(batch_->received_at_seconds())));
  }
  // The zone of that time, east of UTC.
  std::chrono::minutes received_offset() const {
    return std::chrono::minutes(cell(batch_->received_offset_minutes()));
  }
  // Octets of head and content.
  std::int64_t size_octets() const { return cell(batch_->size_octets()); }
  // The parsed header.
  const v1::MessageSummary& summary() const {
    return index_ < batch_->summaries_size() ? batch_->summaries(index_) : v1::MessageSummary::default_instance();
  }
  // The first 200 characters of text.
  const std::string& preview() const { return text(batch_->previews()); }
  // How many attachments it has.
  int attachment_count() const { return cell(batch_->attachment_counts()); }
  // The whole message, as the root of its parts; parts.h finds those that matter.
  const v1::MessagePart& parts() const {
    return index_ < batch_->parts_size() ? batch_->parts(index_) : v1::MessagePart::default_instance();
  }
  // Octets of the n-th section that was asked for; nullptr where the message has no such part.
  const std::string* section(int number) const;

 private:
  template <class Column>
  typename Column::value_type cell(const Column& column) const {
    return index_ < column.size() ? column.Get(index_) : typename Column::value_type();
  }
  const std::string& text(const google::protobuf::RepeatedPtrField<std::string>& column) const;

  const v1::MessageRows* batch_;
  int index_;
};

// The rows of a batch, to be gone through by a range-based for. The batch must outlive them.
class Rows {
 public:
  explicit Rows(const v1::MessageRows& batch) : batch_(&batch) {}

  // Goes from row to row.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Row;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Row;

    Iterator(const v1::MessageRows* batch, int index) : batch_(batch), index_(index) {}
    Row operator*() const { return Row(*batch_, index_); }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.index_ == b.index_; }
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    const v1::MessageRows* batch_;
    int index_;
  };

  // The first row.
  Iterator begin() const { return Iterator(batch_, 0); }
  // Behind the last row.
  Iterator end() const { return Iterator(batch_, size()); }
  // How many there are.
  int size() const { return batch_->message_ids_size(); }

 private:
  const v1::MessageRows* batch_;
};

}  // namespace restante
