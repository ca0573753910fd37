package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/consort-mesh/consort/plugins/sdk-go/fault"
	"github.com/consort-mesh/consort/plugins/sdk-go/plugin"
	"github.com/consort-mesh/consort/plugins/sdk-go/plugintest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type words struct {
	Text string `json:"text" minLength:"1"`
	Most int    `json:"most" default:"10" maximum:"100"`
}

type none struct{}

// with is a plugin of one operation, `do`.
func with[I, O any](handler func(context.Context, *plugin.Call, I) (O, error)) *plugin.Plugin {
	p := plugin.New("under-test", "0.1.0", "Is tested.")
	plugin.Operation(p, plugin.Spec{Name: "do", Description: "Does.", Effect: plugin.Read, DryRun: true}, handler)
	return p
}

func TestACallTellsWhatItDoes(t *testing.T) {
	mesh := plugintest.Start(t, with(func(_ context.Context, call *plugin.Call, in words) (map[string]any, error) {
		call.Progress(0.5, "half")
		call.Log(plugin.LevelWarn, "careful")
		if call.DryRun() {
			call.Would("write %s", in.Text)
		} else {
			call.Did("wrote %s", in.Text)
		}
		return map[string]any{"most": in.Most, "key": call.IdempotencyKey(), "from": call.Origin().Agent, "id": len(call.ID())}, nil
	}))
	got, err := plugintest.Invoke[map[string]any](mesh, "do", words{Text: "<a>"},
		plugintest.IdempotencyKey("k"), plugintest.From(plugin.Origin{Agent: "writer"}))
	if err != nil {
		t.Fatal(err)
	}
	if want := "map[from:writer id:36 key:k most:0]"; fmt.Sprint(got.Output) != want {
		t.Errorf("got %v, want %s", got.Output, want)
	}
	if len(got.Progress) != 1 || got.Progress[0] != (plugintest.Progress{Fraction: 0.5, Message: "half"}) {
		t.Errorf("progress %v", got.Progress)
	}
	if len(got.Logs) != 1 || got.Logs[0] != (plugintest.Log{Level: "warn", Message: "careful"}) {
		t.Errorf("logs %v", got.Logs)
	}
	if len(got.Actions) != 1 || got.Actions[0] != "wrote <a>" || got.Would != nil {
		t.Errorf("did %v, would %v", got.Actions, got.Would)
	}
	dry, err := plugintest.Invoke[map[string]any](mesh, "do", map[string]any{"text": "b"}, plugintest.DryRun())
	if err != nil || dry.Actions != nil || len(dry.Would) != 1 || dry.Output["most"] != 10.0 {
		t.Errorf("got %+v, %v", dry, err)
	}
}

func TestInputIsCheckedBeforeTheHandlerSeesIt(t *testing.T) {
	mesh := plugintest.Start(t, with(func(context.Context, *plugin.Call, words) (none, error) {
		t.Error("the handler was called")
		return none{}, nil
	}))
	_, err := plugintest.Invoke[none](mesh, "do", map[string]any{"text": "", "most": 101, "more": 1})
	failure := fault.Read(err, codes.Unknown)
	var fields []string
	for _, violation := range failure.Violations() {
		fields = append(fields, violation.Field)
	}
	if failure.Code() != codes.InvalidArgument || strings.Join(fields, " ") != "more most text" || fault.ReasonOf(err) != "INPUT_INVALID" {
		t.Errorf("got %v, fields %v", err, fields)
	}
	if _, err := plugintest.Invoke[none](mesh, "undo", none{}); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "there are do") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsKeepTheirCodeAndDetails(t *testing.T) {
	for _, check := range []struct {
		given   error
		code    codes.Code
		reason  string
		message string
	}{
		{plugin.Errorf(plugin.NotFound, "no file").Reason("NO_FILE"), codes.NotFound, "NO_FILE", "no file"},
		{fmt.Errorf("reading: %w", status.Error(codes.PermissionDenied, "no")), codes.PermissionDenied, "", "denied desc"},
		{errors.New("disk on fire"), codes.Internal, "", "disk on fire"},
		{context.DeadlineExceeded, codes.Internal, "", "context deadline exceeded"},
		{fmt.Errorf("long: %w", errors.New(strings.Repeat("x", 1<<20))), codes.Internal, "", "xxx"},
	} {
		mesh := plugintest.Start(t, with(func(context.Context, *plugin.Call, none) (none, error) { return none{}, check.given }))
		_, err := plugintest.Invoke[none](mesh, "do", none{})
		if status.Code(err) != check.code || fault.ReasonOf(err) != check.reason || check.message != "denied desc" && !strings.Contains(err.Error(), check.message) {
			t.Errorf("%.60v: got %.200v", check.given, err)
		}
	}
}

