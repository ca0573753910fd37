#!/usr/bin/env bash
# Writes gen/ from proto/. Needs buf: $BUF, that of `make setup-dev`, or the one on PATH. After a change of proto/ run this and commit.
set -euo pipefail

cd "$(dirname "$0")"
buf=${BUF:-../../.venv/bin/buf}
command -v "$buf" >/dev/null || buf=buf
"$buf" generate --template buf.gen.yaml
gofmt -l gen
