// What is read one by one, as a range.
#pragma once

#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

namespace restante {

// Lets a source with `std::optional<Item> next()` be read by a range-based for. It can be gone through once.
template <class Source, class Item>
class Range {
 public:
  // Reads a source; what it throws comes out of ++ and of begin().
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Item;
    using difference_type = std::ptrdiff_t;
    using pointer = Item*;
    using reference = Item&;

    Iterator() = default;
    explicit Iterator(Source* source) : source_(source) { ++*this; }

    reference operator*() { return *item_; }
    pointer operator->() { return &*item_; }
    Iterator& operator++() {
      item_ = source_->next();
      if (!item_) source_ = nullptr;
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.source_ == b.source_; }
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    Source* source_ = nullptr;
    std::optional<Item> item_;
  };

  // Reads the first item.
  Iterator begin() { return Iterator(static_cast<Source*>(this)); }
  // Behind the last item.
  Iterator end() { return Iterator(); }
};

}  // namespace restante
