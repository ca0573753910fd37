package sdk

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makeProject writes a project from the template, as `consort plugin new` does.
func makeProject(t *testing.T, name string) (folder string) {
	t.Helper()
	sdk, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	folder = t.TempDir()
	fill := strings.NewReplacer("{{name}}", name, "{{sdk}}", sdk)
	err = filepath.WalkDir("template", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(folder, strings.TrimSuffix(strings.TrimPrefix(path, "template/"), ".tmpl"))
		return os.WriteFile(to, []byte(fill.Replace(string(text))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestAProjectOfTheTemplateBuildsWithoutANetworkAndPasses(t *testing.T) {
	const name = "trial-plugin"
	folder := makeProject(t, name)
	for _, arguments := range [][]string{{"vet", "./..."}, {"test", "./..."}, {"build", "-o", name, "."}} {
		command := exec.Command("go", arguments...)
		command.Dir = folder
		command.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
	if formatted, err := exec.Command("gofmt", "-l", folder).Output(); err != nil || len(formatted) > 0 {
		t.Errorf("gofmt would change %s, %v", formatted, err)
	}
	manifest, err := os.ReadFile(filepath.Join(folder, "consort-plugin.toml"))
	if err != nil || !strings.Contains(string(manifest), `command = ["`+name+`"]`) {
		t.Errorf("got %s, %v", manifest, err)
	}
	by := exec.Command(filepath.Join(folder, name))
	by.Env = []string{"X=1"}
	if out, _ := by.CombinedOutput(); by.ProcessState.ExitCode() != 2 {
		t.Errorf("started by hand it ends with %d: %s", by.ProcessState.ExitCode(), out)
	}
}

func TestTheReadmeShowsCodeThatCompiles(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := makeProject(t, "shown")
	blocks := strings.Split(string(text), "```go\n")[1:]
	places := []string{"plugin/main.go", "plugin/main_test.go", "worker/main.go"}
	if len(blocks) != len(places) {
		t.Fatalf("%d blocks of Go; a plugin, its test and a worker were expected", len(blocks))
	}
	for i, place := range places {
		code, _, _ := strings.Cut(blocks[i], "```")
		path := filepath.Join(folder, "shown", place)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("go", "test", "./shown/...")
	command.Dir = folder
	command.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
