package restante

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

const (
	defaultTimeout  = 30 * time.Second
	defaultPatience = 5 * time.Second
	maxReceived     = 4 << 20 // octets of one message
)

// Config says where the server is and how this client behaves. Only Address is needed.
type Config struct {
	// Address is "HOST:PORT", or whatever else gRPC's resolvers take.
	Address string
	// TLS is the configuration of the connection, which is always encrypted; nil trusts the system's roots. See
	// TrustCA.
	TLS *tls.Config
	// Timeout is the deadline of a call, retries included, where its context has none; 0 means 30 seconds. It is
	// also how long a stream that breaks is tried again in vain before it fails.
	Timeout time.Duration
	// Patience is how long operations wait for a server that cannot be reached before they fail as unavailable, and
	// may be tried again; 0 means 5 seconds.
	Patience time.Duration
	// ForgetPassword makes the session end where it cannot be renewed any more, after 24 hours at the latest.
	// Otherwise the password is kept in memory and begins the next session then.
	ForgetPassword bool
	// OnSession, when set, is told of each new session token, by one goroutine at a time. It must not block.
	OnSession func(*restantev1.Session)
	// DialOptions are added to those of the connection.
	DialOptions []grpc.DialOption
}

// TrustCA is a TLS configuration that trusts the certificates in a PEM file and no others.
func TrustCA(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

func (c *Config) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return defaultTimeout
}

func (c *Config) patience() time.Duration {
	if c.Patience > 0 {
		return c.Patience
	}
	return defaultPatience
}

// Dial opens a plain gRPC connection as the clients of this package have it, for programs that use the generated stubs
// by themselves. There is nothing to wait for until the first call.
func (c *Config) Dial() (*grpc.ClientConn, error) {
	secure := c.TLS
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(secure.Clone())),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceived)),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithUserAgent("restante-go/" + Version),
	}
	return grpc.NewClient(c.Address, append(options, c.DialOptions...)...)
}