func TestAPanicFailsItsCallOnly(t *testing.T) {
	mesh := plugintest.Start(t, with(func(_ context.Context, _ *plugin.Call, in words) (none, error) {
		if in.Text == "boom" {
			panic("no way out")
		}
		return none{}, nil
	}))
	_, err := plugintest.Invoke[none](mesh, "do", words{Text: "boom"})
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "no way out") {
		t.Fatalf("got %v", err)
	}
	debug, ok := status.Convert(err).Details()[0].(*errdetails.DebugInfo)
	if !ok || !strings.Contains(strings.Join(debug.StackEntries, "\n"), "plugin_test.go") {
		t.Errorf("got %v", debug)
	}
	if _, err := plugintest.Invoke[none](mesh, "do", words{Text: "calm"}); err != nil {
		t.Error(err)
	}
}

func TestDeadlineAndCancellationReachTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	mesh := plugintest.Start(t, with(func(ctx context.Context, call *plugin.Call, _ none) (none, error) {
		call.Progress(0, "waiting")
		<-ctx.Done()
		ended <- ctx.Err()
		return none{}, ctx.Err()
	}))
	_, err := plugintest.Invoke[none](mesh, "do", none{}, plugintest.Timeout(50*time.Millisecond))
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	<-ended
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = plugintest.Invoke[none](mesh, "do", none{}, plugintest.Within(ctx))
	if cause := <-ended; status.Code(err) != codes.Canceled || !errors.Is(cause, context.Canceled) {
		t.Errorf("got %v, handler saw %v", err, cause)
	}
}

func TestResultsOfAnySize(t *testing.T) {
	type size struct {
		N int `json:"n"`
	}
	mesh := plugintest.Start(t, with(func(_ context.Context, _ *plugin.Call, in size) (string, error) {
		return strings.Repeat("x", in.N), nil
	}))
	for _, n := range []int{0, 1 << 20, 5 << 20} {
		if got, err := plugintest.Invoke[string](mesh, "do", size{N: n}); err != nil || len(got.Output) != n {
			t.Errorf("%d bytes: got %d, %v", n, len(got.Output), err)
		}
	}
	mesh = plugintest.Start(t, with(func(_ context.Context, call *plugin.Call, in size) (plugin.Blob, error) {
		for range in.N {
			if _, err := io.WriteString(call.Writer("text/plain"), "line\n"); err != nil {
				return plugin.Blob{}, err
			}
		}
		return plugin.Blob{}, nil
	}))
	got, err := plugintest.Invoke[plugin.Blob](mesh, "do", size{N: 200_000})
	if err != nil || got.Output.SizeBytes != 1_000_000 || got.Output.MediaType != "text/plain" || len(got.Bytes) != 1_000_000 {
		t.Errorf("got %+v, %d bytes, %v", got.Output, len(got.Bytes), err)
	}
	mesh = plugintest.Start(t, with(func(_ context.Context, call *plugin.Call, _ none) (none, error) {
		_, err := io.WriteString(call.Writer("text/plain"), "x")
		return none{}, err
	}))
	if _, err := plugintest.Invoke[none](mesh, "do", none{}); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "plugin.Blob") {
		t.Errorf("got %v", err)
	}
}

