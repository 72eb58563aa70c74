// Changes as they happen.
//
// All watches of a client share one stream. When it breaks it is opened again, and each watch goes on from the last
// change number that it has told. Each is for one thread at a time, except cancel, and ends with the object.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "restante/call.h"
#include "restante/range.h"
#include "restante/v1/types.pb.h"

namespace restante {

// What happened in a folder.
struct FolderEvent {
  v1::FolderChanges changes;  // bring a copy of the folder up to date
  bool fresh = false;         // all that was known before is void: the changes begin a new copy
};

// Where a watch of a folder begins. Default: it tells what happens from now on.
struct WatchOptions {
  // The mailbox; 0: the user's own.
  std::int64_t mailbox_id = 0;

  // Tell first what the folder holds; the first event is then fresh.
  bool snapshot = false;

  // Tell first what happened above a change number, such as Folder.change_number of an earlier answer: so nothing is
  // missed between that answer and the watch. 0: from now on. A snapshot goes before it.
  std::int64_t since = 0;

  // The mailbox's epoch under which `since` was learned; 0: the present one.
  std::int64_t epoch = 0;

  // Ends the watch early.
  std::optional<Cancellation> cancellation = std::nullopt;
};

// The changes of a folder, from Client::watch.
class FolderWatch : public Range<FolderWatch, FolderEvent> {
 public:
  FolderWatch(FolderWatch&&) noexcept;
  FolderWatch& operator=(FolderWatch&&) noexcept;
  ~FolderWatch();

  // Waits for the next event; there is always one. When the server knows no changes so old, or this is called too
  // seldom, the folder is read anew and the next event is fresh. Throws Error: FOLDER_NOT_FOUND when the folder is
  // gone, SESSION_EXPIRED or SESSION_REVOKED when the session is over, the code CANCELLED after cancel.
  std::optional<FolderEvent> next();

  // Ends the watch: `next` fails with the code CANCELLED. Any thread may call it.
  void cancel() const;

 private:
  friend class Client;
  struct Impl;
  explicit FolderWatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A mailbox has a new change number.
struct MailboxEvent {
  std::int64_t change_number = 0;        // the mailbox's
  std::vector<std::int64_t> folder_ids;  // those known to be touched; there may be more
  bool fresh = false;                    // changes may have been missed: compare everything
};

// Each new change number of a mailbox, from Client::watch_mailbox.
class MailboxWatch : public Range<MailboxWatch, MailboxEvent> {
 public:
  MailboxWatch(MailboxWatch&&) noexcept;
  MailboxWatch& operator=(MailboxWatch&&) noexcept;
  ~MailboxWatch();

  // Waits for the next event; there is always one. Throws Error, as FolderWatch::next.
  std::optional<MailboxEvent> next();

  // Ends the watch: `next` fails with the code CANCELLED. Any thread may call it.
  void cancel() const;

 private:
  friend class Client;
  struct Impl;
  explicit MailboxWatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace restante
