package sdk

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestGeneratedCodeIsThatOfTheProtos(t *testing.T) {
	if _, err := os.Stat("../../proto"); err != nil {
		t.Skip("stands outside of the repository, where there are no protos")
	}
	buf := os.Getenv("BUF")
	if buf == "" {
		buf = "../../.venv/bin/buf"
	}
	buf, err := exec.LookPath(buf)
	if err != nil {
		t.Skipf("needs buf: `make setup-dev` installs it, or set BUF (%v)", err)
	}
	offline := append(os.Environ(), "GOPROXY=off")
	tool := exec.Command("go", "tool", "-modfile=tools.mod", "protoc-gen-go-grpc", "--version")
	tool.Env = offline
	if out, err := tool.CombinedOutput(); err != nil {
		t.Skipf("needs the generators in Go's module cache: ./generate.sh loads them (%v: %s)", err, out)
	}
	fresh := t.TempDir()
	generate := exec.Command(buf, "generate", "--template", "buf.gen.yaml", "-o", fresh)
	generate.Env = offline
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	count := 0
	err = filepath.WalkDir(filepath.Join(fresh, "gen"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		inside, err := filepath.Rel(fresh, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, _ := os.ReadFile(inside); !bytes.Equal(got, want) {
			t.Errorf("%s is not what the protos say; run ./generate.sh", inside)
		}
		return nil
	})
	if err != nil || count < 10 {
		t.Errorf("%d files were generated, %v", count, err)
	}
}
