//go:build unix

// Command bench reads mail from a running server, by the SDK or by the bare generated stubs, and prints what a message
// costs this process: see tests/bench/sdk.py for the loads.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/restante/restante/clients/go/restante"
	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const (
	batchMessages    = 20 // of one BatchGetMessages in the load batch_get
	waitingOfExecute = 32 // operations that wait together in the load execute, each for one message
)

var columns = []restantev1.MessageColumn{
	restantev1.MessageColumn_MESSAGE_COLUMN_FLAGS, restantev1.MessageColumn_MESSAGE_COLUMN_SIZE,
	restantev1.MessageColumn_MESSAGE_COLUMN_SUMMARY,
}

var whole = []*restantev1.Section{{Kind: restantev1.SectionKind_SECTION_KIND_WHOLE}}

// load reads some messages, and tells how many.
type load func(context.Context) (int, error)

func main() {
	log.SetFlags(0)
	target := flag.String("target", "", "HOST:PORT of the server")
	ca := flag.String("ca", "", "PEM file of the certificate to trust")
	user := flag.String("user", "", "address of an account with mail in its Inbox")
	password := flag.String("password", "", "its password")
	seconds := flag.Float64("seconds", 5, "how long to read")
	mode := flag.String("mode", "sdk", "sdk or bare")
	name := flag.String("load", "batch_get", "batch_get, execute or stream")
	flag.Parse()

	tls, err := restante.TrustCA(*ca)
	must(err)
	config := restante.Config{Address: *target, TLS: tls}
	ctx := context.Background()
	client, err := restante.LogOn(ctx, config, *user, *password)
	must(err)
	ids, err := inbox(ctx, client)
	must(err)
	if len(ids) == 0 {
		log.Fatal("the Inbox is empty")
	}
	reading, err := chosen(ctx, *mode, *name, client, config, ids)
	must(err)

	_, err = during(ctx, reading, *seconds/5) // warm-up
	must(err)
	cpu, began := cpuSeconds(), time.Now()
	messages, err := during(ctx, reading, *seconds)
	must(err)
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"language": "Go", "mode": *mode, "load": *name, "messages": messages,
		"seconds": time.Since(began).Seconds(), "cpu_seconds": cpuSeconds() - cpu,
	}))
	must(client.Close())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func during(ctx context.Context, reading load, seconds float64) (int, error) {
	until, messages := time.Now().Add(time.Duration(seconds*float64(time.Second))), 0
	for time.Now().Before(until) {
		count, err := reading(ctx)
		if err != nil {
			return 0, err
		}
		messages += count
	}
	return messages, nil
}

// cpuSeconds is what this process has used.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// inbox are the ids of the messages in the Inbox.
func inbox(ctx context.Context, client *restante.Client) ([]int64, error) {
	folder, err := client.Folders().GetFolder(ctx, &restantev1.GetFolderRequest{Role: restantev1.FolderRole_FOLDER_ROLE_INBOX})
	if err != nil {
		return nil, err
	}
	var ids []int64
	request := &restantev1.QueryMessagesRequest{FolderId: folder.GetFolder().GetFolderId(), PageSize: 1_000}
	for page, err := range restante.Pages(ctx, client.Messages().QueryMessages, request) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, page.GetRows().GetMessageIds()...)
	}
	return ids, nil
}

func chosen(
	ctx context.Context, mode, name string, client *restante.Client, config restante.Config, ids []int64,
) (load, error) {
	bare, err := config.Dial()
	if err != nil {
		return nil, err
	}
	turns := &turns{ids: ids}
	authorized := restante.Authorize(ctx, client.Token())
	switch mode + " " + name {
	case "sdk batch_get":
		return batchGet(client, turns), nil
	case "bare batch_get":
		stub := batchGet(bare, turns)
		return func(context.Context) (int, error) { return stub(authorized) }, nil
	case "sdk execute":
		return executeBySDK(client, turns), nil
	case "bare execute":
		return executeByStub(authorized, bare, client.Token(), turns)
	case "sdk stream":
		return streamBySDK(client, ids), nil
	case "bare stream":
		return streamByStub(authorized, bare, ids), nil
	}
	return nil, fmt.Errorf("there is no load %q in mode %q", name, mode)
}

