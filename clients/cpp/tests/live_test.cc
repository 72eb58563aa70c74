// Against a demo that tests/clients/cpp/test_cpp.py starts: what the conformance scenario, which knows no language,
// does not cover.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "restante/restante.h"

namespace restante {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const char* const kUser = "carol@example.test";
const char* const kPassword = "carol-demo";
constexpr auto kSoon = seconds(20);

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

Config config() {
  Config made;
  made.address = environment("RESTANTE_TEST_TARGET");
  made.root_certificates = read_pem(environment("RESTANTE_TEST_CA"));
  return made;
}

// A message with lines of its own up to a size.
std::string message_of(std::size_t octets) {
  std::string text = "From: carol@example.test\r\nSubject: Kept\r\n\r\n";
  for (int line = 0; text.size() < octets; ++line) {
    text += "Line " + std::to_string(line) + " of a message that is read again.\r\n";
  }
  return text;
}

// Whether something becomes so soon.
bool soon(const std::function<bool()>& so) {
  const auto until = std::chrono::steady_clock::now() + kSoon;
  while (!so()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

class LiveTest : public ::testing::Test {
 protected:
  static v1::Folder inbox(Client& client) {
    v1::GetFolderRequest request;
    request.set_role(v1::FOLDER_ROLE_INBOX);
    return client.call(request).folder();
  }

  std::int64_t append(const std::string& octets) {
    v1::AppendMessageRequest request;
    request.set_folder_id(folder.folder_id());
    request.set_upload_id(client.upload(v1::UPLOAD_KIND_MESSAGE, octets).upload_id());
    return client.call(request).message_id();
  }

  // A call that waits for a commit that never comes.
  static v1::GetMailboxRequest never(const Client& client) {
    v1::GetMailboxRequest request;
    auto* commit = request.mutable_min_commit();
    commit->set_mailbox_id(client.session().mailbox_id());
    commit->set_change_number(std::int64_t{1} << 40);
    commit->set_epoch(1);
    return request;
  }

  // The error that something ends with.
  static Error error_of(const std::function<void()>& failing) {
    try {
      failing();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "it did not fail";
    return Error(grpc::StatusCode::OK, "");
  }

  Client client = Client::log_on(config(), kUser, kPassword);
  v1::Folder folder = inbox(client);
};

TEST_F(LiveTest, StreamedCellsAreWhole) {
  std::map<std::int64_t, std::string> wanted;
  for (const std::size_t size : {100, 700'000, 3'000, 2'000'000, 50}) {
    const auto octets = message_of(size);
    wanted[append(octets)] = octets;
  }
  v1::StreamMessagesRequest request;
  auto* uids = request.mutable_messages()->mutable_uids();
  uids->set_folder_id(folder.folder_id());
  auto* range = uids->add_ranges();
  range->set_first(folder.uid_next());
  range->set_last(0xffff'ffff);
  request.add_sections()->set_kind(v1::SECTION_KIND_WHOLE);
  auto* none = request.add_sections();
  none->set_kind(v1::SECTION_KIND_WHOLE);
  none->add_part(7);
  for (const auto& batch : client.stream_messages(request)) {
    for (const auto row : Rows(batch)) {
      ASSERT_NE(row.section(0), nullptr);
      EXPECT_TRUE(*row.section(0) == wanted[row.message_id()]) << row.message_id();
      EXPECT_EQ(row.section(1), nullptr);
      wanted.erase(row.message_id());
    }
  }
  EXPECT_TRUE(wanted.empty());

  auto cancelled = client.stream_messages(request);
  ASSERT_TRUE(cancelled.next());
  cancelled.cancel();
  EXPECT_EQ(error_of([&] { cancelled.next(); }).code(), grpc::StatusCode::CANCELLED);
  auto left = client.stream_messages(request);
  ASSERT_TRUE(left.next());  // and its end is the stream's
}

TEST_F(LiveTest, ContentIsReadInPieces) {
  const auto octets = message_of(700'000);
  const auto id = append(octets);
  auto content = client.open_content(id);
  EXPECT_EQ(content.size(), static_cast<std::int64_t>(octets.size()));
  std::string read;
  int chunks = 0;
  for (const auto& chunk : content) {
    read += chunk;
    ++chunks;
  }
  EXPECT_TRUE(read == octets);
  EXPECT_GT(chunks, 1);
  EXPECT_EQ(content.size(), static_cast<std::int64_t>(octets.size()));

  v1::Section part;
  part.set_kind(v1::SECTION_KIND_WHOLE);
  part.set_offset_octets(300'000);
  part.set_length_octets(300'000);
  EXPECT_TRUE(client.read_content(id, part) == octets.substr(300'000, 300'000));
  EXPECT_EQ(error_of([&] { client.read_content(std::int64_t{1} << 40); }).reason(),
            v1::ERROR_REASON_MESSAGE_NOT_FOUND);
}

TEST_F(LiveTest, PartsAreReadDecoded) {
  const auto id = append(
      "Subject: Parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
      "--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
      "Gr=FC=DFe\r\nAlice\r\n--x\r\nContent-Type: application/octet-stream\r\n"
      "Content-Disposition: attachment; filename=data.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
      "AAECAw==\r\n--x--\r\n");
  const v1::MessagePart root = client.parts(id);
  EXPECT_EQ(root.media_type(), "multipart/mixed");
  const v1::MessagePart* text = find_part(root, "text/plain");
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(client.read_text(id, *text), "Gr\u00fc\u00dfe\nAlice");
  const auto files = attachments(root);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0]->file_name(), "data.bin");
  EXPECT_EQ(client.read_part(id, *files[0]), std::string("\0\1\2\3", 4));
  try {
    client.parts(std::int64_t{1} << 40);
    FAIL() << "there is no such message";
  } catch (const Error& error) {
    EXPECT_EQ(error.reason(), v1::ERROR_REASON_MESSAGE_NOT_FOUND);
    EXPECT_EQ(error.metadata().at("message_id"), std::to_string(std::int64_t{1} << 40));
  }
}

TEST_F(LiveTest, AStreamIsUploadedFromWhereItStands) {
  std::istringstream from("passed over" + message_of(600'000));
  from.seekg(11);
  const auto answer = client.upload(v1::UPLOAD_KIND_MESSAGE, from);
  EXPECT_EQ(answer.size_octets(), static_cast<std::int64_t>(message_of(600'000).size()));
  EXPECT_THROW(client.upload_file(v1::UPLOAD_KIND_MESSAGE, "/nowhere"), std::ios_base::failure);
  const Cancellation cancellation;
  cancellation.cancel();
  CallOptions options;
  options.cancellation = cancellation;
  EXPECT_EQ(error_of([&] { client.upload(v1::UPLOAD_KIND_MESSAGE, "x", options); }).code(),
            grpc::StatusCode::CANCELLED);
}

TEST_F(LiveTest, ThreadsShareTheStreamBeyondTheSessionsBound) {
  v1::GetFolderRequest request;
  request.set_folder_id(folder.folder_id());
  std::atomic<int> answered = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 20; ++i) {
    threads.emplace_back([&] {
      CallOptions independent;
      independent.independent = true;
      std::vector<Operation<v1::GetFolderResponse>> operations;
      for (int j = 0; j < 25; ++j) operations.push_back(client.start(request, independent));
      for (const auto& operation : operations) answered += operation.get().folder().folder_id() == folder.folder_id();
      answered += client.call(request).folder().folder_id() == folder.folder_id();
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(answered, 20 * 26);
}

TEST_F(LiveTest, WhatIsTooLargeForABatchHasACallOfItsOwn) {
  v1::AppendMessageRequest request;
  request.set_folder_id(folder.folder_id());
  request.set_content(std::string(2 << 20, 'x'));
  const auto code = error_of([&] { client.call(request); }).code();
  EXPECT_TRUE(code == grpc::StatusCode::INVALID_ARGUMENT || code == grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::ExecuteOnceRequest batch;
  auto* operation = batch.add_operations();
  operation->set_operation_id(1);
  operation->mutable_get_session();
  EXPECT_EQ(client.call(batch).results(0).get_session().session().address(), kUser);
}

TEST_F(LiveTest, CallsAndOperationsEndInTimeAndWhenTheyAreCancelled) {
  CallOptions brief;
  brief.timeout = milliseconds(300);
  const auto late = error_of([&] { client.call(never(client), brief); });
  EXPECT_TRUE(late.code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
              late.reason() == v1::ERROR_REASON_COMMIT_NOT_REACHED);

  CallOptions cancellable;
  const Cancellation cancellation;
  cancellable.cancellation = cancellation;
  std::thread canceller([&] {
    std::this_thread::sleep_for(milliseconds(200));
    cancellation.cancel();
  });
  EXPECT_EQ(error_of([&] { client.call(never(client), cancellable); }).code(), grpc::StatusCode::CANCELLED);
  canceller.join();
  EXPECT_EQ(error_of([&] { client.call(never(client), cancellable); }).code(), grpc::StatusCode::CANCELLED);

  const auto operation = client.start(never(client));
  EXPECT_FALSE(operation.wait_for(milliseconds(50)));
  EXPECT_FALSE(operation.done());
  operation.cancel();
  EXPECT_TRUE(operation.done());
  EXPECT_EQ(error_of([&] { operation.get(); }).code(), grpc::StatusCode::CANCELLED);
}

TEST_F(LiveTest, ClosingEndsWhatOtherThreadsWaitFor) {
  auto watch = client.watch(folder.folder_id());
  v1::SyncMailboxRequest following;
  following.set_folder_id(folder.folder_id());
  following.set_follow(true);
  auto sync = client.sync(following);
  const auto operation = client.start(never(client));
  std::vector<std::thread> waiting;
  std::atomic<int> ended = 0;
  const auto wait = [&](std::function<void()> forever) {
    waiting.emplace_back([&ended, forever = std::move(forever)] {
      if (error_of(forever).code() == grpc::StatusCode::CANCELLED) ++ended;
    });
  };
  wait([&] { watch.next(); });
  wait([&] { for (;;) sync.next(); });
  wait([&] { operation.get(); });
  wait([&] { client.call(never(client)); });
  std::this_thread::sleep_for(milliseconds(500));
  client.close();
  for (auto& thread : waiting) thread.join();
  EXPECT_EQ(ended, 4);
  EXPECT_EQ(error_of([&] { inbox(client); }).message(), "The client was closed.");
  client.close();
}

TEST_F(LiveTest, AWatchOutlivesAChangeOfOnesOwnPassword) {
  std::mutex mutex;
  std::vector<FolderEvent> events;
  WatchOptions options;
  options.snapshot = true;
  auto watch = client.watch(folder.folder_id(), options);
  std::thread watching([&] {
    const auto over = error_of([&] {
      for (const auto& event : watch) {
        const std::lock_guard lock(mutex);
        events.push_back(event);
      }
    });
    EXPECT_EQ(over.code(), grpc::StatusCode::CANCELLED);
  });
  const auto told = [&](std::int64_t id) {
    const std::lock_guard lock(mutex);
    for (const auto& event : events) {
      for (const auto each : event.changes.message_ids()) {
        if (each == id) return true;
      }
    }
    return false;
  };
  const auto before = append(message_of(100));
  EXPECT_TRUE(soon([&] { return told(before); }));
  const auto token = client.token();
  client.change_password(kPassword, "carol-demo-2");
  EXPECT_NE(client.token(), token);
  std::this_thread::sleep_for(milliseconds(500));  // for the end of the old session to be told
  const auto after = append(message_of(100));
  EXPECT_TRUE(soon([&] { return told(after); }));
  client.change_password("carol-demo-2", kPassword);
  watch.cancel();
  watching.join();
  ASSERT_FALSE(events.empty());
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].fresh, i == 0);
}

TEST_F(LiveTest, AMailboxIsWatchedUntilTheSessionEnds) {
  std::atomic<int> sessions = 0, ends = 0;
  Config told = config();
  told.on_session = [&](const v1::Session&) { ++sessions; };
  told.on_ended = [&](const Error& reason) { ends += reason.reason() == v1::ERROR_REASON_SESSION_REVOKED; };
  Client own = Client::log_on(told, kUser, kPassword);
  own.renew();
  EXPECT_EQ(sessions, 2);
  std::atomic<std::int64_t> last = 0;
  std::thread watching([&] {
    auto watch = own.watch_mailbox();
    const auto over = error_of([&] {
      while (const auto event = watch.next()) last = event->change_number;
    });
    EXPECT_EQ(over.reason(), v1::ERROR_REASON_SESSION_REVOKED);
  });
  EXPECT_TRUE(soon([&] {
    append(message_of(100));  // the first may come before the watch
    std::this_thread::sleep_for(milliseconds(100));
    return last > folder.change_number();
  }));
  EXPECT_FALSE(own.end_reason());
  own.log_off();
  watching.join();
  EXPECT_EQ(own.end_reason()->reason(), v1::ERROR_REASON_SESSION_REVOKED);
  EXPECT_EQ(ends, 1);
  EXPECT_EQ(error_of([&] { inbox(own); }).reason(), v1::ERROR_REASON_SESSION_REVOKED);
}

TEST_F(LiveTest, AJobIsWatchedToItsEnd) {
  auto admin = Client::log_on(config(), "alice@example.test", "alice-demo");
  v1::CheckStoreRequest check;
  check.set_digests(true);
  v1::WatchJobRequest request;
  request.set_job_id(admin.call(check).job().job_id());
  v1::JobState last = v1::JOB_STATE_UNSPECIFIED;
  for (const auto& step : admin.watch_job(request)) last = step.job().state();
  EXPECT_EQ(last, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(error_of([&] { client.watch_job(request).next(); }).reason(), v1::ERROR_REASON_PERMISSION_DENIED);
}

TEST_F(LiveTest, AClientMovesAndTrustsNoStranger) {
  Client other = Client::resume(config(), client.token());
  EXPECT_EQ(other.session().address(), kUser);
  other = std::move(client);
  EXPECT_EQ(inbox(other).folder_id(), folder.folder_id());
  Config stranger = config();
  stranger.root_certificates.clear();  // the system's: they know nothing of the demo
  stranger.patience = milliseconds(200);
  stranger.timeout = seconds(2);
  const auto code = error_of([&] { Client::log_on(stranger, kUser, kPassword); }).code();
  EXPECT_TRUE(code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED);
}

}  // namespace

}  // namespace restante
