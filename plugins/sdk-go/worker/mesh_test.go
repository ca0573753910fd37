package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// TestMain makes this program a worker when it is told so, for the test that sends signals.
func TestMain(m *testing.M) {
	if os.Getenv("WORKER_OF_A_TEST") == "" {
		os.Exit(m.Run())
	}
	err := New("process", 2).Agent("slow", func(_ context.Context, task *Task) (any, error) {
		fmt.Println("begun")
		time.Sleep(500 * time.Millisecond)
		return "done", nil
	}).Run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// realMesh is the server as a process.
type realMesh struct {
	t       *testing.T
	binary  string
	folder  string
	address string
	server  *exec.Cmd
}

func newRealMesh(t *testing.T) *realMesh {
	t.Helper()
	binary := os.Getenv("CONSORT_BINARY")
	if binary == "" {
		binary = "../../../target/debug/consort"
	}
	binary, err := filepath.Abs(binary)
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		t.Skipf("needs the server: build it with `cargo build --workspace`, or set CONSORT_BINARY (%v)", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String() // The same one after a restart.
	listener.Close()
	m := &realMesh{t: t, binary: binary, folder: t.TempDir(), address: address}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *realMesh) start() {
	m.t.Helper()
	m.server = exec.Command(m.binary, "serve", "--no-models", "--listen", m.address, "--data", filepath.Join(m.folder, "data"))
	var log bytes.Buffer
	m.server.Stdout, m.server.Stderr = &log, &log
	if err := m.server.Start(); err != nil {
		m.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", m.address); err == nil {
			conn.Close()
			return
		}
		if time.Since(began) > patience {
			m.t.Fatalf("the server did not start:\n%s", log.String())
		}
	}
}

// kill ends the server without a word, as kill -9 does.
func (m *realMesh) kill() {
	m.server.Process.Kill()
	m.server.Wait()
}

// cli is what the command line prints, as JSON.
func (m *realMesh) cli(into any, arguments ...string) {
	m.t.Helper()
	command := exec.Command(m.binary, append([]string{"--addr", m.address, "-o", "json"}, arguments...)...)
	out, err := command.Output()
	if err != nil {
		m.t.Fatalf("consort %s: %v\n%s", strings.Join(arguments, " "), err, err.(*exec.ExitError).Stderr)
	}
	if into != nil {
		if err := json.Unmarshal(out, into); err != nil {
			m.t.Fatalf("%v: %s", err, out)
		}
	}
}

type run struct {
	Name, State   string
	Output, Error json.RawMessage
}

// begin stores a workflow and starts it.
func (m *realMesh) begin(workflow string) run {
	m.t.Helper()
	path := filepath.Join(m.folder, "workflow.yaml")
	if err := os.WriteFile(path, []byte(workflow), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.cli(nil, "apply", path)
	var begun run
	m.cli(&begun, "run", "trial")
	return begun
}

// await waits for the end of a run.
func (m *realMesh) await(begun run) run {
	m.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var now run
		m.cli(&now, "get", begun.Name)
		switch now.State {
		case "RUN_STATE_SUCCEEDED", "RUN_STATE_FAILED", "RUN_STATE_CANCELLED":
			return now
		}
		if time.Since(began) > 3*patience {
			m.t.Fatalf("the run did not end: %+v", now)
		}
	}
}

func (m *realMesh) worker(slots int) *Worker {
	return New("under-test", slots).Address(m.address).Logger(slog.New(slog.NewTextHandler(m.t.Output(), nil)))
}

func TestRealMeshRunsAWorkflow(t *testing.T) {
	mesh := newRealMesh(t)
	tries := 0
	end, stop := runs(t, mesh.worker(4).
		Agent("large", func(_ context.Context, task *Task) (any, error) {
			task.Log(LevelInfo, "at work")
			task.Progress(0.5, "half")
			return map[string]string{"text": strings.Repeat("x", 300_000)}, task.Note("fact", strings.Repeat("n", 100_000))
		}).
		Agent("length", Typed(func(_ context.Context, task *Task, in map[string]string) (int, error) {
			if tries++; tries == 1 {
				return 0, Errorf(codes.Unavailable, "not yet").RetryAfter(time.Millisecond)
			}
			return len(in["text"]) + 1000*task.Attempt(), nil
		})))
	begun := mesh.begin(`
name: trial
steps:
  - {id: make, agent: large}
  - {id: count, agent: length, needs: [make], with: "${{ steps.make.output }}", retry: {max: 3, backoff: 10ms}}
output: "${{ steps.count.output }}"
`)
	if ended := mesh.await(begun); ended.State != "RUN_STATE_SUCCEEDED" || !strings.Contains(string(ended.Output), "302000") {
		t.Errorf("got %s %s %s", ended.State, ended.Output, ended.Error)
	}
	stop()
	if err := ends(t, end); err != nil {
		t.Error(err)
	}
}

func TestRealMeshIsKilledAndTheWorkerGoesOn(t *testing.T) {
	mesh := newRealMesh(t)
	handler, begun, goOn, cancelled := waiting()
	ready := make(chan struct{}, 10)
	end, stop := runs(t, mesh.worker(2).Agent("wait", handler).Agent("after", func(context.Context, *Task) (any, error) { return "after", nil }).
		OnReady(func() { ready <- struct{}{} }))
	<-ready
	started := mesh.begin(`
name: trial
steps:
  - {id: long, agent: wait}
  - {id: next, agent: after, needs: [long]}
output: "${{ steps.next.output }}"
`)
	<-begun
	mesh.kill()
	mesh.start()
	<-ready // It came back by itself, with its lease.
	close(goOn)
	if ended := mesh.await(started); ended.State != "RUN_STATE_SUCCEEDED" {
		t.Errorf("got %s %s", ended.State, ended.Error)
	}
	if len(begun) != 0 || len(cancelled) != 0 {
		t.Errorf("the task was begun again %d times and cancelled %d times", len(begun), len(cancelled))
	}
	stop()
	if err := ends(t, end); err != nil {
		t.Error(err)
	}
}

func TestRealMeshTerminatedWorkerFinishes(t *testing.T) {
	mesh := newRealMesh(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program)
	command.Env = append(os.Environ(), "WORKER_OF_A_TEST=1", "CONSORT_ADDR="+mesh.address, "CONSORT_WORKER_ID=renamed")
	command.Stderr = t.Output()
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill() })
	started := mesh.begin("{name: trial, steps: [{id: only, agent: slow}], output: \"${{ steps.only.output }}\"}")
	if _, err := stdout.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	command.Process.Signal(syscall.SIGTERM)
	if err := command.Wait(); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	if ended := mesh.await(started); ended.State != "RUN_STATE_SUCCEEDED" || !strings.Contains(string(ended.Output), "done") {
		t.Errorf("got %s %s", ended.State, ended.Error)
	}
}
