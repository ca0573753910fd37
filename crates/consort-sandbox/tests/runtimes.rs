//! What a plugin does on an ordinary day works: languages, threads, their own sockets, files, temporary files, programs that are granted.
#![cfg(target_os = "linux")]
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{folder, launcher, python, run, stdout};
use consort_sandbox::{Exec, Mechanisms, Net, Sandbox, usage};

struct Place {
    _guards: [tempfile::TempDir; 2],
    data: PathBuf,
    sandbox: Sandbox,
}

/// A folder of a plugin and one for its data; nothing else is granted.
fn place() -> Place {
    let ((one, folder), (two, data)) = (folder(), folder());
    let env = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("DATA".to_owned(), data.display().to_string()),
    ];
    let sandbox = Sandbox { write: vec![data.clone()], env, ..Sandbox::new(folder) };
    Place { _guards: [one, two], data, sandbox }
}

impl Place {
    fn put(&self, name: &str, text: &str) {
        let path = self.sandbox.folder.join(name);
        fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).unwrap();
    }
}

/// Whether a program is on PATH. What tests a language that is not installed has nothing to test, and says so.
fn found(program: &str) -> bool {
    let there = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("{program} is not installed: nothing is tested");
    }
    there
}

const PYTHON: &str = r#"
import asyncio, concurrent.futures, ctypes, hashlib, json, multiprocessing, os, socket, sqlite3, ssl, sys, tempfile, threading, zoneinfo

assert os.getcwd() == os.path.dirname(os.path.abspath(__file__)), os.getcwd()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert sum(pool.map(lambda n: n * n, range(100))) == 328350
with tempfile.TemporaryDirectory() as folder:
    assert folder.startswith("/tmp/")
    open(os.path.join(folder, "x"), "w").close()
data = os.environ["DATA"]
with sqlite3.connect(os.path.join(data, "db")) as db:
    db.execute("create table t (n)")
os.mkfifo(os.path.join(data, "fifo"))
os.rename(os.path.join(data, "fifo"), os.path.join(data, "moved"))
os.chmod(os.path.join(data, "moved"), 0o600)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, [-1, 2]) == [1, 2]
assert ssl.create_default_context().get_ca_certs() is not None
assert os.cpu_count() >= 1 and os.path.expanduser("~")

async def main():
    server = await asyncio.start_unix_server(lambda r, w: w.close(), os.path.join(data, "socket"))
    reader, writer = await asyncio.open_unix_connection(os.path.join(data, "socket"))
    assert await reader.read() == b""
    server.close()

asyncio.run(main())
pid = os.fork()
if pid == 0:
    os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
print(json.dumps(sorted(os.environ)))
"#;

