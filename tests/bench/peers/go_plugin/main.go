// Command go-plugin-load is a host of hashicorp/go-plugin: it starts an example of that module, unchanged, through the
// module's own client, and calls it.
//
//	go-plugin-load --plugin PROGRAM --call get|ping|greet --concurrency N --seconds S --warmup S
//
// get is KV.Get of examples/grpc, which reads a file of a few bytes; ping is gRPC's health check of the same plugin,
// which does nothing; greet is Greeter.Greet of examples/basic, over net/rpc, which writes a line to its log.
//
// It is a closed loop of lanes over the one connection that the client opens. It prints one line of JSON with the rate
// and the latencies of the calls that ended within the window.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	basic "github.com/hashicorp/go-plugin/examples/basic/shared"
	"github.com/hashicorp/go-plugin/examples/grpc/shared"
)

const (
	key   = "bench"
	value = "hello"
)

// host starts the plugin; its files go to the current folder.
func host(program string) (*plugin.Client, plugin.ClientProtocol, error) {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: shared.Handshake,
		Plugins: map[string]plugin.Plugin{
			shared.PluginGRPC:   &shared.KVGRPCPlugin{},
			shared.PluginNetRPC: &shared.KVPlugin{},
			"greeter":           &basic.GreeterPlugin{},
		},
		Cmd:              exec.Command(program),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolNetRPC, plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
	})
	protocol, err := client.Client()
	if err != nil {
		client.Kill()
		return nil, nil, err
	}
	return client, protocol, nil
}

// caller returns what a lane does again and again.
func caller(protocol plugin.ClientProtocol, call string) (func() error, error) {
	switch call {
	case "ping":
		return protocol.Ping, nil
	case "greet":
		found, err := protocol.Dispense("greeter")
		if err != nil {
			return nil, err
		}
		greeter := found.(basic.Greeter)
		return func() error {
			if greeter.Greet() != "Hello!" {
				return errors.New("greeted otherwise")
			}
			return nil
		}, nil
	case "get":
		found, err := protocol.Dispense(shared.PluginGRPC)
		if err != nil {
			return nil, err
		}
		store := found.(shared.KV)
		if err := store.Put(key, []byte(value)); err != nil {
			return nil, err
		}
		return func() error {
			read, err := store.Get(key)
			if err == nil && !strings.HasPrefix(string(read), value) {
				err = fmt.Errorf("read %q", read)
			}
			return err
		}, nil
	}
	return nil, fmt.Errorf("--call %s is none of get, ping, greet", call)
}

type seen struct {
	nanos  []int64
	errors int
	sample string
}

func lane(call func() error, from, to time.Time) seen {
	var found seen
	for time.Now().Before(to) {
		begun := time.Now()
		err := call()
		ended := time.Now()
		switch {
		case err != nil:
			found.errors++
			found.sample = err.Error()
			time.Sleep(20 * time.Millisecond)
		case !ended.Before(from) && !ended.After(to):
			found.nanos = append(found.nanos, ended.Sub(begun).Nanoseconds())
		}
	}
	return found
}

func load(call func() error, concurrency, seconds, warmup int) map[string]any {
	from := time.Now().Add(time.Duration(warmup) * time.Second)
	to := from.Add(time.Duration(seconds) * time.Second)
	all := make([]seen, concurrency)
	var lanes sync.WaitGroup
	for index := range concurrency {
		lanes.Go(func() { all[index] = lane(call, from, to) })
	}
	lanes.Wait()
	var nanos []int64
	var failed int
	examples := []string{}
	for _, one := range all {
		nanos = append(nanos, one.nanos...)
		failed += one.errors
		if one.sample != "" && len(examples) < 3 {
			examples = append(examples, one.sample)
		}
	}
	slices.Sort(nanos)
	at := func(quantile float64) float64 {
		if len(nanos) == 0 {
			return 0
		}
		return float64(nanos[min(int(quantile*float64(len(nanos))), len(nanos)-1)]) / 1e6
	}
	return map[string]any{
		"concurrency": concurrency, "seconds": seconds, "calls": len(nanos),
		"calls_per_s": float64(len(nanos)) / float64(seconds), "p50_ms": at(0.5), "p99_ms": at(0.99),
		"errors": failed, "error_examples": examples,
	}
}

func run() error {
	program := flag.String("plugin", "", "the plugin's program")
	call := flag.String("call", "get", "get, ping or greet")
	concurrency := flag.Int("concurrency", 16, "calls at once")
	seconds := flag.Int("seconds", 5, "how long calls count")
	warmup := flag.Int("warmup", 1, "how long they go on before they count")
	flag.Parse()
	client, protocol, err := host(*program)
	if err != nil {
		return err
	}
	defer client.Kill()
	once, err := caller(protocol, *call)
	if err != nil {
		return err
	}
	// The first call says what is wrong; the others only count it.
	if err := once(); err != nil {
		return err
	}
	answer, err := json.Marshal(load(once, *concurrency, *seconds, *warmup))
	if err != nil {
		return err
	}
	fmt.Println(string(answer))
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "go-plugin-load:", err)
		os.Exit(1)
	}
}
