#!/usr/bin/env bash
# Installs what Consort is measured beside into a folder outside the repository. Run it as often as you like.
#
#   tests/bench/setup.sh [shape] [restate] [temporal] [go-plugin] [mcp-python] [mcp-typescript]     all of them when none is named
#
# shape      the bare shape of the design, and the HTTP load generator; needs cargo
# restate    Restate's server and SDK from npm; needs npm, and Node 22 or newer, which is taken from npm if it is older here
# temporal   Temporal's development server and a Go worker, built from the Go module proxy; needs Go 1.25 or newer, and minutes
# go-plugin  hashicorp/go-plugin's examples and a host for them, from the Go module proxy; needs Go
# mcp-python MCP's Python SDK, from PyPI into an environment of its own; needs Python 3.10 or newer
# mcp-typescript   MCP's TypeScript SDK, from npm; needs npm, and Node 20 or newer
#
# CONSORT_BENCH_CACHE is the folder, ~/.cache/consort-bench by default. What cannot be installed is named; the bench leaves
# it out. The exit code is the number of those.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${CONSORT_BENCH_CACHE:-$HOME/.cache/consort-bench}"
mkdir -p "$cache/bin" || exit 1

# Temporal's command line with its development server, and the server that one embeds; the SDK is named in load/go.mod.
temporal_cli=1.9.1
node_version=22.23.3

say() { echo "bench setup: $*" >&2; }
has() { command -v "$1" >/dev/null; }

shape() {
    has cargo || { say "shape: cargo is missing; see https://rustup.rs"; return 1; }
    say "shape: building"
    CARGO_TARGET_DIR="$cache/shape" cargo build --locked --release --manifest-path "$here/shape/Cargo.toml" || return 1
    install -m 755 "$cache/shape/release/shape" "$cache/shape/release/httpload" "$cache/bin/"
}

# Node 22 or newer: the system's, or one beside the rest.
node_for_restate() {
    local found
    found="$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')"
    if ((${found:-0} >= 22)); then return; fi
    if [[ -x "$cache/node/bin/node" ]]; then return; fi
    local arch
    case "$(uname -m)" in
        x86_64) arch=x64 ;;
        aarch64) arch=arm64 ;;
        *) say "restate: install Node 22 or newer"; return 1 ;;
    esac
    say "restate: Node is ${found:-missing} here, taking $node_version from npm"
    mkdir -p "$cache/node/bin"
    (cd "$cache/node" && npm install --no-save --no-audit --no-fund --ignore-scripts "node-linux-$arch@$node_version") || return 1
    install -m 755 "$cache/node/node_modules/node-linux-$arch/bin/node" "$cache/node/bin/node"
}

restate() {
    has npm || { say "restate: npm is missing; install Node 22 or newer"; return 1; }
    node_for_restate || return 1
    mkdir -p "$cache/restate"
    cp "$here"/peers/restate/{package.json,package-lock.json,service.mjs} "$cache/restate/"
    say "restate: installing"
    (cd "$cache/restate" && npm ci --no-audit --no-fund --ignore-scripts)
}

temporal() {
    has go || { say "temporal: Go is missing; see https://go.dev/dl"; return 1; }
    local module="github.com/temporalio/cli@v$temporal_cli" published work="$cache/temporal/src" server
    say "temporal: fetching $module"
    published="$(cd "$cache" && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')"
    [[ -d "$published" ]] || { say "temporal: $module could not be fetched"; return 1; }
    rm -rf "$work"
    mkdir -p "$cache/temporal"
    cp -r "$published" "$work" && chmod -R u+w "$work" || return 1
    # The command line needs a module that is not published; its development server does not.
    mkdir -p "$work/cmd/consort-bench"
    cp "$here/peers/temporal/devserver/main.go" "$work/cmd/consort-bench/"
    say "temporal: building the server; the first time takes minutes"
    (cd "$work" &&
        go mod edit -dropreplace github.com/temporalio/cli/cliext -droprequire github.com/temporalio/cli/cliext &&
        CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags '-s -w' -o "$cache/bin/temporal-devserver" ./cmd/consort-bench) || return 1
    say "temporal: building the worker"
    (cd "$here/peers/temporal/load" &&
        CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$cache/bin/temporal-load" .) || return 1
    server="$(sed -n 's/^\tgo.temporal.io\/server v\(.*\)$/\1/p' "$work/go.mod")"
    local sdk
    sdk="$(sed -n 's/^require go.temporal.io\/sdk v\(.*\)$/\1/p' "$here/peers/temporal/load/go.mod")"
    echo "Temporal CLI $temporal_cli (server $server), Go SDK $sdk" >"$cache/temporal/version"
}

go_plugin() {
    has go || { say "go-plugin: Go is missing; see https://go.dev/dl"; return 1; }
    local home="$cache/go-plugin" module=github.com/hashicorp/go-plugin
    mkdir -p "$home"
    say "go-plugin: building"
    (cd "$here/peers/go_plugin" &&
        export CGO_ENABLED=0 &&
        go build -trimpath -ldflags '-s -w' -o "$home/load" . &&
        go build -trimpath -ldflags '-s -w' -o "$home/kv-grpc" "$module/examples/grpc/plugin-go-grpc" &&
        go build -trimpath -ldflags '-s -w' -o "$home/greeter" "$module/examples/basic/plugin" &&
        go list -m -f '{{.Path}} {{.Version}}' "$module" google.golang.org/grpc | paste -sd, | sed 's/,/, /' >"$home/version")
}

mcp_python() {
    local python="$here/../../.venv/bin/python"
    [[ -x "$python" ]] || python="$(command -v python3)" || { say "mcp-python: Python is missing"; return 1; }
    say "mcp-python: installing"
    "$python" -m venv "$cache/mcp-python" &&
        "$cache/mcp-python/bin/pip" install --quiet --disable-pip-version-check -r "$here/peers/mcp_python/requirements.txt"
}

mcp_typescript() {
    has npm || { say "mcp-typescript: npm is missing; install Node 20 or newer"; return 1; }
    mkdir -p "$cache/mcp-typescript"
    cp "$here"/peers/mcp_typescript/{package.json,package-lock.json,echo.mjs,load.mjs} "$cache/mcp-typescript/" || return 1
    say "mcp-typescript: installing"
    (cd "$cache/mcp-typescript" && npm ci --no-audit --no-fund --ignore-scripts)
}

if (($# == 0)); then set -- shape restate temporal go-plugin mcp-python mcp-typescript; fi
missing=0
for what in "$@"; do
    case "$what" in
        shape) shape ;;
        restate) restate ;;
        temporal) temporal ;;
        go-plugin) go_plugin ;;
        mcp-python) mcp_python ;;
        mcp-typescript) mcp_typescript ;;
        *) say "'$what' is none of shape, restate, temporal, go-plugin, mcp-python, mcp-typescript"; exit 64 ;;
    esac || { say "$what is not installed"; ((missing += 1)); }
done
say "$missing missing; the rest is in $cache"
exit "$missing"
