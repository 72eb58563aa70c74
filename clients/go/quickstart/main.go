// Command quickstart logs on, lists the Inbox, sends oneself a message with an attachment and waits for it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/restante/restante/clients/go/restante"
	v1 "github.com/restante/restante/clients/go/restante/v1"
)

func main() {
	ctx, user, password := context.Background(), "alice@example.test", "alice-demo"
	config := restante.Config{Address: os.Args[1], TLS: must(restante.TrustCA(os.Args[2]))}
	client := must(restante.LogOn(ctx, config, user, password))
	defer client.Close()
	inbox := must(client.Folder(ctx, "INBOX"))
	columns := []v1.MessageColumn{v1.MessageColumn_MESSAGE_COLUMN_SUMMARY}
	query := &v1.QueryMessagesRequest{FolderId: inbox.FolderId, Columns: columns}
	for page, err := range restante.Pages(ctx, client.Messages().QueryMessages, query) {
		for message := range restante.Rows(must(page, err).Rows) {
			fmt.Println(message.ID, message.Summary.Subject)
		}
	}
	files := []restante.File{{Name: "hello.txt", Content: []byte("Hello!\n")}}
	must(client.Send(ctx, restante.Mail{To: []string{user}, Subject: "Hello from Go", Text: "See the file.", Files: files}))
	for event, err := range client.Watch(ctx, inbox.FolderId, restante.WatchOptions{Since: inbox.ChangeNumber}) {
		if ids := must(event, err).Changes.MessageIds; len(ids) > 0 {
			fmt.Printf("arrived: message %d\n%s", ids[0], must(client.ReadContent(ctx, ids[0], nil)))
			return
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