func TestNotMoreInWorkThanThereMayBe(t *testing.T) {
	begun, goOn := make(chan none), make(chan none)
	p := with(func(context.Context, *plugin.Call, none) (none, error) {
		begun <- none{}
		<-goOn
		return none{}, nil
	})
	p.MaxInWork = 1
	mesh := plugintest.Start(t, p)
	first := make(chan error)
	go func() {
		_, err := plugintest.Invoke[none](mesh, "do", none{})
		first <- err
	}()
	<-begun
	if _, err := plugintest.Invoke[none](mesh, "do", none{}); status.Code(err) != codes.ResourceExhausted || fault.ReasonOf(err) != "BUSY" {
		t.Errorf("got %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestConfigurationIsTypedAndChecked(t *testing.T) {
	type settings struct {
		URL   string `json:"url" pattern:"^https://"`
		Tries int    `json:"tries" default:"3"`
	}
	fresh := func() *plugin.Plugin {
		p := with(func(_ context.Context, call *plugin.Call, _ none) (settings, error) {
			return plugin.Config[settings](call), nil
		})
		plugin.Configurable(p, func(_ context.Context, config settings) error {
			if config.Tries > 5 {
				return errors.New("five tries are enough")
			}
			return nil
		})
		return p
	}
	mesh := plugintest.Start(t, fresh(), plugintest.Config(map[string]any{"url": "https://a"}))
	if got, err := plugintest.Invoke[settings](mesh, "do", none{}); err != nil || got.Output != (settings{URL: "https://a", Tries: 3}) {
		t.Errorf("got %+v, %v", got.Output, err)
	}
	for config, want := range map[any]string{
		nil:                                  "url",
		settings{URL: "http://a"}:            "url",
		settings{URL: "https://a", Tries: 6}: "five tries",
	} {
		err := plugintest.StartError(t, fresh(), plugintest.Config(config))
		if status.Code(err) != codes.InvalidArgument || fault.ReasonOf(err) != "CONFIG_INVALID" || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v", config, err)
		}
	}
	takesNone := with(func(context.Context, *plugin.Call, none) (none, error) { return none{}, nil })
	if err := plugintest.StartError(t, takesNone, plugintest.Config(settings{})); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestTheMeshCanBeAsked(t *testing.T) {
	mesh := plugintest.Start(t, with(func(ctx context.Context, call *plugin.Call, _ none) (string, error) {
		secret, err := call.Host().Secret(ctx, "token")
		if err != nil {
			return "", err
		}
		before, found, err := call.Host().State(ctx, "last")
		if err != nil || !found {
			return "", fmt.Errorf("state: %v, %w", found, err)
		}
		if _, found, err := call.Host().State(ctx, "first"); err != nil || found {
			return "", fmt.Errorf("state: %v, %w", found, err)
		}
		if err := call.Host().PutState(ctx, "last", []byte(secret)); err != nil {
			return "", err
		}
		if _, err := call.Host().PublishEvent(ctx, "SEEN", map[string]string{"by": "me"}); err != nil {
			return "", err
		}
		if err := call.Require("mouse"); err != nil {
			return "", err
		}
		if err := call.Require("keyboard"); status.Code(err) != codes.PermissionDenied {
			return "", fmt.Errorf("got %w", err)
		}
		_, err = call.Host().Secret(ctx, "other")
		return string(before), err
	}), plugintest.Secret("token", "t0p"), plugintest.State("last", []byte("before")), plugintest.Capability("mouse"))
	_, err := plugintest.Invoke[string](mesh, "do", none{})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), `secrets = ["other"]`) {
		t.Errorf("got %v", err)
	}
	if string(mesh.States()["last"]) != "t0p" || len(mesh.Events()) != 1 || string(mesh.Events()[0].Data) != `{"by":"me"}` {
		t.Errorf("state %s, events %s", mesh.States(), mesh.Events())
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	p := plugin.New("Bad", "1", "")
	handler := func(context.Context, *plugin.Call, none) (none, error) { return none{}, nil }
	plugin.Operation(p, plugin.Spec{Name: "a", Description: "A."}, handler)
	plugin.Operation(p, plugin.Spec{Name: "a", Timeout: -1}, handler)
	plugin.Operation(p, plugin.Spec{Name: "9", Description: "B."}, func(context.Context, *plugin.Call, string) (chan int, error) { return nil, nil })
	p.MaxInWork = 0
	got := p.Check().Error()
	for _, want := range []string{
		`name: "Bad"`, `version: "1"`, "description:", `"a": is there twice`, `"a": its description`, `"a": timeout`, `name "9"`,
		`"9": input: string is no JSON object`, `"9": output:`, "MaxInWork: 0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	if err := plugintest.StartError(t, plugin.New("empty", "1.0.0", "Has nothing.")); err == nil {
		t.Error("a plugin needs an operation")
	}
}