#[test]
fn python_runs() {
    let place = place();
    place.put("main.py", PYTHON);
    let text = stdout(&run(&launcher(), &place.sandbox, python(), &["-B", "main.py"]));
    assert!(text.contains(r#""DATA""#) && !text.contains("HOME") && !text.contains("CONSORT"), "{text}");
    assert!(place.data.join("db").exists());
}

#[test]
fn a_virtual_environment_runs() {
    let place = place();
    let venv = place.sandbox.folder.join(".venv");
    let made = Command::new(python()).args(["-m", "venv", "--without-pip"]).arg(&venv).status().unwrap();
    assert!(made.success());
    let script = "import sys; print(sys.prefix != sys.base_prefix, sys.prefix)";
    let text = stdout(&run(&launcher(), &place.sandbox, "./.venv/bin/python", &["-c", script]));
    assert_eq!(text, format!("True {}\n", venv.display()));
}

#[test]
fn scripts_of_env_need_no_grant() {
    let place = place();
    let python = python();
    let name = python.file_name().unwrap().to_str().unwrap();
    place.put("plugin", &format!("#!/usr/bin/env {name}\nimport sys; print(sys.argv)\n"));
    let path = ("PATH".to_owned(), python.parent().unwrap().display().to_string());
    let sandbox = Sandbox { env: vec![path], ..place.sandbox.clone() };
    let text = stdout(&run(&launcher(), &sandbox, "./plugin", &["one", "two"]));
    assert!(text.contains("plugin', 'one', 'two']"), "{text}");
}

#[test]
fn node_runs() {
    if !found("node") {
        return;
    }
    let place = place();
    place.put(
        "main.mjs",
        r"
import { Worker } from 'node:worker_threads';
import net from 'node:net';
import fs from 'node:fs';
import os from 'node:os';
import crypto from 'node:crypto';
const path = process.env.DATA + '/socket';
const server = net.createServer(s => s.end('hi')).listen(path, () => {
  let text = '';
  net.connect(path).on('data', d => text += d).on('end', () => {
    server.close();
    const worker = new Worker('require(`node:worker_threads`).parentPort.postMessage(7)', { eval: true });
    worker.on('message', m => {
      fs.writeFileSync(os.tmpdir() + '/x', crypto.randomBytes(8));
      console.log(text, m, os.cpus().length > 0, os.totalmem() > 0, typeof WebAssembly.Memory);
    });
  });
});
",
    );
    assert_eq!(stdout(&run(&launcher(), &place.sandbox, "node", &["main.mjs"])), "hi 7 true true function\n");
}

#[test]
fn go_runs() {
    if !found("go") {
        return;
    }
    let place = place();
    place.put(
        "main.go",
        r#"package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

func main() {
	var group sync.WaitGroup
	for range 50 {
		group.Add(1)
		go func() { defer group.Done(); time.Sleep(time.Millisecond) }()
	}
	group.Wait()
	listener, err := net.Listen("unix", os.Getenv("DATA")+"/socket")
	if err != nil {
		panic(err)
	}
	go func() { c, _ := listener.Accept(); c.Write([]byte("hi")); c.Close() }()
	c, err := net.Dial("unix", os.Getenv("DATA")+"/socket")
	if err != nil {
		panic(err)
	}
	text, _ := io.ReadAll(c)
	file, err := os.CreateTemp("", "x")
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text), file.Name()[:5])
}
"#,
    );
    let binary = place.sandbox.folder.join("plugin");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&binary)
        .arg("main.go")
        .current_dir(&place.sandbox.folder)
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .env("GOTOOLCHAIN", "local")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(stdout(&run(&launcher(), &place.sandbox, "./plugin", &[])), "hi /tmp/\n");
}

/// This very test, as a program in Rust.
#[test]
fn rust_runs() {
    let place = place();
    fs::copy(std::env::current_exe().unwrap(), place.sandbox.folder.join("plugin")).unwrap();
    let args = ["--ignored", "--exact", "a_program_in_rust", "--nocapture"];
    let text = stdout(&run(&launcher(), &place.sandbox, "./plugin", &args));
    assert!(text.contains("hi from Rust"), "{text}");
}

#[test]
#[ignore = "is run in a sandbox by another test"]
fn a_program_in_rust() {
    let path = Path::new(&std::env::var_os("DATA").unwrap()).join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hi from Rust").unwrap());
    let mut text = String::new();
    UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
    server.join().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("x"), &text).unwrap();
    println!("{text}");
}

#[test]
fn both_sides_reach_the_others_socket() {
    let place = place();
    let (_guard, host) = folder();
    let listener = UnixListener::bind(host.join("mesh.sock")).unwrap();
    let sandbox = Sandbox { sockets: vec![host.join("mesh.sock")], ..place.sandbox.clone() };
    let script = format!(
        "import os, socket\n\
         out = socket.socket(socket.AF_UNIX); out.connect({:?}); out.sendall(b'from inside'); out.close()\n\
         own = socket.socket(socket.AF_UNIX); own.bind(os.environ['DATA'] + '/own.sock'); own.listen()\n\
         print('up', flush=True)\n\
         peer, _ = own.accept(); print(peer.recv(100).decode())",
        host.join("mesh.sock")
    );
    let command = launcher().command(&sandbox, &python(), &["-c".to_owned(), script]);
    let mut child = command.unwrap().stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from inside");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    let mut own = UnixStream::connect(place.data.join("own.sock")).unwrap();
    // Who listens is told by its id outside: so the mesh knows that it talks to its plugin.
    let peer = rustix::net::sockopt::socket_peercred(&own).unwrap().pid.as_raw_nonzero().get().unsigned_abs();
    assert_eq!(usage(child.id()).program, peer);
    own.write_all(b"from outside").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "from outside");
    assert!(child.wait().unwrap().success());
}

