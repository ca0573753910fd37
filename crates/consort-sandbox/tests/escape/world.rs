//! What stands outside of the sandbox for attempts to reach: files, sockets, ports, and a process with a secret.

use std::fs::{self, File, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use consort_sandbox::Sandbox;
use serde_json::json;

use crate::common::{self, folder};
use crate::{Outcomes, outcomes};

const SECRET: &str = "nobody inside may know this";

pub(crate) struct World {
    folders: Vec<tempfile::TempDir>,
    folder: PathBuf,
    data: PathBuf,
    outside: PathBuf,
    targets: String,
    victim: Child,
    granted: TcpListener,
    /// An open file that is not closed when a program is executed.
    _leak: File,
    // Open as long as the world stands.
    _sockets: (TcpListener, UdpSocket, UnixListener, UnixListener),
}

pub(crate) fn is_root() -> bool {
    text(Command::new("id").arg("-u")) == "0"
}

fn text(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}

impl World {
    pub(crate) fn new() -> Self {
        let (folders, paths): (Vec<_>, Vec<_>) = (0..4).map(|_| folder()).unzip();
        let [folder, data, outside, home] = <[PathBuf; 4]>::try_from(paths).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "py") {
                fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::write(folder.join("code.txt"), "code").unwrap();
        fs::create_dir(home.join(".ssh")).unwrap();
        fs::write(home.join(".ssh/id_probe"), SECRET).unwrap();
        for name in ["secret", "attributes", "delete", "rename"] {
            fs::write(outside.join(name), SECRET).unwrap();
        }
        fs::copy("/bin/true", outside.join("program")).unwrap();
        let setuid = folder.join("setuid-id");
        fs::copy("/usr/bin/id", &setuid).unwrap();
        if is_root() {
            // What it is turned into shows: root turns into nobody.
            chown(&setuid, Some(65534), None).unwrap();
        }
        fs::set_permissions(&setuid, Permissions::from_mode(0o4755)).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let granted = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = UnixListener::bind(outside.join("socket")).unwrap();
        let name = format!("consort-probe-{}-{free}", std::process::id());
        let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let leak = File::open(outside.join("secret")).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let seconds = format!("98765{free}");
        let victim = Command::new("sleep").arg(&seconds).env("HOST_SECRET", SECRET).spawn().unwrap();
        // The fields after the name in parentheses; the third of them is the group.
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let group: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap().parse().unwrap();
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let disk = mounts
            .lines()
            .filter_map(|line| line.split(' ').next())
            .find(|from| from.starts_with("/dev/"))
            .unwrap_or("/dev/sda");
        let targets = json!({
            "folder": folder, "data": data, "outside": outside, "home": home, "secret": outside.join("secret"),
            "victim_file": outside.join("attributes"), "victim_delete": outside.join("delete"),
            "victim_rename": outside.join("rename"), "outside_program": outside.join("program"), "setuid": setuid,
            "tcp": tcp.local_addr().unwrap().port(), "udp": udp.local_addr().unwrap().port(), "free": free,
            "socket": outside.join("socket"), "abstract": name, "victim": victim.id(), "victim_name": seconds,
            "host_group": group, "disk": disk,
        })
        .to_string();
        Self {
            folders,
            folder,
            data,
            outside,
            targets,
            victim,
            granted,
            _leak: leak,
            _sockets: (tcp, udp, path, hidden),
        }
    }

    /// Its folder to read and a folder for data; nothing else.
    pub(crate) fn sandbox(&self) -> Sandbox {
        Sandbox {
            write: vec![self.data.clone()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("PROBE_TARGETS".into(), self.targets.clone())],
            ..Sandbox::new(&self.folder)
        }
    }

    pub(crate) fn granted_port(&self) -> u16 {
        self.granted.local_addr().unwrap().port()
    }

    /// The same attempts outside, as far as they are harmless: what works there is well made.
    pub(crate) fn outside(&self, what: &str) -> Outcomes {
        let mut command = Command::new(common::python());
        command.args(["-B", "probes.py", what, "--harmless"]).current_dir(&self.folder);
        command.env("PROBE_TARGETS", &self.targets).env("PATH", "/usr/bin:/bin");
        outcomes(&common::stdout(&common::finish(command)))
    }

    /// Nothing outside is changed. Called before the attempts are made outside, or after: those change nothing that is looked at.
    pub(crate) fn assert_unharmed(&self) {
        assert_eq!(fs::read_to_string(self.outside.join("secret")).unwrap().len(), SECRET.len());
        assert!(File::open("/usr/bin/probe-made").is_err() && File::open("/etc/probe-made").is_err());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        self.folders.clear();
    }
}
