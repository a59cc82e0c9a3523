use clap::Parser;

use super::*;
use crate::cli::{Cli, Command, ProxyCommand};

fn ssh(args: &[&str]) -> SshArgs {
    let words = ["tsh", "ssh"].into_iter().chain(args.iter().copied());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Ssh(args) => args,
        other => panic!("{other:?}"),
    }
}

fn proxy(destination: &str) -> Result<Destination, NoNode> {
    match Cli::try_parse_from(["tsh", "proxy", "ssh", destination])
        .unwrap()
        .command
    {
        Command::Proxy(ProxyCommand::Ssh(args)) => args.destination(),
        other => panic!("{other:?}"),
    }
}

fn to(login: Option<&str>, node: &str) -> Destination {
    Destination {
        login: login.map(str::to_owned),
        node: node.to_owned(),
    }
}

#[test]
fn a_login_may_stand_before_the_node_or_behind_l() {
    for (args, expected) in [
        (&["node"][..], to(None, "node")),
        (&["root@node"], to(Some("root"), "node")),
        (&["-l", "root", "node"], to(Some("root"), "node")),
        (&["-lroot", "node"], to(Some("root"), "node")),
        (&["-l", "ann", "root@node"], to(Some("root"), "node")),
        (
            &["ann@example.com@node.lab"],
            to(Some("ann@example.com"), "node.lab"),
        ),
    ] {
        assert_eq!(ssh(args).destination(), Ok(expected), "{args:?}");
    }
}

#[test]
fn options_end_at_the_node() {
    for (args, command) in [
        (&["root@n", "ls", "-la"][..], "ls -la"),
        (&["root@n", "--", "ls", "-la"], "ls -la"),
        (&["--", "root@n", "ls", "-la"], "ls -la"),
        (&["-T", "root@n", "-l", "x"], "-l x"),
        (&["root@n", "git", "log", "--", "a b"], "git log -- a b"),
        (
            &["root@n", "sh", "-c", "echo --proxy $X"],
            "sh -c echo --proxy $X",
        ),
    ] {
        let parsed = ssh(args);
        assert_eq!(parsed.destination(), Ok(to(Some("root"), "n")), "{args:?}");
        assert_eq!(parsed.command().as_deref(), Some(command), "{args:?}");
    }
}

#[test]
fn without_words_behind_the_node_there_is_no_command() {
    assert_eq!(ssh(&["node"]).command(), None);
    assert_eq!(ssh(&["node", "--"]).command(), None);
}

#[test]
fn what_scripts_pass_to_openssh_is_taken() {
    let args = ssh(&[
        "-q",
        "-p",
        "22",
        "-oBatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "n",
    ]);
    assert!(args.quiet);
    assert_eq!(args.options, ["BatchMode=yes", "StrictHostKeyChecking=no"]);
}

#[test]
fn the_terminal_is_asked_for_as_in_openssh() {
    for (args, tty) in [
        (&["n"][..], Tty::Auto),
        (&["-t", "n"], Tty::Wanted),
        (&["-tt", "n"], Tty::Forced),
        (&["-t", "-t", "n"], Tty::Forced),
        (&["-T", "n"], Tty::Never),
        (&["-t", "-T", "n"], Tty::Never),
        (&["-T", "-t", "n"], Tty::Wanted),
    ] {
        assert_eq!(ssh(args).tty(), tty, "{args:?}");
    }
}

#[test]
fn a_destination_needs_a_node() {
    for wrong in ["", "root@", "@node", "root@-x"] {
        assert_eq!(wrong.parse::<Destination>(), Err(NoNode), "{wrong}");
    }
}

#[test]
fn the_port_openssh_adds_is_dropped() {
    assert_eq!(proxy("root@gw.lab:22"), Ok(to(Some("root"), "gw.lab")));
    assert_eq!(proxy("gw"), Ok(to(None, "gw")));
    assert_eq!(proxy(":22"), Err(NoNode));
}
