package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Main serves the plugin for the mesh that started this process, and ends the process: with status 0 when the mesh ends it or is gone, 1 when
// something is wrong with the plugin or its environment, and 2 when it was started by hand. What is wrong stands on standard error.
func (p *Plugin) Main() {
	err := p.main()
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
	if errors.Is(err, errByHand) {
		os.Exit(2)
	}
	os.Exit(1)
}

func (p *Plugin) main() error {
	shake, err := readHandshake()
	if err = errors.Join(err, p.Check(), hide()); err != nil {
		return err
	}
	// Ctrl-C in the mesh's terminal is the mesh's to handle: it drains first. It is not ignored, as programs that the plugin starts would
	// inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	env := Env{DataDir: shake.data}
	if shake.hostSocket != "" {
		conn, err := dialHost(shake.hostSocket, shake.token)
		if err != nil {
			return fmt.Errorf("CONSORT_HOST_SOCKET: %w", err)
		}
		defer conn.Close()
		env.Host = conn
	}
	if env.Listener, err = listen(shake.socket); err != nil {
		return err
	}
	abandoned := make(chan struct{})
	env.Abandoned = abandoned
	go func() {
		// The mesh holds the other end and writes nothing to it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(abandoned)
		stop()
	}()
	fmt.Printf("%d|%d|unix|%s|grpc\n", handshakeVersion, protocol, shake.socket)
	return p.Serve(ctx, env)
}
