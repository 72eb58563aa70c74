package restante

import (
	"context"
	"iter"
	"strings"

	restantev1 "github.com/restante/restante/clients/go/restante/v1"
)

// maxFolders is the size of a page of folders.
const maxFolders = 500

// Folder is a folder of the user's own mailbox as it is now, by its path from the top: "INBOX", "Work/2026". The reason
// of a failure is FOLDER_NOT_FOUND.
func (c *Client) Folder(ctx context.Context, path string) (*restantev1.Folder, error) {
	return c.folder(ctx, &restantev1.GetFolderRequest{Path: levels(path)})
}

// FolderByRole is the Inbox, Sent, Drafts, Trash, Junk or Archive of the user's own mailbox, whatever it is called. The
// reason of a failure is FOLDER_NOT_FOUND.
func (c *Client) FolderByRole(ctx context.Context, role restantev1.FolderRole) (*restantev1.Folder, error) {
	return c.folder(ctx, &restantev1.GetFolderRequest{Role: role})
}

// AllFolders are the folders of the user's own mailbox with their counts, parents before children. The sequence ends
// after an error.
func (c *Client) AllFolders(ctx context.Context) iter.Seq2[*restantev1.Folder, error] {
	return func(yield func(*restantev1.Folder, error) bool) {
		request := &restantev1.ListFoldersRequest{PageSize: maxFolders}
		for page, err := range Pages(ctx, c.Folders().ListFolders, request) {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, folder := range page.GetFolders() {
				if !yield(folder, nil) {
					return
				}
			}
		}
	}
}

// NewFolder makes a folder of the user's own mailbox, and those above it that are missing. The reason of a failure is
// FOLDER_EXISTS or INVALID_FOLDER_NAME.
func (c *Client) NewFolder(ctx context.Context, path string) (*restantev1.Folder, error) {
	answer, err := c.Folders().CreateFolder(ctx, &restantev1.CreateFolderRequest{Path: levels(path)})
	return answer.GetFolder(), err
}

func (c *Client) folder(ctx context.Context, request *restantev1.GetFolderRequest) (*restantev1.Folder, error) {
	answer, err := c.Folders().GetFolder(ctx, request)
	return answer.GetFolder(), err
}

// levels are the names of a path, from the top down.
func levels(path string) []string {
	return strings.FieldsFunc(path, func(letter rune) bool { return letter == '/' })
}
