package plugin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pluginv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/plugin/v1"
	"github.com/consort-mesh/consort/plugins/sdk-go/internal/values"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

var conformance string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "consort-plugin")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(folder)
		conformance = filepath.Join(folder, "conformance")
		build := exec.Command("go", "build", "-o", conformance, "../examples/conformance")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "the example does not build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// process is a plugin as the mesh runs it.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	client  pluginv1.PluginServiceClient
	conn    *grpc.ClientConn
	waited  chan error
	dataDir string
}

// environment is the clean one that the mesh gives, with a folder for the socket.
func environment(t *testing.T) (folder string, env []string) {
	folder = t.TempDir()
	return folder, []string{
		"CONSORT_PLUGIN_COOKIE=consort-plugin-host", "CONSORT_PLUGIN_PROTOCOLS=1-1", "CONSORT_PLUGIN_TOKEN=t",
		"CONSORT_PLUGIN_SOCKET=" + filepath.Join(folder, "s"), "CONSORT_PLUGIN_DATA=" + folder,
		"CONSORT_HOST_SOCKET=" + filepath.Join(folder, "nobody"),
	}
}

// spawn starts the plugin as the mesh does, reads its line, and configures it. It is killed at the end of the test.
func spawn(t *testing.T) *process {
	t.Helper()
	return spawnAs(t, nil)
}

