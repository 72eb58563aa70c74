// Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it.
#include <restante/restante.h>

#include <iostream>

namespace v1 = restante::v1;

int main(int, char** arguments) try {
  const std::string user = "alice@example.test", password = "alice-demo";
  restante::Config config;
  config.address = arguments[1];
  config.root_certificates = restante::read_pem(arguments[2]);
  auto client = restante::Client::log_on(config, user, password);

  v1::GetFolderRequest wanted;
  wanted.set_role(v1::FOLDER_ROLE_INBOX);
  const v1::Folder inbox = client.call(wanted).folder();
  v1::QueryMessagesRequest query;
  query.set_folder_id(inbox.folder_id());
  query.add_columns(v1::MESSAGE_COLUMN_SUMMARY);
  for (const auto& page : client.pages(query))
    for (const auto row : restante::Rows(page.rows()))
      std::cout << row.message_id() << " " << row.summary().subject() << "\n";

  v1::SubmitMessageRequest mail;
  mail.mutable_draft()->add_to()->set_address(user);
  mail.mutable_draft()->set_subject("Hello from C++");
  v1::Attachment& file = *mail.mutable_draft()->add_attachments();
  file.set_file_name("hello.txt");
  file.set_media_type("text/plain");
  file.set_content("Hello!\n");
  client.call(mail);

  restante::WatchOptions since;
  since.since = inbox.change_number();
  for (auto watch = client.watch(inbox.folder_id(), since); const auto event = watch.next();) {
    if (event->changes.message_ids().empty()) continue;
    const auto id = event->changes.message_ids(0);
    std::cout << "arrived: message " << id << "\n" << client.read_content(id);
    return 0;
  }
} catch (const restante::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
