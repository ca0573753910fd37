// Command temporal-load is the bench's worker and client for Temporal: workflows of activities that do nothing.
//
//	temporal-load worker --address HOST:PORT
//	temporal-load client --address HOST:PORT --steps N [--fan] --concurrency N --seconds S --warmup S
//	temporal-load client --address HOST:PORT --hold N --seconds S
//
// The client is a closed loop of lanes, each starting a workflow and waiting for its result. It prints one line of JSON with the
// rate and the latencies of those that ended within the window. With --hold it starts workflows that stay, and waits for none.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const (
	queue = "bench"
	// How long a workflow may take; also bounds what a lane waits for when the window has closed.
	within = 60 * time.Second
)

// Noop is the activity: it does nothing.
func Noop(context.Context, int) (int, error) { return 0, nil }

func options(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: within})
}

// Chain performs activities one after the other.
func Chain(ctx workflow.Context, steps int) (int, error) {
	ctx = options(ctx)
	for step := range steps {
		if err := workflow.ExecuteActivity(ctx, Noop, step).Get(ctx, nil); err != nil {
			return 0, err
		}
	}
	return steps, nil
}

// Fan performs activities all at once.
func Fan(ctx workflow.Context, steps int) (int, error) {
	ctx = options(ctx)
	all := make([]workflow.Future, steps)
	for step := range steps {
		all[step] = workflow.ExecuteActivity(ctx, Noop, step)
	}
	for _, one := range all {
		if err := one.Get(ctx, nil); err != nil {
			return 0, err
		}
	}
	return steps, nil
}

// Hold stays for an hour.
func Hold(ctx workflow.Context, _ int) (int, error) {
	return 0, workflow.Sleep(ctx, time.Hour)
}

func dial(address string) client.Client {
	quiet := log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	dialled, err := client.Dial(client.Options{HostPort: address, Logger: quiet})
	if err != nil {
		fail(err)
	}
	return dialled
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "temporal-load:", err)
	os.Exit(1)
}

func work(address string) {
	connection := dial(address)
	defer connection.Close()
	serving := worker.New(connection, queue, worker.Options{
		MaxConcurrentActivityExecutionSize:     4096,
		MaxConcurrentWorkflowTaskExecutionSize: 1024,
		MaxConcurrentActivityTaskPollers:       16,
		MaxConcurrentWorkflowTaskPollers:       16,
	})
	serving.RegisterWorkflow(Chain)
	serving.RegisterWorkflow(Fan)
	serving.RegisterWorkflow(Hold)
	serving.RegisterActivity(Noop)
	if err := serving.Start(); err != nil {
		fail(err)
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	serving.Stop()
}

type seen struct {
	micros []int64
	errors int
	sample string
}

func lane(connection client.Client, kind any, steps int, from, to time.Time) seen {
	var found seen
	for time.Now().Before(to) {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), within)
		run, err := connection.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue, WorkflowExecutionTimeout: within}, kind, steps)
		if err == nil {
			err = run.Get(ctx, nil)
		}
		cancel()
		ended := time.Now()
		switch {
		case err != nil:
			found.errors++
			found.sample = err.Error()
			time.Sleep(20 * time.Millisecond)
		case !ended.Before(from) && !ended.After(to):
			found.micros = append(found.micros, ended.Sub(begun).Microseconds())
		}
	}
	return found
}

func load(address string, steps, concurrency, connections, seconds, warmup int, fan bool) {
	var kind any = Chain
	if fan {
		kind = Fan
	}
	var clients []client.Client
	for range min(connections, concurrency) {
		clients = append(clients, dial(address))
	}
	from := time.Now().Add(time.Duration(warmup) * time.Second)
	to := from.Add(time.Duration(seconds) * time.Second)
	all := make([]seen, concurrency)
	var lanes sync.WaitGroup
	for index := range concurrency {
		lanes.Go(func() { all[index] = lane(clients[index%len(clients)], kind, steps, from, to) })
	}
	lanes.Wait()
	var micros []int64
	var errors int
	examples := []string{}
	for _, one := range all {
		micros = append(micros, one.micros...)
		errors += one.errors
		if one.sample != "" && len(examples) < 3 {
			examples = append(examples, one.sample)
		}
	}
	sort.Slice(micros, func(i, j int) bool { return micros[i] < micros[j] })
	at := func(quantile float64) float64 {
		if len(micros) == 0 {
			return 0
		}
		return float64(micros[min(int(quantile*float64(len(micros))), len(micros)-1)]) / 1e3
	}
	answer, err := json.Marshal(map[string]any{
		"steps": steps, "fan": fan, "concurrency": concurrency, "seconds": seconds, "runs": len(micros),
		"runs_per_s": float64(len(micros)) / float64(seconds), "p50_ms": at(0.5), "p99_ms": at(0.99),
		"errors": errors, "error_examples": examples,
	})
	if err != nil {
		fail(err)
	}
	fmt.Println(string(answer))
}

// hold starts workflows for some seconds at most, as many at once as there are lanes, and prints how many have started.
func hold(address string, runs, concurrency, seconds int) {
	connection := dial(address)
	defer connection.Close()
	left := make(chan struct{}, runs)
	for range runs {
		left <- struct{}{}
	}
	close(left)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var started atomic.Int64
	var lanes sync.WaitGroup
	for range concurrency {
		lanes.Go(func() {
			for range left {
				if time.Now().After(end) {
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), within)
				if _, err := connection.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, Hold, 0); err != nil {
					fail(err)
				}
				cancel()
				started.Add(1)
			}
		})
	}
	lanes.Wait()
	fmt.Printf("{\"runs\": %d}\n", started.Load())
}

func main() {
	if len(os.Args) < 2 || (os.Args[1] != "worker" && os.Args[1] != "client") {
		fmt.Fprintln(os.Stderr, "temporal-load: say worker or client")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:7233", "host:port of the server")
	steps := flags.Int("steps", 1, "activities of each workflow")
	fan := flags.Bool("fan", false, "all activities at once")
	concurrency := flags.Int("concurrency", 64, "workflows at once")
	connections := flags.Int("connections", 2, "connections of the client")
	seconds := flags.Int("seconds", 10, "how long workflows count")
	warmup := flags.Int("warmup", 2, "how long they go on before they count")
	held := flags.Int("hold", 0, "start so many workflows that stay, and end")
	_ = flags.Parse(os.Args[2:])
	if os.Args[1] == "worker" {
		work(*address)
		return
	}
	if *held > 0 {
		hold(*address, *held, *concurrency, *seconds)
		return
	}
	load(*address, *steps, *concurrency, *connections, *seconds, *warmup, *fan)
}
