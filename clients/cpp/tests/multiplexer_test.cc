// The bounds and promises of the Execute multiplexer, against a server that does as the test says.
#include "multiplexer.h"

#include <gtest/gtest.h>

#include "fake_server.h"
#include "repeatable.h"

namespace restante::detail {

namespace {

using testing::FakeServer;
using testing::kAWhile;
using testing::kSoon;

class MultiplexerTest : public ::testing::Test {
 protected:
  ~MultiplexerTest() override {
    multiplexer.close();
    timer.stop();
  }

  static std::shared_ptr<grpc::Channel> dial(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }

  // Operations whose folder ids count from the number that is given.
  std::vector<std::shared_ptr<Pending>> start(int count, bool as_session, bool independent = true, int first = 1) {
    std::vector<std::shared_ptr<Pending>> started;
    for (int i = 0; i < count; ++i) {
      v1::GetFolderRequest request;
      request.set_folder_id(first + i);
      started.push_back(made(request, independent));
      multiplexer.start(started.back(), as_session, false);
    }
    return started;
  }

  static std::shared_ptr<Pending> made(const google::protobuf::Message& request, bool independent = true) {
    const auto& method = Method::of(request.GetDescriptor());
    return std::make_shared<Pending>(method, operation_body(method, request, {}), Clock::now() + kSoon, independent,
                                     may_repeat(method, request));
  }

  static std::vector<std::int64_t> folders_of(const std::vector<v1::Operation>& operations) {
    std::vector<std::int64_t> ids;
    for (const auto& operation : operations) ids.push_back(operation.get_folder().folder_id());
    return ids;
  }

  static std::vector<std::int64_t> counting(std::int64_t first, std::size_t count) {
    std::vector<std::int64_t> ids(count);
    for (std::size_t i = 0; i < count; ++i) ids[i] = first + static_cast<std::int64_t>(i);
    return ids;
  }

  static std::int64_t folder_of(const Pending& pending) {
    EXPECT_TRUE(pending.wait_until(Clock::now() + kSoon));
    v1::GetFolderResponse response;
    pending.read(response);
    return response.folder().folder_id();
  }

