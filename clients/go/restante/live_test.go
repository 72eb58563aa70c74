//go:build live

package restante

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// These tests run against a demo that tests/clients/go/test_go.py starts, and cover what the conformance scenario,
// which knows no language, does not.

const user, password = "carol@example.test", "carol-demo"

func live(t *testing.T) (context.Context, *Client, *restantev1.Folder) {
	t.Helper()
	tls, err := TrustCA(os.Getenv("RESTANTE_TEST_CA"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	client, err := LogOn(ctx, Config{Address: os.Getenv("RESTANTE_TEST_TARGET"), TLS: tls}, user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	answer, err := client.Folders().GetFolder(ctx, &restantev1.GetFolderRequest{Role: restantev1.FolderRole_FOLDER_ROLE_INBOX})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, client, answer.GetFolder()
}

// appended adds a message whose size is some octets, and returns its id and octets.
func appended(t *testing.T, ctx context.Context, client *Client, folder *restantev1.Folder, size int) (int64, []byte) {
	t.Helper()
	octets := []byte("From: carol@example.test\r\nSubject: Kept\r\n\r\n")
	for line := 0; len(octets) < size; line++ {
		octets = fmt.Appendf(octets, "Line %d of a message that is read again.\r\n", line)
	}
	upload, err := client.Upload(ctx, restantev1.UploadKind_UPLOAD_KIND_MESSAGE, bytes.NewReader(octets))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Messages().AppendMessage(ctx, &restantev1.AppendMessageRequest{
		FolderId: folder.GetFolderId(), UploadId: upload.GetUploadId(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetMessageId(), octets
}

func TestLiveStreamedCellsAreWhole(t *testing.T) {
	ctx, client, inbox := live(t)
	want := map[int64][]byte{}
	for _, size := range []int{100, 700_000, 3_000, 2_000_000, 50} {
		id, octets := appended(t, ctx, client, inbox, size)
		want[id] = octets
	}
	request := &restantev1.StreamMessagesRequest{
		Messages: uidSet(inbox.GetFolderId(), &restantev1.IdRange{First: inbox.GetUidNext(), Last: 1 << 31}),
		Sections: []*restantev1.Section{
			{Kind: restantev1.SectionKind_SECTION_KIND_WHOLE}, {Kind: restantev1.SectionKind_SECTION_KIND_WHOLE, Part: []int32{7}},
		},
	}
	for batch, err := range client.StreamMessages(ctx, request) {
		if err != nil {
			t.Fatal(err)
		}
		for row := range Rows(batch) {
			if !bytes.Equal(row.Sections[0], want[row.ID]) || row.Sections[1] != nil {
				t.Errorf("message %d has %d octets, and %d of a part that it has not", row.ID, len(row.Sections[0]), len(row.Sections[1]))
			}
			delete(want, row.ID)
		}
	}
	if len(want) != 0 {
		t.Errorf("%d messages did not come", len(want))
	}
	for _, err := range client.StreamMessages(ctx, request) {
		if err != nil {
			t.Fatal(err)
		}
		break // ends the call, too
	}
}

func TestLiveContentIsReadInPieces(t *testing.T) {
	ctx, client, inbox := live(t)
	id, octets := appended(t, ctx, client, inbox, 700_000)
	content := client.OpenContent(ctx, id, nil)
	if size, err := content.Size(); err != nil || size != int64(len(octets)) {
		t.Errorf("its size is %d, %v", size, err)
	}
	read, err := io.ReadAll(content)
	if err != nil || !bytes.Equal(read, octets) {
		t.Errorf("%d of %d octets were read, %v", len(read), len(octets), err)
	}
	begun := client.OpenContent(ctx, id, nil)
	if _, err := begun.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_ = begun.Close()
	if _, err := io.ReadAll(begun); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("after Close reading ends with %v", err)
	}
	if _, err := client.ReadContent(ctx, 1<<40, nil); !errors.Is(err, ReasonMessageNotFound) {
		t.Errorf("a message that is not there ends with %v", err)
	}
}

func TestLiveGoroutinesShareTheStreamBeyondTheSessionsBound(t *testing.T) {
	ctx, client, inbox := live(t)
	var group sync.WaitGroup
	failures := make(chan error, 500)
	for range 500 {
		group.Add(1)
		go func() {
			defer group.Done()
			_, err := client.Folders().GetFolder(ctx, &restantev1.GetFolderRequest{FolderId: inbox.GetFolderId()})
			if err != nil {
				failures <- err
			}
		}()
	}
	group.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}

func TestLiveCallOptionsAndLargeRequestsHaveCallsOfTheirOwn(t *testing.T) {
	ctx, client, inbox := live(t)
	var header metadata.MD
	request := &restantev1.GetFolderRequest{FolderId: inbox.GetFolderId()}
	if _, err := client.Folders().GetFolder(ctx, request, grpc.Header(&header)); err != nil || header.Len() == 0 {
		t.Errorf("header %v, %v", header, err)
	}
	tooLarge := &restantev1.AppendMessageRequest{FolderId: inbox.GetFolderId(), Content: make([]byte, 2<<20)}
	_, err := client.Messages().AppendMessage(ctx, tooLarge)
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != codes.InvalidArgument && failure.Code != codes.ResourceExhausted {
		t.Errorf("2 MiB within a call end with %v", err)
	}
}

func TestLiveADeadlineAndACancelledContext(t *testing.T) {
	ctx, client, _ := live(t)
	never := &restantev1.CommitToken{MailboxId: client.Session().GetMailboxId(), ChangeNumber: 1 << 40, Epoch: 1}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err := client.Mailboxes().GetMailbox(short, &restantev1.GetMailboxRequest{MinCommit: never})
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ReasonCommitNotReached) {
		t.Errorf("a deadline ends with %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err = client.Mailboxes().GetMailbox(cancelled, &restantev1.GetMailboxRequest{MinCommit: never}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context ends with %v", err)
	}
}

func TestLiveAWatchOutlivesAChangeOfOnesOwnPassword(t *testing.T) {
	ctx, client, inbox := live(t)
	events, ended := make(chan FolderEvent, 10), make(chan error, 1)
	go func() {
		for event, err := range client.Watch(ctx, inbox.GetFolderId(), WatchOptions{Snapshot: true}) {
			if err != nil {
				ended <- err
				return
			}
			events <- event
		}
	}()
	if first := within(t, events, "the snapshot"); !first.Fresh {
		t.Error("the snapshot is not fresh")
	}
	if err := client.ChangePassword(ctx, password, "carol-demo-2"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.ChangePassword(ctx, "carol-demo-2", password); err != nil {
			t.Error(err)
		}
	}()
	time.Sleep(500 * time.Millisecond) // for the end of the old session to be told
	id, _ := appended(t, ctx, client, inbox, 100)
	for {
		select {
		case event := <-events:
			if event.Fresh {
				t.Error("the folder was read anew")
			}
			if ids := event.Changes.GetMessageIds(); len(ids) == 1 && ids[0] == id {
				return
			}
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(2 * soon):
			t.Fatal("the message was not told")
		}
	}
}

func TestLiveAMailboxIsWatchedUntilTheSessionEnds(t *testing.T) {
	ctx, client, inbox := live(t)
	events, ended := make(chan MailboxEvent, 10), make(chan error, 1)
	go func() {
		for event, err := range client.WatchMailbox(ctx, 0) {
			if err != nil {
				ended <- err
				return
			}
			events <- event
		}
	}()
	until := time.After(2 * soon)
	for told := false; !told; {
		appended(t, ctx, client, inbox, 100) // the first may come before the watch
		select {
		case event := <-events:
			told = event.ChangeNumber > inbox.GetChangeNumber()
		case <-time.After(300 * time.Millisecond):
		case <-until:
			t.Fatal("nothing was told")
		}
	}
	if err := client.LogOff(ctx); err != nil {
		t.Fatal(err)
	}
	if err := within(t, ended, "the end of the watch"); !errors.Is(err, ReasonSessionRevoked) {
		t.Errorf("it ended with %v", err)
	}
	within(t, client.Ended(), "the end of the session")
	if _, err := client.Folders().ListFolders(ctx, &restantev1.ListFoldersRequest{}); !errors.Is(err, ReasonSessionRevoked) {
		t.Errorf("a call then ends with %v", err)
	}
}

func TestLiveMailIsSentWithFilesLargeAndSmallAndFoldersAreFound(t *testing.T) {
	ctx, client, inbox := live(t)
	large := bytes.Repeat([]byte("0123456789abcdef\n"), 40_000)
	sent, err := client.Send(ctx, Mail{
		To: []string{user}, Subject: "Files from Go", Text: "Both.",
		Files: []File{{Name: "small.txt", Content: []byte("small")}, {Name: "large.txt", Content: large}},
	})
	if err != nil || sent.GetSubmission().GetSubmissionId() == 0 {
		t.Fatal(sent, err)
	}
	for event, err := range client.Watch(ctx, inbox.GetFolderId(), WatchOptions{Since: inbox.GetChangeNumber()}) {
		if err != nil {
			t.Fatal(err)
		}
		if ids := event.Changes.GetMessageIds(); len(ids) > 0 {
			octets, err := client.ReadContent(ctx, ids[0], nil)
			if err != nil || !bytes.Contains(octets, []byte("small.txt")) || len(octets) < len(large) {
				t.Error(len(octets), err)
			}
			break
		}
	}
	made, err := client.NewFolder(ctx, "Go/Helpers")
	if err != nil {
		t.Fatal(err)
	}
	found, err := client.Folder(ctx, "Go/Helpers")
	if err != nil || found.GetFolderId() != made.GetFolderId() {
		t.Error(found, err)
	}
	if _, err := client.Folder(ctx, "Go/Absent"); !errors.Is(err, ReasonFolderNotFound) {
		t.Error(err)
	}
	if box, err := client.FolderByRole(ctx, restantev1.FolderRole_FOLDER_ROLE_INBOX); err != nil || box.GetFolderId() != inbox.GetFolderId() {
		t.Error(box, err)
	}
	names := map[int64]bool{}
	for folder, err := range client.AllFolders(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		names[folder.GetFolderId()] = true
	}
	if !names[inbox.GetFolderId()] || !names[made.GetFolderId()] {
		t.Error(names)
	}
}

func TestLivePartsAreReadDecoded(t *testing.T) {
	ctx, client, inbox := live(t)
	content := "Subject: Parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" +
		"--x\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
		"Gr=FC=DFe\r\nAlice\r\n--x\r\nContent-Type: application/octet-stream\r\n" +
		"Content-Disposition: attachment; filename=data.bin\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--x--\r\n"
	appended, err := client.Messages().AppendMessage(ctx, &restantev1.AppendMessageRequest{
		FolderId: inbox.GetFolderId(), Content: []byte(content),
	})
	if err != nil {
		t.Fatal(err)
	}
	id := appended.GetMessageId()
	root, err := client.Parts(ctx, id)
	if err != nil || root.GetMediaType() != "multipart/mixed" {
		t.Fatal(root, err)
	}
	if text, err := client.ReadText(ctx, id, FindPart(root, "text/plain")); err != nil || text != "Grüße\nAlice" {
		t.Errorf("%q %v", text, err)
	}
	names := 0
	for part := range Attachments(root) {
		names++
		octets, err := client.ReadPart(ctx, id, part)
		if err != nil || part.GetFileName() != "data.bin" || !bytes.Equal(octets, []byte{0, 1, 2, 3}) {
			t.Error(part, octets, err)
		}
	}
	if names != 1 {
		t.Errorf("%d attachments", names)
	}
	if _, err := client.Parts(ctx, 1<<40); !errors.Is(err, ReasonMessageNotFound) {
		t.Error(err)
	}
}

func TestLiveAJobIsWatchedToItsEnd(t *testing.T) {
	ctx, carol, _ := live(t)
	admin, err := LogOn(ctx, carol.config, "alice@example.test", "alice-demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	begun, err := admin.Admin().CheckStore(ctx, &restantev1.CheckStoreRequest{Digests: true})
	if err != nil {
		t.Fatal(err)
	}
	request := &restantev1.WatchJobRequest{JobId: begun.GetJob().GetJobId()}
	var last *restantev1.Job
	for step, err := range admin.WatchJob(ctx, request) {
		if err != nil {
			t.Fatal(err)
		}
		last = step.GetJob()
	}
	if last.GetState() != restantev1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("the job ended as %v", last)
	}
	for _, err := range carol.WatchJob(ctx, request) {
		if !errors.Is(err, ReasonPermissionDenied) {
			t.Fatalf("carol got %v", err)
		}
	}
}
