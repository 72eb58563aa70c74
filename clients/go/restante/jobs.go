package restante

import (
	"context"
	"io"
	"iter"

	"google.golang.org/protobuf/proto"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// WatchJob gives a job as it is now, and after each change until its end, with each finding once.
//
// A stream that breaks is opened again behind the last finding. The job goes on when the reader wants no more. The
// sequence ends after an error, such as JOB_NOT_FOUND and, for a session that may not administer, PERMISSION_DENIED.
func (c *Client) WatchJob(
	ctx context.Context, request *restantev1.WatchJobRequest,
) iter.Seq2[*restantev1.WatchJobResponse, error] {
	return func(yield func(*restantev1.WatchJobResponse, error) bool) {
		wanted := proto.CloneOf(request)
		err := c.resumed(ctx, func(ctx context.Context, told func()) error {
			stream, err := c.Jobs().WatchJob(ctx, wanted)
			if err != nil {
				return err
			}
			for {
				step, err := stream.Recv()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				told()
				if found := step.GetFindings(); len(found) > 0 {
					wanted.AfterFinding = found[len(found)-1].GetFindingNumber()
				}
				if !yield(step, nil) {
					return errStop
				}
			}
		})
		if err != nil {
			yield(nil, err)
		}
	}
}