// turns gives ids, round and round.
type turns struct {
	ids  []int64
	next int
}

func (t *turns) take(count int) []int64 {
	taken := make([]int64, 0, count)
	for range min(count, len(t.ids)) {
		taken = append(taken, t.ids[t.next])
		t.next = (t.next + 1) % len(t.ids)
	}
	return taken
}

func (t *turns) request(count int) *restantev1.BatchGetMessagesRequest {
	return &restantev1.BatchGetMessagesRequest{
		Messages: byID(t.take(count)), Columns: columns,
	}
}

func batchGet(by grpc.ClientConnInterface, turns *turns) load {
	stub := restantev1.NewMessageServiceClient(by)
	return func(ctx context.Context) (int, error) {
		answer, err := stub.BatchGetMessages(ctx, turns.request(batchMessages))
		return len(answer.GetRows().GetMessageIds()), err
	}
}

func executeBySDK(client *restante.Client, turns *turns) load {
	return func(ctx context.Context) (int, error) {
		var operations [waitingOfExecute]*restante.Operation
		var answers [waitingOfExecute]restantev1.BatchGetMessagesResponse
		for i := range operations {
			path := restantev1.MessageService_BatchGetMessages_FullMethodName
			operations[i] = client.Go(ctx, path, turns.request(1), &answers[i], restante.Independent)
		}
		messages := 0
		for i, operation := range operations {
			if err := operation.Wait(); err != nil {
				return 0, err
			}
			messages += len(answers[i].GetRows().GetMessageIds())
		}
		return messages, nil
	}
}

func executeByStub(ctx context.Context, bare *grpc.ClientConn, token []byte, turns *turns) (load, error) {
	stream, err := restantev1.NewBatchServiceClient(bare).Execute(ctx)
	if err != nil {
		return nil, err
	}
	lastID := int64(0)
	return func(context.Context) (int, error) {
		request := &restantev1.ExecuteRequest{}
		for range waitingOfExecute {
			lastID++
			request.Operations = append(request.Operations, &restantev1.Operation{
				OperationId: lastID, SessionToken: token, Independent: true, TimeoutMilliseconds: 30_000,
				Request: &restantev1.Operation_BatchGetMessages{BatchGetMessages: turns.request(1)},
			})
		}
		if err := stream.Send(request); err != nil {
			return 0, err
		}
		messages := 0
		for answered := 0; answered < waitingOfExecute; {
			response, err := stream.Recv()
			if err != nil {
				return 0, err
			}
			for _, result := range response.GetResults() {
				if err := restante.FromStatus(result.GetStatus()); err != nil {
					return 0, err
				}
				messages += len(result.GetBatchGetMessages().GetRows().GetMessageIds())
				answered++
			}
		}
		return messages, nil
	}, nil
}

func streamRequest(ids []int64) *restantev1.StreamMessagesRequest {
	return &restantev1.StreamMessagesRequest{
		Messages: byID(ids[:min(len(ids), 1_000)]), Columns: columns, Sections: whole,
	}
}

func streamBySDK(client *restante.Client, ids []int64) load {
	return func(ctx context.Context) (int, error) {
		messages := 0
		for batch, err := range client.StreamMessages(ctx, streamRequest(ids)) {
			if err != nil {
				return 0, err
			}
			messages += len(batch.GetMessageIds())
		}
		return messages, nil
	}
}

func streamByStub(ctx context.Context, bare *grpc.ClientConn, ids []int64) load {
	stub := restantev1.NewMessageServiceClient(bare)
	return func(context.Context) (int, error) {
		stream, err := stub.StreamMessages(ctx, streamRequest(ids))
		if err != nil {
			return 0, err
		}
		messages := 0
		for {
			response, err := stream.Recv()
			if err == io.EOF {
				return messages, nil
			}
			if err != nil {
				return 0, err
			}
			messages += len(response.GetRows().GetMessageIds())
		}
	}
}

func byID(ids []int64) *restantev1.MessageSet {
	return &restantev1.MessageSet{Messages: &restantev1.MessageSet_Ids{Ids: &restantev1.MessageIdSet{MessageIds: ids}}}
}
