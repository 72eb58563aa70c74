// The parts that know no network.
#include <gtest/gtest.h>

#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "message_set.h"
#include "repeatable.h"
#include "restante/restante.h"
#include "restante/v1/sync.pb.h"
#include "retry.h"
#include "wire.h"

namespace restante::detail {

namespace {

using std::chrono::milliseconds;

// --- Envelopes ---

TEST(Wire, AnOperationReadsAsTheContractSays) {
  v1::GetFolderRequest folder;
  folder.set_folder_id(1234567890123);
  std::string body;
  append_octets(body, v1::Operation::kGetFolderFieldNumber, folder.SerializeAsString());
  OperationHead head;
  head.id = 300;
  head.token = "a token";
  head.timeout = milliseconds(1'500);
  head.independent = true;
  std::string octets;
  append_operation(octets, head, body);
  append_cancel(octets, 299);
  append_operation(octets, OperationHead{1, {}, std::nullopt, false}, body);

  v1::ExecuteRequest read;
  ASSERT_TRUE(read.ParseFromString(octets));
  ASSERT_EQ(read.operations_size(), 2);
  v1::Operation wanted;
  wanted.set_operation_id(300);
  wanted.set_session_token("a token");
  wanted.set_timeout_milliseconds(1'500);
  wanted.set_independent(true);
  *wanted.mutable_get_folder() = folder;
  EXPECT_EQ(read.operations(0).SerializeAsString(), wanted.SerializeAsString());
  EXPECT_EQ(read.operations(1).timeout_milliseconds(), 0);
  EXPECT_EQ(read.operations(1).get_folder().folder_id(), 1234567890123);
  EXPECT_EQ(read.cancel_operation_ids(0), 299);
}

TEST(Wire, ATimeoutIsWithinWhatTheContractAllows) {
  for (const auto& [given, sent] : {std::pair(-5, 1), std::pair(0, 1), std::pair(700'000, 600'000)}) {
    std::string octets;
    append_operation(octets, OperationHead{1, {}, milliseconds(given), false}, {});
    v1::ExecuteRequest read;
    ASSERT_TRUE(read.ParseFromString(octets));
    EXPECT_EQ(read.operations(0).timeout_milliseconds(), sent);
  }
}

TEST(Wire, AResponseIsReadWithoutACopy) {
  v1::ExecuteResponse response;
  auto* first = response.add_results();
  first->set_operation_id(1'000'000'000'000);
  first->mutable_get_folder()->mutable_folder()->set_display_name("Work");
  auto* second = response.add_results();
  second->set_operation_id(2);
  second->mutable_status()->set_code(5);
  response.add_results()->mutable_logoff();
  response.set_draining(true);
  const std::string octets = response.SerializeAsString();

  Response read;
  ASSERT_TRUE(read_response(octets, read));
  EXPECT_TRUE(read.draining);
  ASSERT_EQ(read.results.size(), 3);
  EXPECT_EQ(read.results[0].id, 1'000'000'000'000);
  EXPECT_EQ(read.results[0].field, v1::OperationResult::kGetFolderFieldNumber);
  EXPECT_FALSE(read.results[0].status);
  EXPECT_EQ(read.results[0].response, first->get_folder().SerializeAsString());
  EXPECT_EQ(read.results[1].status, second->status().SerializeAsString());
  EXPECT_EQ(read.results[1].field, 0);
  EXPECT_EQ(read.results[2].field, v1::OperationResult::kLogoffFieldNumber);
  EXPECT_EQ(read.results[2].response, "");
}

TEST(Wire, WhatIsNoResponseIsNotReadAsOne) {
  v1::ExecuteResponse response;
  response.add_results()->mutable_get_folder()->mutable_folder()->set_display_name("Work");
  const std::string octets = response.SerializeAsString();
  for (std::size_t size = 1; size < octets.size(); ++size) {
    Response read;
    EXPECT_FALSE(read_response(std::string_view(octets).substr(0, size), read)) << size;
  }
  Response read;
  EXPECT_FALSE(read_response(std::string_view("\x0f", 1), read)) << "a kind of field that there is not";
  EXPECT_FALSE(read_response(std::string_view("\x00", 1), read)) << "a field without a number";
  EXPECT_FALSE(read_response(std::string(11, '\xff'), read)) << "an integer without an end";
}

TEST(Wire, FieldsThatAreNotKnownArePassedOver) {
  std::string octets = "\x79";  // 15: 8 octets
  octets += std::string(8, 'x') + "\x7d" + std::string(4, 'x') + "\x78\x01";
  append_octets(octets, 99, "newer");
  octets += std::string("\x10\x01", 2);
  Response read;
  ASSERT_TRUE(read_response(octets, read));
  EXPECT_TRUE(read.draining);
}

// --- Errors ---

TEST(Errors, AStatusOfTheContractIsReadWhole) {
  google::rpc::Status status;
  status.set_code(8);
  status.set_message("Too many.");
  google::rpc::ErrorInfo info;
  info.set_reason("TOO_MANY_OPERATIONS");
  info.set_domain("restante");
  (*info.mutable_metadata())["limit"] = "64";
  status.add_details()->PackFrom(info);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  status.add_details()->PackFrom(retry);
  for (const Error& error : {Error::from(status), Error::from(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                                                           "Too many.", status.SerializeAsString()))}) {
    EXPECT_EQ(error.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(error.reason(), v1::ERROR_REASON_TOO_MANY_OPERATIONS);
    EXPECT_EQ(error.reason_name(), "TOO_MANY_OPERATIONS");
    EXPECT_EQ(error.metadata().at("limit"), "64");
    EXPECT_EQ(error.message(), "Too many.");
    EXPECT_EQ(error.retry_delay(), milliseconds(1'500));
    EXPECT_STREQ(error.what(), "restante: TOO_MANY_OPERATIONS: Too many.");
  }
}

TEST(Errors, AllBadFieldsAreNamed) {
  struct Case {
    std::vector<FieldViolation> violations;
    const char* text;
  };
  const std::vector<Case> cases = {
      {{{"columns", "not known"}}, "restante: INVALID_ARGUMENT: No."},
      {{{"password", "too short"}}, "restante: INVALID_ARGUMENT: No. Bad fields: password (too short)."},
      {{{"columns", "not known"}, {"page_size", "negative"}},
       "restante: INVALID_ARGUMENT: No. Bad fields: columns (not known); page_size (negative)."}};
  for (const auto& [violations, text] : cases) {
    google::rpc::Status status;
    status.set_code(3);
    status.set_message("No.");
    google::rpc::ErrorInfo info;
    info.set_reason("INVALID_ARGUMENT");
    info.set_domain("restante");
    (*info.mutable_metadata())["field"] = "columns";
    status.add_details()->PackFrom(info);
    google::rpc::BadRequest bad;
    for (const FieldViolation& each : violations) {
      auto* added = bad.add_field_violations();
      added->set_field(each.field);
      added->set_description(each.problem);
    }
    status.add_details()->PackFrom(bad);
    const grpc::Status call(grpc::StatusCode::INVALID_ARGUMENT, "No.", status.SerializeAsString());
    for (const Error& error : {Error::from(status), Error::from(call)}) {
      EXPECT_STREQ(error.what(), text);
      ASSERT_EQ(error.violations().size(), violations.size());
      for (std::size_t i = 0; i < violations.size(); ++i) {
        EXPECT_EQ(error.violations()[i].field, violations[i].field);
        EXPECT_EQ(error.violations()[i].problem, violations[i].problem);
      }
    }
  }
}

TEST(Errors, WhatIsNotTheContractsHasNoReason) {
  const Error plain = Error::from(grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost"));
  EXPECT_EQ(plain.reason(), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(plain.reason_name(), "");
  EXPECT_FALSE(plain.retry_delay());
  EXPECT_STREQ(plain.what(), "restante: UNAVAILABLE: lost");

  google::rpc::Status status;
  status.set_code(5);
  google::rpc::ErrorInfo info;
  info.set_reason("FOLDER_NOT_FOUND");
  info.set_domain("elsewhere");
  status.add_details()->PackFrom(info);
  EXPECT_EQ(Error::from(status).reason_name(), "");
}

TEST(Errors, AReasonThatIsNewerHasItsName) {
  google::rpc::Status status;
  status.set_code(9);
  google::rpc::ErrorInfo info;
  info.set_reason("INVENTED_LATER");
  info.set_domain("restante");
  status.add_details()->PackFrom(info);
  EXPECT_EQ(Error::from(status).reason(), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(Error::from(status).reason_name(), "INVENTED_LATER");
}

// --- Repeating ---

Error failing(grpc::StatusCode code, const std::string& reason,
              std::optional<milliseconds> delay = std::nullopt) {
  google::rpc::Status status;
  status.set_code(code);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("restante");
  status.add_details()->PackFrom(info);
  if (delay) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_nanos(static_cast<int>(delay->count()) * 1'000'000);
    status.add_details()->PackFrom(retry);
  }
  return Error::from(status);
}

TEST(Retry, OnlyWhatPassesByItselfIsRepeated) {
  const v1::GetFolderRequest request;
  const auto repeated = [&](const Error& error) {
    return should_repeat(Method::of(request.descriptor()), request, error);
  };
  EXPECT_TRUE(repeated(Error(grpc::StatusCode::UNAVAILABLE, "lost")));
  EXPECT_TRUE(repeated(failing(grpc::StatusCode::UNAVAILABLE, "DRAINING")));
  EXPECT_TRUE(repeated(failing(grpc::StatusCode::UNAVAILABLE, "STORE_BUSY")));
  EXPECT_TRUE(repeated(failing(grpc::StatusCode::UNAVAILABLE, "COMMIT_NOT_REACHED")));
  EXPECT_TRUE(repeated(failing(grpc::StatusCode::RESOURCE_EXHAUSTED, "TOO_MANY_OPERATIONS")));
  EXPECT_FALSE(repeated(failing(grpc::StatusCode::RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")));
  EXPECT_FALSE(repeated(failing(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")));
  EXPECT_FALSE(repeated(failing(grpc::StatusCode::NOT_FOUND, "FOLDER_NOT_FOUND")));
  EXPECT_FALSE(repeated(Error(grpc::StatusCode::DEADLINE_EXCEEDED, "")));
  EXPECT_FALSE(repeated(Error(grpc::StatusCode::CANCELLED, "")));
}

TEST(Retry, WhatMustNotHappenTwiceIsNotRepeated) {
  v1::AuthenticateRequest step;
  EXPECT_TRUE(may_repeat(Method::of(step.descriptor()), step));
  step.set_exchange("the second step");
  EXPECT_FALSE(may_repeat(Method::of(step.descriptor()), step));
  const v1::ChangePasswordRequest change;
  EXPECT_FALSE(may_repeat(Method::of(change.descriptor()), change));
}

TEST(Retry, ThePauseGrowsAndTheServersIsKept) {
  Retry retry(milliseconds(100), milliseconds(400));
  const Error plain(grpc::StatusCode::UNAVAILABLE, "");
  for (const int longest : {100, 200, 400, 400}) {
    const auto delay = retry.delay(plain);
    EXPECT_GE(delay, milliseconds(longest) / 2);
    EXPECT_LE(delay, milliseconds(longest));
  }
  EXPECT_EQ(retry.delay(failing(grpc::StatusCode::UNAVAILABLE, "STORE_BUSY", milliseconds(900))), milliseconds(900));
  retry.worked();
  EXPECT_LE(retry.delay(plain), milliseconds(100));
}

TEST(Retry, ASessionIsRenewedOnce) {
  Retry retry;
  EXPECT_TRUE(retry.renewal());
  EXPECT_FALSE(retry.renewal());
  retry.worked();
  EXPECT_TRUE(retry.renewal());
}

TEST(Retry, AConnectionThatBrokeIsALoss) {
  EXPECT_TRUE(is_loss(Error(grpc::StatusCode::UNAVAILABLE, "")));
  EXPECT_TRUE(is_loss(Error(grpc::StatusCode::INTERNAL, "RST_STREAM")));
  EXPECT_FALSE(is_loss(failing(grpc::StatusCode::INTERNAL, "INTERNAL")));
  EXPECT_FALSE(is_loss(Error(grpc::StatusCode::UNIMPLEMENTED, "")));
}

// --- Methods ---

TEST(Methods, EveryOperationOfABatchIsOneOfTheMethods) {
  const auto* requests = v1::Operation::descriptor()->FindOneofByName("request");
  for (int i = 0; i < requests->field_count(); ++i) {
    const auto& method = Method::of(requests->field(i)->message_type());
    EXPECT_EQ(method.operation_field, requests->field(i)->number());
    EXPECT_EQ(method.result_field, method.operation_field) << method.path;
  }
  EXPECT_GT(requests->field_count(), 50);
}

TEST(Methods, AreFoundByName) {
  const auto* method = Method::find("FolderService/CreateFolder");
  ASSERT_NE(method, nullptr);
  EXPECT_EQ(method->path, "/restante.v1.FolderService/CreateFolder");
  EXPECT_EQ(method->request, v1::CreateFolderRequest::descriptor());
  EXPECT_NE(method->request_id, nullptr);
  EXPECT_NE(method->commit, nullptr);
  EXPECT_EQ(method->min_commit, nullptr);
  EXPECT_EQ(Method::find("BatchService/ExecuteOnce")->operation_field, 0);
  EXPECT_EQ(Method::find("BatchService/Execute"), nullptr);
  EXPECT_THROW(Method::of(v1::WatchRequest::descriptor()), std::invalid_argument);
}

// --- Cancelling ---

TEST(Cancelling, FunctionsAreCalledOnceAndNotAfterTheirEnd) {
  const Cancellation cancellation;
  int kept = 0, dropped = 0;
  const auto registration = cancellation.on_cancel([&] { ++kept; });
  { const auto gone = cancellation.on_cancel([&] { ++dropped; }); }
  EXPECT_FALSE(cancellation.cancelled());
  EXPECT_FALSE(cancellation.wait_for(milliseconds(1)));
  const Cancellation copy = cancellation;
  copy.cancel();
  copy.cancel();
  EXPECT_TRUE(cancellation.cancelled());
  EXPECT_EQ(kept, 1);
  EXPECT_EQ(dropped, 0);
  int late = 0;
  const auto at_once = cancellation.on_cancel([&] { ++late; });
  EXPECT_EQ(late, 1);
}

TEST(Cancelling, TheEndOfARegistrationWaitsForItsFunction) {
  const Cancellation cancellation;
  std::atomic<bool> begun = false, ended = false;
  std::optional registration = cancellation.on_cancel([&] {
    begun = true;
    std::this_thread::sleep_for(milliseconds(50));
    ended = true;
  });
  std::thread canceller([&] { cancellation.cancel(); });
  while (!begun) std::this_thread::yield();
  registration.reset();
  EXPECT_TRUE(ended);
  canceller.join();
}

TEST(Cancelling, AWaitEndsEarly) {
  const Cancellation cancellation;
  std::thread canceller([&] { cancellation.cancel(); });
  EXPECT_TRUE(cancellation.wait_for(std::chrono::seconds(10)));
  canceller.join();
}

// --- Sets and rows ---

TEST(Sets, WhatHasBeenToldIsPassedOver) {
  v1::MessageSet by_uid;
  by_uid.mutable_uids()->set_folder_id(7);
  for (const auto& [first, last] : {std::pair(1, 4), std::pair(6, 6), std::pair(9, 20)}) {
    auto* range = by_uid.mutable_uids()->add_ranges();
    range->set_first(first);
    range->set_last(last);
  }
  v1::MessageRows told;
  for (const int uid : {2, 6, 11}) {
    told.add_uids(uid);
    told.add_message_ids(30 - uid);
  }
  auto left = behind(by_uid, told);
  EXPECT_EQ(left.uids().folder_id(), 7);
  ASSERT_EQ(left.uids().ranges_size(), 1);
  EXPECT_EQ(left.uids().ranges(0).first(), 12);
  EXPECT_EQ(left.uids().ranges(0).last(), 20);
  EXPECT_FALSE(finished(left));
  told.add_uids(20);
  told.add_message_ids(10);
  EXPECT_TRUE(finished(behind(by_uid, told)));

  v1::MessageSet by_id;
  for (const int id : {9, 3, 5}) by_id.mutable_ids()->add_message_ids(id);
  v1::MessageRows rows;
  rows.add_message_ids(5);
  left = behind(by_id, rows);
  ASSERT_EQ(left.ids().message_ids_size(), 1);
  EXPECT_EQ(left.ids().message_ids(0), 9);
}

TEST(Sets, MatchingMessagesGoOnBehindTheLastOneTold) {
  v1::MessageRows told;
  told.add_uids(6);
  told.add_message_ids(14);
  for (const int folder : {0, 7}) {
    v1::MessageSet set;
    set.mutable_matching()->set_folder_id(folder);
    set.mutable_matching()->set_below(20);
    set.mutable_matching()->mutable_restriction()->mutable_flags()->set_mask(1);
    const auto left = behind(set, told);
    EXPECT_EQ(left.matching().folder_id(), folder);
    EXPECT_EQ(left.matching().above(), folder == 0 ? 14 : 6);
    EXPECT_EQ(left.matching().below(), 20);
    EXPECT_EQ(left.matching().restriction().flags().mask(), 1);
    EXPECT_FALSE(finished(left));
  }
}

TEST(Sets, ACutCellIsPutTogether) {
  v1::MessageRows batch;
  for (int i = 0; i < 2; ++i) {
    auto* cells = batch.add_sections();
    cells->add_octets("whole");
    cells->add_total_octets(5);
    cells->add_octets("cut");
    cells->add_total_octets(i == 0 ? 3 : 9);
  }
  EXPECT_FALSE(whole(batch));
  v1::SectionRest rest;
  rest.set_section_index(1);
  rest.set_octets(" short");
  join(batch, rest);
  EXPECT_TRUE(whole(batch));
  EXPECT_EQ(batch.sections(1).octets(1), "cut short");
  rest.set_section_index(2);
  join(batch, rest);  // of no section that is here
  EXPECT_EQ(batch.sections(0).octets(1), "cut");
}

TEST(Rows, AColumnThatWasNotAskedForReadsAsNothing) {
  v1::MessageRows batch;
  batch.add_message_ids(5);
  batch.add_message_ids(6);
  batch.add_flags(0);
  batch.add_flags(v1::FLAG_SEEN | v1::FLAG_DRAFT);
  batch.add_keyword_table();
  batch.add_keyword_table()->add_keywords("$Junk");
  batch.add_keyword_sets(0);
  batch.add_keyword_sets(1);
  auto* cells = batch.add_sections();
  for (const int total : {-1, 2}) {
    cells->add_octets(total < 0 ? "" : "ab");
    cells->add_total_octets(total);
  }
  std::vector<std::int64_t> ids;
  for (const auto row : restante::Rows(batch)) ids.push_back(row.message_id());
  EXPECT_EQ(ids, (std::vector<std::int64_t>{5, 6}));
  const Row first(batch, 0), second(batch, 1);
  EXPECT_FALSE(first.seen());
  EXPECT_TRUE(second.seen());
  EXPECT_TRUE(first.keywords().empty());
  EXPECT_EQ(second.keywords().Get(0), "$Junk");
  EXPECT_EQ(first.section(0), nullptr);
  EXPECT_EQ(*second.section(0), "ab");
  EXPECT_EQ(second.section(1), nullptr);
  EXPECT_EQ(first.uid(), 0);
  EXPECT_EQ(first.preview(), "");
  EXPECT_EQ(first.summary().subject(), "");
}

// --- Configuration ---

v1::MessagePart part(const std::string& media_type, const std::vector<int>& number, bool attachment = false) {
  v1::MessagePart made;
  made.set_media_type(media_type);
  for (const int each : number) made.add_part(each);
  made.set_attachment(attachment);
  return made;
}

v1::MessagePart tree() {
  v1::MessagePart texts = part("multipart/alternative", {1});
  *texts.add_parts() = part("text/plain", {1, 1});
  *texts.add_parts() = part("text/html", {1, 2});
  v1::MessagePart embedded = part("message/rfc822", {2}, true);
  *embedded.add_parts() = part("text/csv", {2, 1}, true);
  v1::MessagePart root = part("multipart/mixed", {});
  *root.add_parts() = texts;
  *root.add_parts() = embedded;
  *root.add_parts() = part("text/plain", {3}, true);
  return root;
}

TEST(Parts, AreThoseOfTheMessageItself) {
  const v1::MessagePart root = tree();
  std::vector<std::vector<int>> numbers;
  for (const auto* each : parts_of(root)) numbers.emplace_back(each->part().begin(), each->part().end());
  EXPECT_EQ(numbers, (std::vector<std::vector<int>>{{}, {1}, {1, 1}, {1, 2}, {2}, {3}}));
  std::vector<std::string> types;
  for (const auto* each : attachments(root)) types.push_back(each->media_type());
  EXPECT_EQ(types, (std::vector<std::string>{"message/rfc822", "text/plain"}));
}

TEST(Parts, AreFoundByTheirMediaType) {
  const v1::MessagePart root = tree();
  EXPECT_EQ(find_part(root, "text/plain"), &root.parts(0).parts(0));
  EXPECT_EQ(find_part(root, "text/csv"), nullptr);
  const v1::MessagePart single = part("text/html", {1});
  EXPECT_EQ(find_part(single, "text/html"), &single);
}

TEST(Configuration, AFileWithoutACertificateIsRefused) {
  EXPECT_THROW(read_pem("/nowhere/ca.pem"), std::ios_base::failure);
  EXPECT_THROW(read_pem("/dev/null"), std::invalid_argument);
}

TEST(Configuration, CodesHaveTheirNames) {
  EXPECT_EQ(code_name(grpc::StatusCode::OK), "OK");
  EXPECT_EQ(code_name(grpc::StatusCode::CANCELLED), "CANCELLED");
  EXPECT_EQ(code_name(grpc::StatusCode::OUT_OF_RANGE), "OUT_OF_RANGE");
  EXPECT_EQ(code_name(grpc::StatusCode::UNAUTHENTICATED), "UNAUTHENTICATED");
}

}  // namespace

}  // namespace restante::detail