// spawnAs starts it as another user, if the attributes name one.
func spawnAs(t *testing.T, attributes *syscall.SysProcAttr) *process {
	t.Helper()
	folder, env := environment(t)
	if attributes != nil && attributes.Credential != nil {
		for _, path := range []string{filepath.Dir(conformance), filepath.Dir(folder)} {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(folder, int(attributes.Credential.Uid), int(attributes.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{t: t, cmd: exec.Command(conformance), waited: make(chan error, 1), dataDir: folder}
	p.cmd.Env, p.cmd.Stderr, p.cmd.SysProcAttr = env, os.Stderr, attributes
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	socket := filepath.Join(folder, "s")
	if want := "1|1|unix|" + socket + "|grpc\n"; line != want {
		t.Fatalf("got the line %q (%v), want %q", line, err, want)
	}
	go func() { p.waited <- p.cmd.Wait() }()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is for others, too: %v, %v", info, err)
	}
	p.conn, err = grpc.NewClient("passthrough:///plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	p.client = pluginv1.NewPluginServiceClient(p.conn)
	if _, err := p.client.Configure(t.Context(), &pluginv1.ConfigureRequest{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// status waits for the end of the process and is its exit status, or -1 if a signal ended it.
func (p *process) status() int {
	p.t.Helper()
	select {
	case <-p.waited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(10 * time.Second):
		p.t.Fatal("the process did not end within 10 s")
		return 0
	}
}

func (p *process) healthy() grpc_health_v1.HealthCheckResponse_ServingStatus {
	p.t.Helper()
	answer, err := grpc_health_v1.NewHealthClient(p.conn).Check(p.t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	return answer.Status
}

func (p *process) start(ctx context.Context, operation string, input any, dryRun bool) grpc.ServerStreamingClient[pluginv1.InvokeResponse] {
	p.t.Helper()
	text, err := values.Encode(input)
	if err != nil {
		p.t.Fatal(err)
	}
	stream, err := p.client.Invoke(ctx, &pluginv1.InvokeRequest{Operation: operation, Input: values.Payload(text), DryRun: dryRun})
	if err != nil {
		p.t.Fatal(err)
	}
	return stream
}

// invoke does an operation: its result, and how many messages came before.
func (p *process) invoke(operation string, input any, dryRun bool) (result *pluginv1.Result, before int, err error) {
	p.t.Helper()
	for stream := p.start(p.t.Context(), operation, input, dryRun); ; before++ {
		message, err := stream.Recv()
		if err != nil {
			return nil, before, err
		}
		if result := message.GetResult(); result != nil {
			_, err := stream.Recv()
			if !errors.Is(err, io.EOF) {
				p.t.Errorf("after the result came %v", err)
			}
			return result, before, nil
		}
	}
}

type fields map[string]any

func TestStartedByHandItSaysSo(t *testing.T) {
	for name, check := range map[string]struct {
		change func(env []string) []string
		status int
		says   string
	}{
		"by hand":      {func([]string) []string { return nil }, 2, "started by the mesh"},
		"wrong cookie": {func(env []string) []string { return append(env, "CONSORT_PLUGIN_COOKIE=x") }, 2, "started by the mesh"},
		"new protocol": {func(env []string) []string { return append(env, "CONSORT_PLUGIN_PROTOCOLS=2-3") }, 1, "versions 2-3"},
		"no protocol":  {func(env []string) []string { return append(env, "CONSORT_PLUGIN_PROTOCOLS=") }, 1, "CONSORT_PLUGIN_PROTOCOLS"},
		"no socket":    {func(env []string) []string { return append(env, "CONSORT_PLUGIN_SOCKET=") }, 1, "CONSORT_PLUGIN_SOCKET"},
		"no folder":    {func(env []string) []string { return append(env, "CONSORT_PLUGIN_SOCKET=/nowhere/s") }, 1, "/nowhere/s"},
	} {
		_, env := environment(t)
		cmd := exec.Command(conformance)
		cmd.Env = append([]string{"X=1"}, check.change(env)...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		if cmd.ProcessState.ExitCode() != check.status || !strings.Contains(stderr.String(), check.says) || stdout.String() != "" {
			t.Errorf("%s: status %d, says %s", name, cmd.ProcessState.ExitCode(), stderr.String())
		}
	}
}

func TestHelloAndHealth(t *testing.T) {
	p := spawn(t)
	hello, err := p.client.Hello(t.Context(), &pluginv1.HelloRequest{MeshVersion: "1.0.0", Protocol: 1})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, op := range hello.Operations {
		names = append(names, op.Name)
		if op.InputSchema.AsMap()["type"] != "object" || op.Description == "" || op.Timeout.AsDuration() != time.Minute {
			t.Errorf("got %v", op)
		}
	}
	if hello.Name != "conformance" || strings.Join(names, " ") != "echo count sleep large fail crash write" || hello.ConfigSchema != nil {
		t.Errorf("got %v", hello)
	}
	if write := hello.Operations[6]; !write.DryRun || write.Effect != pluginv1.Effect_EFFECT_WRITE {
		t.Errorf("got %v", write)
	}
	if p.healthy() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Error("it is not healthy")
	}
	if _, err := p.client.Hello(t.Context(), &pluginv1.HelloRequest{Protocol: 2}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v", err)
	}
}

func TestOperationsOfTheExample(t *testing.T) {
	p := spawn(t)
	if result, _, err := p.invoke("echo", fields{"text": "ä<"}, false); err != nil || result.Output.GetJson() != `{"text":"ä<"}` {
		t.Errorf("got %v, %v", result, err)
	}
	if result, before, err := p.invoke("count", fields{"to": 3, "delay_ms": 1}, false); err != nil || before != 4 || result.Output.GetJson() != `{"total":3}` {
		t.Errorf("got %v after %d, %v", result, before, err)
	}
	if _, _, err := p.invoke("count", fields{"to": -1}, false); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
	for _, code := range []string{"NOT_FOUND", "UNAVAILABLE", "INTERNAL", "DATA_LOSS"} {
		_, _, err := p.invoke("fail", fields{"code": code, "message": "as told"}, false)
		if !strings.EqualFold(strings.ReplaceAll(code, "_", ""), status.Code(err).String()) || status.Convert(err).Message() != "as told" {
			t.Errorf("%s: got %v", code, err)
		}
	}
	file := fields{"path": "note.txt", "text": "four"}
	path := filepath.Join(p.dataDir, "note.txt")
	if result, _, err := p.invoke("write", file, true); err != nil || len(result.Would) != 1 || len(result.Actions) != 0 {
		t.Errorf("got %v, %v", result, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the dry run wrote")
	}
	if result, _, err := p.invoke("write", file, false); err != nil || len(result.Would) != 0 || len(result.Actions) != 1 {
		t.Errorf("got %v, %v", result, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "four" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, _, err := p.invoke("echo", file, true); status.Code(err) != codes.InvalidArgument && status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v", err)
	}
}

func TestACallEndsWithItsDeadlineOrItsCaller(t *testing.T) {
	p := spawn(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.start(ctx, "sleep", fields{"ms": 60_000}, false).Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	stream := p.start(ctx, "sleep", fields{"ms": 60_000}, false)
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	// Nothing is in work any more, so a drain has nothing to cancel.
	drained, err := p.client.Drain(t.Context(), &pluginv1.DrainRequest{Grace: durationpb.New(5 * time.Second)})
	if err != nil || drained.Cancelled != 0 {
		t.Errorf("got %v, %v", drained, err)
	}
}

func TestALargeResultTakesLittleMemory(t *testing.T) {
	p := spawn(t)
	stream := p.start(t.Context(), "large", fields{"mib": 64}, false)
	total, largest := 0, 0
	for {
		message, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if result := message.GetResult(); result != nil {
			if result.MediaType != "application/octet-stream" || result.Output != nil {
				t.Errorf("got %v", result)
			}
			break
		}
		if total == 0 {
			time.Sleep(300 * time.Millisecond) // A mesh that does not read: the plugin must wait, not hoard.
		}
		total, largest = total+len(message.GetChunk()), max(largest, len(message.GetChunk()))
	}
	if total != 64<<20 || largest > 1<<20 {
		t.Errorf("%d bytes in chunks of up to %d", total, largest)
	}
	if peak := p.peakKiB(); peak > 48*1024 {
		t.Errorf("the plugin took %d KiB for a result of 64 MiB", peak)
	}
}

// peakKiB is the most memory that the process ever had.
func (p *process) peakKiB() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Skipf("the system does not tell the memory of a process: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				p.t.Fatal(err)
			}
			return kib
		}
	}
	p.t.Fatal("no VmHWM")
	return 0
}

func TestACrashEndsTheProcess(t *testing.T) {
	p := spawn(t)
	if _, _, err := p.invoke("crash", fields{}, false); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if code := p.status(); code != 7 {
		t.Errorf("status %d", code)
	}
}

func TestADrainWaitsThenCancels(t *testing.T) {
	p := spawn(t)
	short := p.start(t.Context(), "count", fields{"to": 1, "delay_ms": 300}, false)
	long := p.start(t.Context(), "count", fields{"to": 1000, "delay_ms": 100}, false)
	if _, err := long.Recv(); err != nil { // Both are in work.
		t.Fatal(err)
	}
	began := time.Now()
	drained, err := p.client.Drain(t.Context(), &pluginv1.DrainRequest{Grace: durationpb.New(time.Second)})
	if err != nil || drained.Cancelled != 1 || time.Since(began) < time.Second {
		t.Errorf("got %v, %v after %s", drained, err, time.Since(began))
	}
	if _, err := end(short); !errors.Is(err, io.EOF) {
		t.Errorf("the short call ended with %v", err)
	}
	if _, err := end(long); status.Code(err) != codes.Canceled {
		t.Errorf("the long call ended with %v", err)
	}
	if _, _, err := p.invoke("echo", fields{"text": ""}, false); status.Code(err) != codes.Unavailable {
		t.Errorf("a drained plugin took a call: %v", err)
	}
	if p.healthy() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Error("a drained plugin says it serves")
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code := p.status(); code != 0 {
		t.Errorf("status %d", code)
	}
}

// end reads to the end of a call.
func end(stream grpc.ServerStreamingClient[pluginv1.InvokeResponse]) (last *pluginv1.InvokeResponse, err error) {
	for {
		message, err := stream.Recv()
		if err != nil {
			return last, err
		}
		last = message
	}
}

func TestItEndsWithTheMesh(t *testing.T) {
	p := spawn(t)
	stream := p.start(t.Context(), "count", fields{"to": 1000, "delay_ms": 100}, false)
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.stdin.Close()
	if code := p.status(); code != 0 || time.Since(began) > 2*time.Second {
		t.Errorf("status %d after %s", code, time.Since(began))
	}
}

func TestTerminatedItFinishesWhatIsInWork(t *testing.T) {
	p := spawn(t)
	stream := p.start(t.Context(), "count", fields{"to": 5, "delay_ms": 100}, false)
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Signal(syscall.SIGINT) // Ctrl-C is the mesh's.
	p.cmd.Process.Signal(syscall.SIGTERM)
	if last, err := end(stream); !errors.Is(err, io.EOF) || last.GetResult() == nil {
		t.Errorf("got %v, %v", last, err)
	}
	if code := p.status(); code != 0 {
		t.Errorf("status %d", code)
	}
}
