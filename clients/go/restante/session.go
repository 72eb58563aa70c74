package restante

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const (
	shortestRenewal = 200 * time.Millisecond
	renewalRetry    = 2 * time.Second
)

// session is what a client knows of who it is. Its token is always the present one.
type session struct {
	changing chan struct{} // holds one entry while the session is being replaced

	mutex     sync.Mutex
	info      *restantev1.Session
	lapses    time.Time // by this machine's monotonic clock: the server's clock may be another
	password  string    // empty: not kept
	ended     chan struct{}
	endReason *Error
}

func newSession() *session {
	return &session{changing: make(chan struct{}, 1), ended: make(chan struct{})}
}

// noSession is the token source of calls that are made before there is a session.
type noSession struct{}

func (noSession) token() []byte { return nil }

var nobody tokenSource = noSession{}

func (s *session) token() []byte {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.info.GetSessionToken()
}

func (s *session) present() *restantev1.Session {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.info
}

// lock waits until nobody else replaces the session.
func (s *session) lock(ctx context.Context) error {
	select {
	case s.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fromContext(ctx.Err())
	}
}

func (s *session) unlock() { <-s.changing }

func (s *session) end(reason *Error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.endReason == nil {
		s.endReason = reason
		close(s.ended)
	}
}

func (s *session) reason() *Error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.endReason
}

// untilRenewal is how long the present token may be left alone: half of its life, so that the other half is for a server
// that is away.
func (s *session) untilRenewal(now time.Time) time.Duration {
	s.mutex.Lock()
	left := s.lapses.Sub(now)
	s.mutex.Unlock()
	return max(left/2, shortestRenewal)
}

// Session is the session as it is now, with its token, which may be kept for [Resume]. No server is asked.
func (c *Client) Session() *restantev1.Session {
	return proto.CloneOf(c.session.present())
}

// Token is the session's present token.
func (c *Client) Token() []byte { return c.session.token() }

// Ended is closed when the session is over: it was logged off, or could not be renewed any more.
func (c *Client) Ended() <-chan struct{} { return c.session.ended }

// EndReason is why the session is over; nil while it is not known to be.
func (c *Client) EndReason() error {
	if reason := c.session.reason(); reason != nil {
		return reason
	}
	return nil
}

// Renew gets a fresh token now. There is seldom a need: the session is renewed in the background.
//
// Where it cannot be renewed any more and the password is known, the user is logged on again; otherwise the error has
// the reason SESSION_EXPIRED, SESSION_REVOKED or INVALID_SESSION.
func (c *Client) Renew(ctx context.Context) error {
	return c.renew(ctx, c.session.token())
}

// renew replaces a token, unless somebody else has just done it.
func (c *Client) renew(ctx context.Context, before []byte) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	if err := c.session.lock(ctx); err != nil {
		return err
	}
	defer c.session.unlock()
	if string(c.session.token()) != string(before) {
		return nil
	}
	answer := &restantev1.RenewSessionResponse{}
	err := c.attempt(ctx, restantev1.SessionService_RenewSession_FullMethodName, &restantev1.RenewSessionRequest{}, answer, c.session)
	if err == nil {
		c.take(answer.GetSession())
		return nil
	}
	reason := asError(err).Reason
	c.session.mutex.Lock()
	user, password := c.session.info.GetAddress(), c.session.password
	c.session.mutex.Unlock()
	if password == "" || reason != ReasonSessionExpired && reason != ReasonInvalidSession {
		return err
	}
	return c.authenticate(ctx, user, password)
}

// ChangePassword sets a new password. Other sessions of the account end; this client goes on under a new one.
//
// The reason is AUTHENTICATION_FAILED for a wrong old password and WEAK_PASSWORD for a new one that is not taken. The
// call is not sent again when its answer is lost.
func (c *Client) ChangePassword(ctx context.Context, old, new string) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	if err := c.session.lock(ctx); err != nil {
		return err
	}
	defer c.session.unlock()
	request := &restantev1.ChangePasswordRequest{OldPassword: old, NewPassword: new}
	answer := &restantev1.ChangePasswordResponse{}
	if err := c.attempt(ctx, restantev1.SessionService_ChangePassword_FullMethodName, request, answer, c.session); err != nil {
		return err
	}
	c.session.mutex.Lock()
	if c.session.password != "" {
		c.session.password = new
	}
	c.session.mutex.Unlock()
	c.take(answer.GetSession())
	return nil
}

// LogOff ends the session at the server. The client must still be closed.
func (c *Client) LogOff(ctx context.Context) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	answer := &restantev1.LogoffResponse{}
	err := c.attempt(ctx, restantev1.SessionService_Logoff_FullMethodName, &restantev1.LogoffRequest{}, answer, c.session)
	if err == nil {
		c.session.end(&Error{Code: reasonCodes[ReasonSessionRevoked], Reason: ReasonSessionRevoked, Message: "Logged off."})
	}
	return err
}

// authenticate begins a session with a password.
func (c *Client) authenticate(ctx context.Context, user, password string) error {
	request := &restantev1.AuthenticateRequest{
		Mechanism: "PLAIN",
		Response:  []byte("\x00" + user + "\x00" + password), // RFC 4616 2
		Scope:     restantev1.Scope_SCOPE_API,
	}
	answer := &restantev1.AuthenticateResponse{}
	if err := c.attempt(ctx, restantev1.SessionService_Authenticate_FullMethodName, request, answer, nobody); err != nil {
		return err
	}
	c.take(answer.GetSession())
	return nil
}

func (c *Client) take(given *restantev1.Session) {
	c.session.mutex.Lock()
	c.session.info = given
	c.session.lapses = time.Now().Add(time.Duration(given.GetLifetimeMilliseconds()) * time.Millisecond)
	c.session.mutex.Unlock()
	if c.config.OnSession != nil {
		c.config.OnSession(proto.CloneOf(given))
	}
}

// keepFresh renews the session before it lapses, until it has ended or the client is closed.
func (c *Client) keepFresh() {
	wait := c.session.untilRenewal(time.Now())
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.session.ended:
			timer.Stop()
			return
		case <-c.context.Done():
			timer.Stop()
			return
		}
		if c.check() {
			wait = c.session.untilRenewal(time.Now())
		} else {
			wait = renewalRetry
		}
	}
}

// check renews the session, and ends it where that is refused. It tells whether there is nothing more to do for now.
func (c *Client) check() bool {
	err := c.Renew(c.context)
	if err == nil {
		return true
	}
	refused := asError(err)
	if !isOver(refused) {
		return false
	}
	c.session.end(refused)
	return true
}
