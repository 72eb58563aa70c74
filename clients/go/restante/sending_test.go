package restante

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestADraftHasWhatTheMailSays(t *testing.T) {
	client := newClient(Config{Address: "localhost:1"})
	defer client.Close()
	path := filepath.Join(t.TempDir(), "plan.pdf")
	if err := os.WriteFile(path, []byte("the plan"), 0o600); err != nil {
		t.Fatal(err)
	}
	draft, err := client.Compose(context.Background(), Mail{
		To: []string{"Bob <bob@example.test>"}, Bcc: []string{"carol@example.test"}, From: "alice@example.test",
		Subject: "Plan", Text: "See the file.",
		Files: []File{{Path: path}, {Name: "logo", MediaType: "image/png", Content: []byte("png"), ContentID: "logo@example.test"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if draft.GetAuthor().GetAddress() != "alice@example.test" || draft.GetSubject() != "Plan" || draft.GetText() != "See the file." {
		t.Error(draft)
	}
	if to := draft.GetTo(); len(to) != 1 || to[0].GetDisplayName() != "Bob" || to[0].GetAddress() != "bob@example.test" {
		t.Error(to)
	}
	if bcc := draft.GetBcc(); len(bcc) != 1 || bcc[0].GetAddress() != "carol@example.test" {
		t.Error(bcc)
	}
	plan, logo := draft.GetAttachments()[0], draft.GetAttachments()[1]
	if plan.GetFileName() != "plan.pdf" || plan.GetMediaType() != "application/pdf" || string(plan.GetContent()) != "the plan" || plan.GetInlined() {
		t.Error(plan)
	}
	if logo.GetFileName() != "logo" || logo.GetMediaType() != "image/png" || !logo.GetInlined() || logo.GetContentId() != "logo@example.test" {
		t.Error(logo)
	}
}

func TestWhatCannotBeReadIsNotSent(t *testing.T) {
	client := newClient(Config{Address: "localhost:1"})
	defer client.Close()
	_, err := client.Send(context.Background(), Mail{To: []string{"bob@"}})
	if err == nil || !strings.HasPrefix(err.Error(), `To: "bob@": `) {
		t.Error(err)
	}
	_, err = client.Send(context.Background(), Mail{Files: []File{{Path: filepath.Join(t.TempDir(), "absent")}}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestAServerThatIsDownIsNamedWithTheCauseWhenPatienceEnds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	for _, row := range []Config{
		{Address: address, Patience: 300 * time.Millisecond},
		{Address: address, Patience: time.Minute, Timeout: 600 * time.Millisecond},
	} {
		began := time.Now()
		_, err = LogOn(context.Background(), row, "alice@example.test", "alice-demo")
		if failure := asError(err); failure.Code != codes.Unavailable {
			t.Error(failure.Code)
		}
		if text := err.Error(); !strings.Contains(text, "Cannot reach "+address) || !strings.Contains(text, "connection refused") {
			t.Error(text)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v, not what the client has patience for", took)
		}
	}
}
