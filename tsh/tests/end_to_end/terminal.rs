//! `tsh ssh` in a terminal: raw mode, size, escapes, and prompts.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::client::User;
use crate::cluster::{Cluster, Options};

const PATIENCE: Duration = Duration::from_secs(10);

/// A terminal with `tsh` in it.
struct Terminal {
    keyboard: File,
    tty: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    fn run(user: &User, args: &[&str]) -> Self {
        let pty = openpty(None, None).unwrap();
        let tsh = user.command(args);
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg("--wait")
            .arg(tsh.get_program())
            .args(tsh.get_args());
        command.env_clear();
        for (name, value) in tsh.get_envs() {
            command.env(name, value.unwrap());
        }
        command
            .env("TERM", "vt100")
            .env("LANG", "C.UTF-8")
            .env("SECRET", "x");
        let end = || pty.slave.try_clone().unwrap();
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let keyboard = File::from(pty.master);
        let (mut reader, shown) = (keyboard.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            keyboard,
            tty: pty.slave,
            screen,
            child,
        }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) {
        let start = Instant::now();
        while !self.screen().contains(text) {
            assert!(
                start.elapsed() < PATIENCE,
                "no {text:?} in {:?}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.tty).unwrap().local_flags;
        !flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    fn resize(&self) {
        let name = nix::unistd::ttyname(&self.tty).unwrap();
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(name).args(["cols", "132", "rows", "43"]);
        assert!(stty.status().unwrap().success());
    }

    fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

fn user() -> User {
    User::logged_in(&Cluster::start(Options::default()))
}

#[test]
fn a_shell_gets_the_terminal_and_the_terminal_is_put_back() {
    let user = user();
    let mut terminal = Terminal::run(&user, &["ssh", "gateway-1"]);
    terminal.wait_for("terminal vt100 80x24 erase=127");
    terminal.wait_for("env LANG=C.UTF-8");
    assert!(!terminal.screen().contains("SECRET"));
    assert!(terminal.is_raw());
    terminal.press("exit\r");
    terminal.wait_for("Connection to gateway-1 closed.");
    assert_eq!(terminal.exit_code(), 7);
    assert!(!terminal.is_raw());
}

#[test]
fn the_node_learns_a_new_size() {
    let user = user();
    let mut terminal = Terminal::run(&user, &["ssh", "gateway-1"]);
    terminal.wait_for("terminal");
    terminal.resize();
    terminal.wait_for("resized 132x43");
    terminal.press("exit\r");
    assert_eq!(terminal.exit_code(), 7);
}

#[test]
fn escapes_disconnect_help_and_send_a_tilde() {
    let user = user();
    let mut terminal = Terminal::run(&user, &["ssh", "gateway-1"]);
    terminal.wait_for("terminal");
    terminal.press("~?");
    terminal.wait_for("end the connection");
    terminal.press("~~a\r");
    terminal.wait_for("~a");
    assert!(!terminal.screen().contains("~~a"));
    terminal.press("~.");
    assert_eq!(terminal.exit_code(), 255);
    assert!(!terminal.is_raw());
}

#[test]
fn keys_that_are_signals_elsewhere_go_to_the_node() {
    let user = user();
    let mut terminal = Terminal::run(&user, &["ssh", "gateway-1"]);
    terminal.wait_for("terminal");
    terminal.press("\x03\x1a\x04<end>");
    terminal.wait_for("\x03\x1a\x04<end>");
    terminal.press("exit\r");
    assert_eq!(terminal.exit_code(), 7);
}

#[test]
fn a_signal_from_outside_puts_the_terminal_back() {
    let user = user();
    let mut terminal = Terminal::run(&user, &["ssh", "gateway-1"]);
    terminal.wait_for("terminal");
    assert!(terminal.is_raw());
    let home = format!("TSH_HOME={}", user.home.path().display());
    let tsh = find("tsh", &home);
    nix::sys::signal::kill(tsh, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(terminal.exit_code(), 143);
    assert!(!terminal.is_raw());
}

/// The process of that name with that variable in its environment.
fn find(name: &str, variable: &str) -> nix::unistd::Pid {
    let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let dir = entry.unwrap().path();
        let comm = std::fs::read_to_string(dir.join("comm")).ok()?;
        let environ = std::fs::read(dir.join("environ")).ok()?;
        let mut variables = environ.split(|&byte| byte == 0);
        (comm.trim() == name && variables.any(|v| v == variable.as_bytes()))
            .then(|| dir.file_name().unwrap().to_str().unwrap().parse().unwrap())
    });
    nix::unistd::Pid::from_raw(found.unwrap())
}

#[test]
fn an_unknown_cluster_is_asked_about_and_the_password_is_not_shown() {
    let user = User::of(&Cluster::start(Options::default()));
    let args = ["login", "--proxy", &user.proxy, "--user", "ann"];
    let mut terminal = Terminal::run(&user, &args);
    terminal.wait_for(&user.pin);
    terminal.wait_for("Continue (yes/no)?");
    terminal.press("y\n");
    terminal.press("yes\n");
    terminal.wait_for("Password, or invite code: ");
    terminal.press("correct horse\n");
    terminal.wait_for("Valid until:");
    assert_eq!(terminal.exit_code(), 0);
    assert!(!terminal.screen().contains("correct"));
}

#[test]
fn a_no_trusts_nobody() {
    let user = User::of(&Cluster::start(Options::default()));
    let args = ["login", "--proxy", &user.proxy, "--user", "ann"];
    let mut terminal = Terminal::run(&user, &args);
    terminal.wait_for("Continue (yes/no)?");
    terminal.press("no\n");
    assert_eq!(terminal.exit_code(), 246);
}

#[test]
fn an_invite_typed_at_the_prompt_asks_for_a_new_password_twice() {
    let user = User::of(&Cluster::start(Options::default()));
    let args = [
        "login",
        "--proxy",
        &user.proxy,
        "--user",
        "ann",
        "--ca-pin",
        &user.pin,
    ];
    let mut terminal = Terminal::run(&user, &args);
    terminal.wait_for("Password, or invite code: ");
    terminal.press("tinv-good\r");
    terminal.wait_for("New password: ");
    terminal.press("brand new one\r");
    terminal.wait_for("Repeat it: ");
    terminal.press("brand new one\r");
    assert_eq!(terminal.exit_code(), 0, "{}", terminal.screen());
}

#[test]
fn ctrl_c_at_the_prompt_leaves_an_echoing_terminal() {
    let user = User::of(&Cluster::start(Options::default()));
    let args = [
        "login",
        "--proxy",
        &user.proxy,
        "--user",
        "ann",
        "--ca-pin",
        &user.pin,
    ];
    let mut terminal = Terminal::run(&user, &args);
    terminal.wait_for("Password, or invite code: ");
    terminal.press("corr\x03");
    assert_eq!(terminal.exit_code(), 1);
    assert!(!terminal.is_raw());
}

#[test]
fn with_a_terminal_an_expired_login_is_renewed_on_the_way() {
    let user = User::logged_in(&Cluster::start(Options {
        ttl: Duration::from_secs(1),
        ..Options::default()
    }));
    let mut terminal = Terminal::run(&user, &["ls"]);
    terminal.wait_for("expired");
    terminal.wait_for("Password, or invite code: ");
    terminal.press("correct horse\r");
    terminal.wait_for("gateway-1");
    assert_eq!(terminal.exit_code(), 0);
}