#[test]
fn granted_files_and_programs_are_there() {
    let place = place();
    let ((_one, read), (_two, write)) = (folder(), folder());
    fs::write(read.join("a"), "read me").unwrap();
    std::os::unix::fs::symlink(read.join("a"), read.join("link")).unwrap();
    fs::write(write.join("single"), "old").unwrap();
    fs::create_dir(read.join("deep")).unwrap();
    let (_three, elsewhere) = folder();
    std::os::unix::fs::symlink(&read, elsewhere.join("by-link")).unwrap();
    let sandbox = Sandbox {
        read: vec![elsewhere.join("by-link"), "/no/such/file".into()],
        write: vec![place.data.clone(), write.join("single"), read.join("deep")],
        exec: Exec::Only(["/bin/sh", "/bin/cat"].map(PathBuf::from).to_vec()),
        ..place.sandbox.clone()
    };
    let script = format!(
        "cat {0}/link; cat {1}/by-link/a; echo new > {2}/single; echo x > {0}/deep/x; (echo x > {0}/b) || echo refused",
        read.display(),
        elsewhere.display(),
        write.display(),
    );
    let output = run(&launcher(), &sandbox, "sh", &["-c", &script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "read meread merefused\n", "{output:?}");
    assert_eq!(fs::read_to_string(write.join("single")).unwrap(), "new\n");
    assert!(read.join("deep/x").exists() && !read.join("b").exists());
}

#[test]
fn a_granted_network_is_there() {
    let place = place();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for net in [Net::All, Net::Ports { connect: vec![port], bind: vec![], udp: true }] {
        let sandbox = Sandbox { net, ..place.sandbox.clone() };
        let script = format!("import socket; s = socket.create_connection(('localhost', {port})); s.sendall(b'in')");
        stdout(&run(&launcher(), &sandbox, python(), &["-c", &script]));
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in");
    }
}

#[test]
fn granted_programs_have_terminals() {
    let place = place();
    let sandbox = Sandbox { exec: Exec::All, ..place.sandbox.clone() };
    let script = "import os, pty\nours, theirs = pty.openpty()\nprint(os.ttyname(theirs), os.listdir('/dev/pts'))\n\
                  pty.spawn(['/bin/sh', '-c', 'test -t 0 && stty size && tty'])";
    let text = stdout(&run(&launcher(), &sandbox, python(), &["-c", script]));
    assert!(text.contains("/dev/pts/0") && text.contains("/dev/pts/1"), "{text}");
}

#[test]
fn the_whole_machine_can_be_granted_to_be_read() {
    let place = place();
    let sandbox = Sandbox { read: vec!["/".into()], exec: Exec::All, ..place.sandbox.clone() };
    let script = "ls / >/dev/null && cat /etc/passwd | wc -l && ls /tmp && echo $(ls -d /proc/[0-9]* | wc -l) && \
                  (echo x > /etc/probe-made) 2>/dev/null || echo refused; echo x > $DATA/x && echo > /tmp/x && echo fine";
    let text = stdout(&run(&launcher(), &sandbox, "sh", &["-c", script]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() >= 1, "{text}");
    assert_eq!(lines[lines.len() - 2..], ["refused", "fine"], "{text}");
    assert!(lines[lines.len() - 3].parse::<u32>().unwrap() < 10, "it sees its own processes: {text}");
}

/// As in a container that hides parts of its own `/proc`.
#[test]
fn without_proc_it_runs() {
    let place = place();
    place.put("main.py", PYTHON);
    let launcher = launcher();
    let mechanisms = Mechanisms { proc: false, processes: false, ..launcher.mechanisms().clone() };
    let sandbox = Sandbox { allow_missing: true, ..place.sandbox.clone() };
    stdout(&run(&launcher.with_mechanisms(mechanisms), &sandbox, python(), &["-B", "main.py"]));
}

/// Nothing but limits: what is left where a kernel has nothing, and the operator accepts that.
#[test]
fn without_anything_it_runs() {
    let place = place();
    place.put("main.py", PYTHON);
    let bare = launcher().with_mechanisms(Mechanisms::default());
    let sandbox = Sandbox { allow_missing: true, ..place.sandbox.clone() };
    assert_eq!(bare.on(&sandbox), ["no-new-privs", "no-capabilities", "rlimits"]);
    stdout(&run(&bare, &sandbox, python(), &["-B", "main.py"]));
}
