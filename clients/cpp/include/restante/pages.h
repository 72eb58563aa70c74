// Lists, page by page.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "restante/call.h"
#include "restante/range.h"

namespace google::protobuf {
class Message;
}

namespace restante {

// Reads the pages of any list. For one thread at a time.
class AnyPages {
 public:
  AnyPages(AnyPages&&) noexcept;
  AnyPages& operator=(AnyPages&&) noexcept;
  ~AnyPages();

  // Reads the next page into a response; false: there is none. Each page is a call with a timeout of its own. Throws
  // Error.
  bool next(google::protobuf::Message* page);

 private:
  friend class Client;
  AnyPages(std::shared_ptr<detail::Core> core, const google::protobuf::Message& request, CallOptions options);
  std::shared_ptr<detail::Core> core_;
  std::unique_ptr<google::protobuf::Message> request_;
  CallOptions options_;
  bool over_ = false;
};

// Every page of a list, from Client::pages.
template <class Response>
class Pages : public Range<Pages<Response>, Response> {
 public:
  explicit Pages(AnyPages any) : any_(std::move(any)) {}

  // The next page; nothing at the end. Throws Error.
  std::optional<Response> next() {
    std::optional<Response> page(std::in_place);
    if (!any_.next(&*page)) page.reset();
    return page;
  }

 private:
  AnyPages any_;
};

}  // namespace restante
