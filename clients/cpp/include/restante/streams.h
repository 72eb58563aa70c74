// Streams that go on by themselves when the connection breaks.
//
// Each is for one thread at a time, except cancel, and ends with the object. A break is followed by another stream,
// unless they have failed at once for the client's timeout. A session that has expired is renewed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "restante/call.h"
#include "restante/range.h"
#include "restante/v1/job.pb.h"
#include "restante/v1/message.pb.h"
#include "restante/v1/sync.pb.h"

namespace restante {

// Octets of a message or of a section, in chunks, from Client::open_content.
class Content : public Range<Content, std::string> {
 public:
  Content(Content&&) noexcept;
  Content& operator=(Content&&) noexcept;
  ~Content();

  // The next octets, at most 256 KiB; nothing at the end. Throws Error: MESSAGE_NOT_FOUND, PART_NOT_FOUND.
  std::optional<std::string> next();

  // How many octets there are in all. It reads the first of them. Throws Error.
  std::int64_t size();

  // Ends the reading, at the server too: `next` fails with the code CANCELLED. Any thread may call it.
  void cancel() const;

 private:
  friend class Client;
  struct Impl;
  explicit Content(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Columns and sections of any number of messages, a batch at a time, from Client::stream_messages. Octets that the
// contract cuts at the end of a batch are put together: every cell is whole, and the largest message bounds the memory.
class MessageStream : public Range<MessageStream, v1::MessageRows> {
 public:
  MessageStream(MessageStream&&) noexcept;
  MessageStream& operator=(MessageStream&&) noexcept;
  ~MessageStream();

  // The next batch; nothing at the end. Throws Error.
  std::optional<v1::MessageRows> next();

  // Ends the stream, at the server too: `next` fails with the code CANCELLED. Any thread may call it.
  void cancel() const;

 private:
  friend class Client;
  struct Impl;
  explicit MessageStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What brings a copy of a mailbox or folder up to date, from Client::sync.
//
// Keep the cursor of each checkpoint to go on later. A stream that breaks is opened again from the last checkpoint that
// was told; what came after it may come again. After a reset throw the copy away: everything follows anew.
class SyncStream : public Range<SyncStream, v1::SyncMailboxResponse> {
 public:
  SyncStream(SyncStream&&) noexcept;
  SyncStream& operator=(SyncStream&&) noexcept;
  ~SyncStream();

  // The next step; nothing at the end, which comes only without `follow`. Throws Error, such as CURSOR_INVALID.
  std::optional<v1::SyncMailboxResponse> next();

  // Ends the stream, at the server too: `next` fails with the code CANCELLED. Any thread may call it.
  void cancel() const;

 private:
  friend class Client;
  struct Impl;
  explicit SyncStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The states of a job, from Client::watch_job: as it is now, and after each change until its end, with each finding once.
//
// A stream that breaks is opened again behind the last finding.
class JobStream : public Range<JobStream, v1::WatchJobResponse> {
 public:
  JobStream(JobStream&&) noexcept;
  JobStream& operator=(JobStream&&) noexcept;
  ~JobStream();

  // The next state; nothing at the end of the job. Throws Error: JOB_NOT_FOUND, PERMISSION_DENIED.
  std::optional<v1::WatchJobResponse> next();

  // Ends the stream, at the server too: `next` fails with the code CANCELLED. The job goes on. Any thread may call it.
  void cancel() const;

 private:
  friend class Client;
  struct Impl;
  explicit JobStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace restante
