// Package restante is the Go client of Restante, a mail platform with a gRPC API.
//
// A [Client] is one user's session. It is a connection for the stubs that are generated from the contract, so every
// RPC can be called in its generated, typed form:
//
//	tls, err := restante.TrustCA("ca.pem")
//	client, err := restante.LogOn(ctx, restante.Config{Address: "localhost:2051", TLS: tls}, user, password)
//	defer client.Close()
//	folder, err := client.Folders().GetFolder(ctx, &restantev1.GetFolderRequest{Path: []string{"INBOX"}})
//
// What goes through it is looked after: the session is renewed in the background; a missing request_id is made, once
// for all attempts; reads see what this client has written (min_commit); what is only temporary is tried again until
// the context's deadline, after the delay that the server asks for. Calls of any number of goroutines travel together
// in one Execute stream.
//
// Beside the stubs there are [Pages] for lists, [Client.Go] for many operations at once and in order, [Client.Upload]
// and [Client.OpenContent] for octets, [Client.Watch], [Client.WatchMailbox] and [Client.Sync] for changes, and
// [Client.StreamMessages] for bulk reads. The streams are opened again by themselves when they break.
//
// Every error is an [*Error]: it has the gRPC status code, the contract's reason with its metadata, and the delay
// that the server asks for. errors.Is compares reasons, and context.Canceled or context.DeadlineExceeded:
//
//	if errors.Is(err, restante.ReasonQuotaExceeded) { ... }
package restante

// Version is that of this package.
const Version = "0.1.0"
