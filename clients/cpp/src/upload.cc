// Uploads: octets that are too many for one call.
#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>
#include <utility>

#include "resumed.h"
#include "restante/client.h"
#include "restante/v1/content.grpc.pb.h"

namespace restante {

namespace {

constexpr std::size_t kChunkOctets = 256 << 10;

// Gives the octets of an upload, piece by piece: at most so many, none at the end.
class Source {
 public:
  virtual ~Source() = default;
  virtual void rewind() = 0;
  virtual std::string read(std::size_t most) = 0;
};

class TextSource : public Source {
 public:
  explicit TextSource(std::string_view octets) : octets_(octets) {}
  void rewind() override { done_ = 0; }
  std::string read(std::size_t most) override {
    std::string piece(octets_.substr(done_, most));
    done_ += piece.size();
    return piece;
  }

 private:
  std::string_view octets_;
  std::size_t done_ = 0;
};

class StreamSource : public Source {
 public:
  explicit StreamSource(std::istream& from) : from_(from), start_(from.tellg()) {
    if (start_ == std::istream::pos_type(-1)) throw std::ios_base::failure("the stream cannot be sought in");
  }
  void rewind() override {
    from_.clear();
    if (!from_.seekg(start_)) throw std::ios_base::failure("the stream cannot be read again");
  }
  std::string read(std::size_t most) override {
    std::string piece(most, '\0');
    from_.read(piece.data(), static_cast<std::streamsize>(most));
    if (from_.bad()) throw std::ios_base::failure("the stream cannot be read");
    piece.resize(static_cast<std::size_t>(from_.gcount()));
    return piece;
  }

 private:
  std::istream& from_;
  std::istream::pos_type start_;
};

// One attempt. Throws Error.
v1::UploadContentResponse upload_once(detail::Core& core, const detail::Ending& ending, v1::UploadKind kind,
                                      Source& source, const std::function<void(std::size_t)>& told) {
  v1::UploadContentResponse response;
  grpc::ClientContext context;
  authorize(context, core.token());
  const auto writer = v1::ContentService::NewStub(core.link.channel())->UploadContent(&context, &response);
  const auto cancelling = ending.cancellation().on_cancel([&] { context.TryCancel(); });
  v1::UploadContentRequest request;
  request.set_kind(kind);
  std::size_t done = 0;
  try {
    for (bool first = true;; first = false) {
      std::string piece = source.read(kChunkOctets);
      if (piece.empty() && !first) break;
      done += piece.size();
      *request.mutable_octets() = std::move(piece);
      if (!writer->Write(request)) break;  // the status says why
      told(done);
      request.clear_kind();
    }
  } catch (...) {  // of the source: the call must still be ended
    context.TryCancel();
    static_cast<void>(writer->Finish());
    throw;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (ending.cancelled()) throw ending.error();
  if (!status.ok()) throw Error::from(status);
  return response;
}

v1::UploadContentResponse upload_from(const std::shared_ptr<detail::Core>& core, v1::UploadKind kind, Source& source,
                                      const CallOptions& options) {
  const detail::Ending ending(core, options.cancellation);
  const auto timeout = options.timeout.value_or(core->config.timeout);
  detail::Retry retry;
  auto last = detail::Clock::now();
  std::size_t furthest = 0;
  for (;;) {
    if (ending.cancelled()) throw ending.error();
    const std::string before = core->token();
    try {
      return upload_once(*core, ending, kind, source, [&](std::size_t done) {
        if (done <= furthest) return;
        furthest = done;
        last = detail::Clock::now();
      });
    } catch (const Error& error) {
      if (error.reason() == v1::ERROR_REASON_SESSION_EXPIRED && retry.renewal()) {
        core->renew(before, options);
      } else {
        if (!detail::is_temporary(error)) throw;
        const auto delay = retry.delay(error);
        if (detail::Clock::now() + delay >= last + timeout) throw;
        core->pause(delay, ending.cancellation());
      }
    }
    source.rewind();
  }
}

}  // namespace

v1::UploadContentResponse Client::upload(v1::UploadKind kind, std::string_view octets, const CallOptions& options) {
  TextSource source(octets);
  return upload_from(core_, kind, source, options);
}

v1::UploadContentResponse Client::upload(v1::UploadKind kind, std::istream& from, const CallOptions& options) {
  StreamSource source(from);
  return upload_from(core_, kind, source, options);
}

v1::UploadContentResponse Client::upload_file(v1::UploadKind kind, const std::string& file,
                                              const CallOptions& options) {
  std::ifstream opened(file, std::ios::binary);
  if (!opened) throw std::ios_base::failure("cannot read " + file);
  return upload(kind, opened, options);
}

}  // namespace restante
