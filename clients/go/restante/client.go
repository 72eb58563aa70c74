package restante

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// Client is one user's session with a server. It may be used by any number of goroutines.
//
// It is a [grpc.ClientConnInterface]: the generated stubs of the contract work on it, and its methods Folders,
// Messages and so on give those. See the package's documentation for what it adds to a plain connection.
type Client struct {
	config     Config
	link       *link
	operations *multiplexer
	watching   *watchStream
	session    *session

	context context.Context // ends when the client is closed
	cancel  context.CancelFunc

	mutex   sync.Mutex
	commits map[int64]*restantev1.CommitToken // the latest write to each mailbox that this client has seen
}

var _ grpc.ClientConnInterface = (*Client)(nil)

// LogOn connects and proves who the user is by a password. The session is renewed in the background until the client
// is closed; after its 24 hours the password begins the next one (see Config.ForgetPassword).
//
// The reason is AUTHENTICATION_FAILED for a wrong name or password, and TOO_MANY_ATTEMPTS with a delay after several. A
// server that cannot be reached within Config.Patience is an error with the code Unavailable, which names the address and
// the cause.
func LogOn(ctx context.Context, config Config, user, password string) (*Client, error) {
	c := newClient(config)
	ctx, cancel := c.limited(ctx)
	defer cancel()
	if err := c.authenticate(ctx, user, password); err != nil {
		err = c.unreached(err)
		c.Close()
		return nil, err
	}
	if !config.ForgetPassword {
		c.session.password = password
	}
	go c.keepFresh()
	return c, nil
}

// Resume connects with a session token that was kept, and tries it at once. There is no password: the session ends
// when it cannot be renewed. The reason of a failure is SESSION_EXPIRED, SESSION_REVOKED or INVALID_SESSION.
func Resume(ctx context.Context, config Config, token []byte) (*Client, error) {
	c := newClient(config)
	c.session.info = &restantev1.Session{SessionToken: token}
	ctx, cancel := c.limited(ctx)
	defer cancel()
	answer := &restantev1.GetSessionResponse{}
	err := c.attempt(ctx, restantev1.SessionService_GetSession_FullMethodName, &restantev1.GetSessionRequest{}, answer, c.session)
	if err != nil {
		err = c.unreached(err)
		c.Close()
		return nil, err
	}
	found := proto.CloneOf(answer.GetSession())
	found.SessionToken = token
	c.take(found)
	go c.keepFresh()
	return c, nil
}

// unreached is the error of a first call: one that says where the server was looked for, if it could not be reached.
func (c *Client) unreached(err error) error {
	failure := asError(err)
	if trouble := c.operations.connectionTrouble(); failure.Code == codes.DeadlineExceeded && trouble != nil {
		failure = trouble
	}
	if failure.Code != codes.Unavailable || failure.Reason != "" {
		return err
	}
	return &Error{Code: codes.Unavailable, Message: "Cannot reach " + c.config.Address + ": " + failure.Message}
}

func newClient(config Config) *Client {
	c := &Client{
		config: config, link: newLink(config), session: newSession(), commits: map[int64]*restantev1.CommitToken{},
	}
	c.context, c.cancel = context.WithCancel(context.Background())
	c.operations = newMultiplexer(c.link)
	c.watching = newWatchStream(c)
	return c
}

// Close ends all streams and connections. The session itself stays good until it lapses; LogOff ends it. Calls that
// are under way fail with the code Canceled. The error is always nil; it is there for io.Closer.
func (c *Client) Close() error {
	c.cancel()
	c.operations.close()
	c.link.close()
	return nil
}

// Sessions is the generated stub of SessionService. LogOn, Renew, ChangePassword and LogOff are methods of the client,
// which know the session; the stub's RPCs of that purpose leave the client as it is.
func (c *Client) Sessions() restantev1.SessionServiceClient {
	return restantev1.NewSessionServiceClient(c)
}

// Mailboxes is the generated stub of MailboxService.
func (c *Client) Mailboxes() restantev1.MailboxServiceClient {
	return restantev1.NewMailboxServiceClient(c)
}

// Folders is the generated stub of FolderService.
func (c *Client) Folders() restantev1.FolderServiceClient {
	return restantev1.NewFolderServiceClient(c)
}

// Messages is the generated stub of MessageService.
func (c *Client) Messages() restantev1.MessageServiceClient {
	return restantev1.NewMessageServiceClient(c)
}

// Contents is the generated stub of ContentService. See also Upload and OpenContent.
func (c *Client) Contents() restantev1.ContentServiceClient {
	return restantev1.NewContentServiceClient(c)
}

// Submissions is the generated stub of SubmissionService.
func (c *Client) Submissions() restantev1.SubmissionServiceClient {
	return restantev1.NewSubmissionServiceClient(c)
}

// Directory is the generated stub of DirectoryService.
func (c *Client) Directory() restantev1.DirectoryServiceClient {
	return restantev1.NewDirectoryServiceClient(c)
}

// Changes is the generated stub of SyncService. See also Watch, WatchMailbox and Sync.
func (c *Client) Changes() restantev1.SyncServiceClient {
	return restantev1.NewSyncServiceClient(c)
}

// Jobs is the generated stub of JobService, for sessions that may administer.
func (c *Client) Jobs() restantev1.JobServiceClient {
	return restantev1.NewJobServiceClient(c)
}

// Admin is the generated stub of AdminService, for sessions that may administer.
func (c *Client) Admin() restantev1.AdminServiceClient {
	return restantev1.NewAdminServiceClient(c)
}
