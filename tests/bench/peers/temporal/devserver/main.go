// Command devserver is Temporal's development server with everything kept in a SQLite file, without the rest of its command line.
//
// The command line as a whole does not build from the module proxy: its go.mod replaces a module by a folder that is not published.
// setup.sh copies this file into the published sources of github.com/temporalio/cli, where its development server can be imported,
// and builds it there. The settings are those of `temporal server start-dev --headless`, with a write-ahead log that is synced at
// every commit, and with the request limits out of the way.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/uuid"
	"github.com/temporalio/cli/internal/devserver"
)

func main() {
	port := flag.Int("port", 0, "port to listen on, on 127.0.0.1")
	file := flag.String("db-filename", "", "SQLite file to keep everything in")
	flag.Parse()
	if *port == 0 || *file == "" {
		fmt.Fprintln(os.Stderr, "devserver: give --port and --db-filename")
		os.Exit(2)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	server, err := devserver.Start(devserver.StartOptions{
		FrontendIP:             "127.0.0.1",
		FrontendPort:           *port,
		Namespaces:             []string{"default"},
		ClusterID:              uuid.NewString(),
		MasterClusterName:      "active",
		CurrentClusterName:     "active",
		InitialFailoverVersion: 1,
		Logger:                 slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		LogLevel:               slog.LevelError,
		DatabaseFile:           *file,
		SqlitePragmas:          map[string]string{"journal_mode": "WAL", "synchronous": "FULL"},
		DynamicConfigValues: map[string]any{
			// The command line's own defaults.
			"system.forceSearchAttributesCacheRefreshOnRead": true,
			"system.forceNexusEndpointRefreshOnRead":         true,
			"frontend.persistenceMaxQPS":                     100000,
			"history.persistenceMaxQPS":                      100000,
			// Limits that a closed loop could meet before the machine's.
			"matching.persistenceMaxQPS": 100000,
			"frontend.rps":               100000,
			"frontend.namespaceRPS":      100000,
			"history.rps":                100000,
			"matching.rps":               100000,
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "devserver:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	<-stop
	server.Stop()
}
