//! A board on a bench, played by the other end of a pseudo-terminal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hil_tests::device::bench::{Cable, Power, Wiring};
use hil_tests::device::real::Real;
use hil_tests::device::{Device, Link, boot, wait_ready};
use nix::pty::openpty;
use nix::unistd::ttyname;

/// Plays a board: greets, and answers every command that the console runs.
struct Board {
    dir: tempfile::TempDir,
    port: PathBuf,
    line: File,
    typed: Arc<Mutex<String>>,
    /// Keeps the line from being cut whenever nobody listens.
    _end: OwnedFd,
}

impl Board {
    fn new(answer: &'static str) -> Self {
        let pty = openpty(None, None).unwrap();
        let port = ttyname(&pty.slave).unwrap();
        let line = File::from(pty.master);
        let typed = Arc::new(Mutex::new(String::new()));
        let (mut heard, heard_text) = (line.try_clone().unwrap(), Arc::clone(&typed));
        let mut reply = line.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            let mut answered = 0;
            while let Ok(read @ 1..) = heard.read(&mut buffer) {
                let mut text = heard_text.lock().unwrap();
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                while text.contains(&format!("<E\"ND-{}\" $?>\"\n", answered + 1)) {
                    answered += 1;
                    let said = format!("<BEGIN-{answered}>\r\n{answer}<END-{answered} 3>\r\n# ");
                    reply.write_all(said.as_bytes()).unwrap();
                }
            }
        });
        Self {
            dir: tempfile::tempdir().unwrap(),
            port,
            line,
            typed,
            _end: pty.slave,
        }
    }

    fn wiring(&self) -> Wiring {
        let note = |what: &str| {
            let log = self.dir.path().join("switched").display().to_string();
            ["sh", "-c", "echo $1 >> $0", &log, what]
                .map(str::to_owned)
                .to_vec()
        };
        Wiring {
            name: "router-1".into(),
            target: "mipsel".into(),
            serial: self.port.clone(),
            baud: 115_200,
            host: "192.0.2.10".into(),
            power: Power {
                on: note("on"),
                off: note("off"),
            },
            link: Some(Cable {
                up: note("up"),
                down: note("down"),
            }),
        }
    }

    fn says(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).unwrap();
    }

    fn switched(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("switched")).unwrap();
        log.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }
}

#[test]
fn a_real_board_is_switched_listened_to_and_typed_at() {
    let mut board = Board::new("line one\r\nline two\r\n");
    let mut real = Real::new(&board.wiring(), board.dir()).unwrap();
    assert!(real.console().is_err());
    // What a loader says before it has set its speed is no text.
    board.says(b"\xff\xfe\x00U-Boot 2024.01\r\ntether: ready: mips 6.1, up 3.0 s\r\n# ");
    boot(&mut real).unwrap();
    let done = real.console().unwrap().run("show 'two lines'").unwrap();
    assert_eq!(
        (done.code(), done.stdout.as_str()),
        (3, "line one\nline two\n")
    );
    assert!(board.typed.lock().unwrap().contains("show 'two lines'\n"));
    real.set_link(Link::Down).unwrap();
    real.set_link(Link::Up).unwrap();
    real.cut_power().unwrap();
    assert!(real.console().is_err());
    drop(real);
    assert_eq!(board.switched(), "off on down up off off");
    let log = std::fs::read(board.dir().join("serial.log")).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("U-Boot 2024.01"));
}

#[test]
fn a_real_board_that_says_nothing_is_named() {
    let board = Board::new("");
    let mut real = Real::new(&board.wiring(), board.dir()).unwrap();
    real.power_on().unwrap();
    let error = wait_ready(&mut real, Duration::from_millis(300)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("router-1 does not start"), "{text}");
    assert!(text.contains("(nothing)"), "{text}");
    drop(real);
    assert_eq!(board.switched(), "off on off");
}

#[test]
fn what_a_bench_lacks_or_gets_wrong_is_said() {
    let board = Board::new("");
    let mut wiring = board.wiring();
    wiring.link = None;
    let mut real = Real::new(&wiring, board.dir()).unwrap();
    let text = format!("{:#}", real.set_link(Link::Down).unwrap_err());
    assert!(text.contains("cannot pull the cable of router-1"), "{text}");

    wiring.serial = board.dir().join("no-port");
    let mut real = Real::new(&wiring, board.dir()).unwrap();
    let text = format!("{:#}", real.power_on().unwrap_err());
    assert!(text.contains("no-port"), "{text}");

    wiring.power.off = vec!["false".into()];
    let text = format!("{:#}", Real::new(&wiring, board.dir()).err().unwrap());
    assert!(text.contains("on the bench, for router-1: false"), "{text}");
}