  static Error error_of(const Pending& pending) {
    EXPECT_TRUE(pending.wait_until(Clock::now() + kSoon));
    v1::GetFolderResponse response;
    try {
      pending.read(response);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "it did not fail";
    return Error(grpc::StatusCode::OK, "");
  }

  FakeServer server;
  std::string address = server.address();
  std::string token = "token";
  Link link{[this] { return dial(address); }};
  Timer timer;
  Multiplexer multiplexer{link, timer, std::chrono::milliseconds(700), [this] { return token; }};
};

TEST_F(MultiplexerTest, AMessageHasAtMost256Operations) {
  const auto started = start(600, false);
  const auto call = server.call();
  std::vector<v1::Operation> seen;
  while (seen.size() < 600) {
    const auto request = call->next();
    ASSERT_TRUE(request);
    EXPECT_LE(request->operations_size(), 256);
    seen.insert(seen.end(), request->operations().begin(), request->operations().end());
  }
  EXPECT_EQ(folders_of(seen), counting(1, 600));
  call->answer(seen);
  for (std::size_t i = 0; i < started.size(); ++i) EXPECT_EQ(folder_of(*started[i]), i + 1);
}

TEST_F(MultiplexerTest, AMessageHasAtMost1MiB) {
  v1::AppendMessageRequest request;
  request.set_content(std::string(300 << 10, 'x'));
  std::vector<std::shared_ptr<Pending>> started;
  for (int i = 0; i < 10; ++i) {
    started.push_back(made(request));
    multiplexer.start(started.back(), true, false);
  }
  const auto call = server.call();
  std::vector<v1::Operation> seen;
  while (seen.size() < 10) {
    const auto message = call->next();
    ASSERT_TRUE(message);
    EXPECT_LE(message->ByteSizeLong(), std::size_t{1} << 20);
    EXPECT_LE(message->operations_size(), 3);
    seen.insert(seen.end(), message->operations().begin(), message->operations().end());
  }
  call->answer(seen);
  v1::AppendMessageResponse response;
  for (const auto& each : started) {
    EXPECT_TRUE(each->wait_until(Clock::now() + kSoon));
    each->read(response);
  }
}

TEST_F(MultiplexerTest, AnOperationAbove1MiBIsRefused) {
  v1::AppendMessageRequest request;
  request.set_content(std::string(1 << 20, 'x'));
  const auto operation = made(request);
  multiplexer.start(operation, true, true);
  EXPECT_EQ(error_of(*operation).code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(server.call(kAWhile), nullptr);
}

TEST_F(MultiplexerTest, AtMost1000AreInFlight) {
  const auto started = start(1'300, false);
  const auto call = server.call();
  auto seen = call->operations(1'000);
  EXPECT_EQ(folders_of(seen), counting(1, 1'000));
  call->answer(seen);
  seen = call->operations(300);
  EXPECT_EQ(folders_of(seen), counting(1'001, 300));
  call->answer(seen);
  EXPECT_EQ(folder_of(*started.back()), 1'300);
}

TEST_F(MultiplexerTest, AtMost64OfASessionAreInFlightAndOthersPass) {
  const auto started = start(100, true);
  const auto call = server.call();
  auto seen = call->operations(64);
  EXPECT_EQ(folders_of(seen), counting(1, 64));
  EXPECT_EQ(seen.front().session_token(), "token");

  v1::GetMechanismsRequest other;
  const auto passing = made(other);
  multiplexer.start(passing, false, true);
  const auto next = call->next();
  ASSERT_TRUE(next);
  ASSERT_EQ(next->operations_size(), 1);
  EXPECT_TRUE(next->operations(0).has_get_mechanisms());
  EXPECT_EQ(next->operations(0).session_token(), "");

  call->answer({seen[0], seen[1]});
  const auto two = call->operations(2);
  EXPECT_EQ(folders_of(two), counting(65, 2));
  seen.erase(seen.begin(), seen.begin() + 2);
  call->answer(seen);
  call->answer(two);
  const auto rest = call->operations(34);
  EXPECT_EQ(folders_of(rest), counting(67, 34));
  call->answer(rest);
  for (std::size_t i = 0; i < started.size(); ++i) EXPECT_EQ(folder_of(*started[i]), i + 1);
}

TEST_F(MultiplexerTest, WhatAStreamLostIsSentAgainInOrder) {
  const auto started = start(100, true);
  const auto first = server.call();
  EXPECT_EQ(first->operations(64).size(), 64);
  first->end(grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone"));
  const auto second = server.call();
  ASSERT_TRUE(second);
  auto seen = second->operations(64);
  EXPECT_EQ(folders_of(seen), counting(1, 64));
  second->answer(seen);
  seen = second->operations(36);
  EXPECT_EQ(folders_of(seen), counting(65, 36));
  second->answer(seen);
  EXPECT_EQ(folder_of(*started.front()), 1);
  EXPECT_EQ(folder_of(*started.back()), 100);
}

TEST_F(MultiplexerTest, WhatMustNotHappenTwiceIsNotSentAgain) {
  const auto once = made(v1::ChangePasswordRequest());
  multiplexer.start(once, true, true);
  const auto first = server.call();
  ASSERT_TRUE(first->next());
  first->end(grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone"));
  const Error error = error_of(*once);
  EXPECT_EQ(error.code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(error.message(), "gone");
  EXPECT_EQ(server.call(kAWhile), nullptr);
}

TEST_F(MultiplexerTest, AnOperationIsSentAgainOnlyAsLongAsItIsPatient) {
  const auto started = start(1, true);
  int calls = 0;
  while (!started[0]->done()) {
    if (const auto call = server.call(kAWhile)) {
      ++calls;
      call->end(grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone"));
    }
  }
  EXPECT_EQ(error_of(*started[0]).code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_GE(calls, 3);
}

TEST_F(MultiplexerTest, AStreamThatIsRefusedFailsWhatWaits) {
  const auto started = start(2, true);
  server.call()->end(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no batches here"));
  for (const auto& each : started) EXPECT_EQ(error_of(*each).code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(MultiplexerTest, AServerThatIsAwayIsWaitedForPatiently) {
  address = "127.0.0.1:1";  // nobody listens there
  const auto began = Clock::now();
  const auto started = start(1, true);
  EXPECT_EQ(error_of(*started[0]).code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_GE(Clock::now() - began, std::chrono::milliseconds(600));
}

TEST_F(MultiplexerTest, AStreamThatDrainsFinishesWhatItHasOnItsConnection) {
  const auto started = start(2, true);
  const auto first = server.call();
  const auto seen = first->operations(2);
  ASSERT_EQ(seen.size(), 2);
  first->answer({seen[0]}, true);
  EXPECT_EQ(folder_of(*started[0]), 1);

  const auto later = start(1, true, true, 3);
  const auto second = server.call();
  ASSERT_TRUE(second);
  EXPECT_NE(second->peer(), first->peer());
  const auto fresh = second->operations(1);
  EXPECT_EQ(folders_of(fresh), counting(3, 1));
  second->answer(fresh);
  EXPECT_EQ(folder_of(*later[0]), 3);

  EXPECT_FALSE(started[1]->done());
  first->answer({seen[1]});
  EXPECT_EQ(folder_of(*started[1]), 2);
  EXPECT_TRUE(first->closed());
  first->end(grpc::Status::OK);
}

TEST_F(MultiplexerTest, OrderIsKeptFromOneStreamToTheNext) {
  const auto first = start(1, true, false, 1);
  const auto witness = start(1, true, true, 9);
  const auto draining = server.call();
  const auto seen = draining->operations(2);
  ASSERT_EQ(seen.size(), 2);
  draining->answer({seen[1]}, true);
  EXPECT_EQ(folder_of(*witness[0]), 9);  // so the client knows that the stream drains

  const auto second = start(1, true, false, 2);
  const auto independent = start(1, true, true, 3);
  const auto next = server.call();
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->next(kAWhile)) << "the lane waits as a whole, in order";
  draining->answer({seen[0]});
  EXPECT_EQ(folder_of(*first[0]), 1);
  const auto rest = next->operations(2);
  EXPECT_EQ(folders_of(rest), counting(2, 2));
  EXPECT_FALSE(rest[0].independent());
  EXPECT_TRUE(rest[1].independent());
  next->answer(rest);
  EXPECT_EQ(folder_of(*second[0]), 2);
  EXPECT_EQ(folder_of(*independent[0]), 3);
  draining->end(grpc::Status::OK);
}

TEST_F(MultiplexerTest, AnOperationThatIsAbandonedIsCancelledAndKeepsItsPlace) {
  const auto started = start(65, true);
  const auto call = server.call();
  const auto seen = call->operations(64);
  ASSERT_EQ(seen.size(), 64);
  multiplexer.abandon(*started[0], cancelled_error());
  EXPECT_EQ(error_of(*started[0]).code(), grpc::StatusCode::CANCELLED);
  const auto request = call->next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->operations_size(), 0);
  ASSERT_EQ(request->cancel_operation_ids_size(), 1);
  EXPECT_EQ(request->cancel_operation_ids(0), seen[0].operation_id());
  EXPECT_FALSE(call->next(kAWhile)) << "the server still counts it";
  call->answer({seen[0]});
  EXPECT_EQ(folders_of(call->operations(1)), counting(65, 1));
}

TEST_F(MultiplexerTest, AnOperationThatWaitsIsAbandonedWithoutBeingSent) {
  const auto started = start(66, true);
  const auto call = server.call();
  const auto seen = call->operations(64);
  multiplexer.abandon(*started[64], cancelled_error());
  call->answer(seen);
  EXPECT_EQ(folders_of(call->operations(1)), counting(66, 1));
}

TEST_F(MultiplexerTest, AResultOfAnotherKindIsAnError) {
  const auto started = start(1, true);
  const auto call = server.call();
  const auto seen = call->operations(1);
  v1::ExecuteResponse response;
  auto* result = response.add_results();
  result->set_operation_id(seen[0].operation_id());
  result->mutable_logoff();
  call->answer(response);
  EXPECT_EQ(error_of(*started[0]).code(), grpc::StatusCode::INTERNAL);
}

TEST_F(MultiplexerTest, ClosingFailsWhatHasNotBeenAnswered) {
  const auto started = start(65, true);
  const auto call = server.call();
  EXPECT_EQ(call->operations(64).size(), 64);
  multiplexer.close();
  for (const auto& each : started) EXPECT_EQ(error_of(*each).code(), grpc::StatusCode::CANCELLED);
  const auto late = start(1, true);
  EXPECT_EQ(error_of(*late[0]).message(), "The client was closed.");
}

}  // namespace

}  // namespace restante::detail
