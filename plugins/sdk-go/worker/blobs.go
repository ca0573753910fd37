package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	blobv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/blob/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	inlineLimit     = 64 * 1024
	blobLimit       = 256 * 1024 * 1024
	blobChunk       = 256 * 1024
	transferTries   = 6
	transfersAtOnce = 4
	transferTimeout = 2 * time.Minute
)

// blobs turns values into payloads and back, by way of the blob store when they are large. It dials at the first large value; at most
// four transfers run at once, and each is tried six times while the mesh is merely away.
type blobs struct {
	address string
	turns   chan struct{}
	mu      sync.Mutex
	conn    *grpc.ClientConn
}

func newBlobs(address string) *blobs {
	return &blobs{address: address, turns: make(chan struct{}, transfersAtOnce)}
}

// payload holds JSON text: inline up to 64 KiB, or else as a blob, which is uploaded.
func (b *blobs) payload(ctx context.Context, text []byte) (*blobv1.Payload, error) {
	if len(text) <= inlineLimit {
		return values.Payload(text), nil
	}
	if len(text) > blobLimit {
		return nil, fmt.Errorf("the value has %d bytes; at most 256 MiB can be stored", len(text))
	}
	digest := sha256.Sum256(text)
	var stored *blobv1.BlobRef
	err := b.transfer(ctx, func(ctx context.Context, service blobv1.BlobServiceClient) (err error) {
		stored, err = upload(ctx, service, text, hex.EncodeToString(digest[:]))
		return err
	})
	return &blobv1.Payload{Kind: &blobv1.Payload_Blob{Blob: stored}}, err
}

// text is the JSON text of a payload.
func (b *blobs) text(ctx context.Context, payload *blobv1.Payload) ([]byte, error) {
	text, blob, err := values.Text(payload, "null")
	if blob == nil {
		return text, err
	}
	if blob.SizeBytes > blobLimit {
		return nil, fmt.Errorf("blob %s has %d bytes; at most %d are taken", blob.Sha256, blob.SizeBytes, blobLimit)
	}
	err = b.transfer(ctx, func(ctx context.Context, service blobv1.BlobServiceClient) error {
		return download(ctx, service, blob.Sha256, &text)
	})
	if err != nil {
		return nil, err
	}
	if digest := sha256.Sum256(text); hex.EncodeToString(digest[:]) != blob.Sha256 {
		return nil, fmt.Errorf("blob %s arrived with other bytes than its name says", blob.Sha256)
	}
	return text, nil
}

func (b *blobs) transfer(ctx context.Context, do func(context.Context, blobv1.BlobServiceClient) error) error {
	select {
	case b.turns <- struct{}{}:
		defer func() { <-b.turns }()
	case <-ctx.Done():
		return ctx.Err()
	}
	service, err := b.service()
	var waits pauses
	for attempt := 1; err == nil; attempt++ {
		limited, cancel := context.WithTimeout(ctx, transferTimeout)
		failed := do(limited, service)
		cancel()
		if code := status.Code(failed); attempt == transferTries || code != codes.Unavailable && code != codes.Aborted {
			return failed
		}
		select {
		case <-time.After(waits.take()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (b *blobs) service() (blobv1.BlobServiceClient, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil {
		conn, err := dial(b.address)
		if err != nil {
			return nil, err
		}
		b.conn = conn
	}
	return blobv1.NewBlobServiceClient(b.conn), nil
}

func (b *blobs) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		b.conn.Close()
		b.conn = nil
	}
}

func upload(ctx context.Context, service blobv1.BlobServiceClient, data []byte, digest string) (*blobv1.BlobRef, error) {
	stream, err := service.Upload(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	part := &blobv1.UploadRequest{MediaType: "application/json", Sha256: digest}
	for len(data) > 0 {
		n := min(len(data), blobChunk)
		part.Chunk, data = data[:n], data[n:]
		if err := stream.Send(part); err != nil {
			break // The end of the stream tells why.
		}
		part = &blobv1.UploadRequest{}
	}
	answer, err := stream.CloseAndRecv()
	return answer.GetBlob(), err
}

// download appends what is missing: a broken download goes on where it broke.
func download(ctx context.Context, service blobv1.BlobServiceClient, digest string, into *[]byte) error {
	request := &blobv1.DownloadRequest{Name: "blobs/" + digest, Offset: int64(len(*into))}
	stream, err := service.Download(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if *into = append(*into, part.Chunk...); len(*into) > blobLimit {
			return fmt.Errorf("blob %s has more than %d bytes", digest, blobLimit)
		}
	}
}
