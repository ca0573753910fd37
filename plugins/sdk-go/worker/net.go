package worker

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	defaultAddress = "127.0.0.1:7420"
	frameLimit     = 16 * 1024 * 1024
	firstPause     = 200 * time.Millisecond
	longestPause   = 5 * time.Second
)

func checkAddress(address string) error {
	plain := plainAddress(address)
	host, port, err := net.SplitHostPort(plain)
	number, portErr := strconv.Atoi(port)
	if strings.HasPrefix(plain, "unix:") || err == nil && portErr == nil && host != "" && number > 0 && number < 65536 {
		return nil
	}
	return fmt.Errorf("CONSORT_ADDR: %q is no address; write host:port, for example %s", address, defaultAddress)
}

func plainAddress(address string) string {
	plain := cmp.Or(address, defaultAddress)
	for _, scheme := range []string{"http://", "https://"} {
		plain = strings.TrimPrefix(plain, scheme)
	}
	return strings.TrimSuffix(plain, "/")
}

// dial makes a connection, which is opened at its first call: TLS with the system's roots for `https://`, otherwise plain text. A peer that
// vanished without a word is noticed after 30 s.
func dial(address string) (*grpc.ClientConn, error) {
	secrecy := insecure.NewCredentials()
	if strings.HasPrefix(address, "https://") {
		secrecy = credentials.NewTLS(nil)
	}
	waits := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestPause}
	return grpc.NewClient(plainAddress(address),
		grpc.WithTransportCredentials(secrecy),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: waits, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(frameLimit)),
	)
}

// pauses are the waits between attempts: they double up to 5 s, and each is drawn from its upper half, so that workers which lost the mesh
// together do not come back together.
type pauses struct{ next time.Duration }

func (p *pauses) take() time.Duration {
	pause := cmp.Or(p.next, firstPause)
	p.next = min(2*pause, longestPause)
	return pause/2 + rand.N(pause/2)
}

func (p *pauses) reset() { p.next = 0 }
