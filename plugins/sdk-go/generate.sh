#!/usr/bin/env bash
# Writes gen/ from proto/, and the lists of modules in template/ from go.mod and go.sum. Run it after a change of those, and commit.
# Needs buf: $BUF, that of `make setup-dev`, or the one on PATH.
set -euo pipefail

cd "$(dirname "$0")"
buf=${BUF:-../../.venv/bin/buf}
command -v "$buf" >/dev/null || buf=buf
"$buf" generate --template buf.gen.yaml

module=$(go list -m)
{
	printf 'module consort.local/{{name}}\n\ngo %s\n\n' "$(go list -m -f '{{.GoVersion}}')"
	printf 'require %s v0.0.0\n\nreplace %s => "{{sdk}}"\n\nrequire (\n' "$module" "$module"
	sed -n 's#^\t\([^ ]* v[^ ]*\).*#\t\1 // indirect#p' go.mod | sort
	printf ')\n'
} >template/go.mod.tmpl
cp go.sum template/go.sum.tmpl
