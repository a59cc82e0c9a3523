//! As whom an agent serves: root's as anybody, an ordinary user's as that user only.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use hil_tests::cluster::{Cluster, me};

#[test]
fn an_agent_that_is_not_roots_offers_one_login_and_says_so() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let mut agent = cluster.device("gateway-1", None).unwrap();
    let only = if cluster.accounts().is_ok() {
        agent.run_as("nobody").unwrap();
        "nobody".to_owned()
    } else {
        me()
    };
    cluster.admit(&agent, "").unwrap();
    agent.start().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    let both = format!("root,{only}");
    cluster.add_user("operator", "access", &both).unwrap();
    cluster.add_user("other", "access", "root").unwrap();

    let operator = cluster.logged_in("operator").unwrap();
    let ssh = |login: &str, command| {
        let target = format!("{login}@gateway-1");
        operator.tsh(&["ssh", &target, command]).unwrap()
    };
    let done = ssh(&only, "id -un; id -u >&2");
    let uid = std::fs::metadata(agent.data_dir()).unwrap().uid();
    assert_ne!(uid, 0);
    assert_eq!(
        (done.stdout, done.stderr),
        (format!("{only}\n"), format!("{uid}\n"))
    );
    let sentence = "gateway-1 does not let you in as root";
    ssh("root", "id").refused(250, sentence).unwrap();
    let other = cluster.logged_in("other").unwrap();
    let done = other.tsh(&["ssh", "root@gateway-1", "id"]).unwrap();
    let sentence =
        format!("The agent on this node does not run as root: the only login it offers is {only}.");
    done.refused(250, &sentence).unwrap();
    cluster.audited("T1006W", &sentence).unwrap();

    let log = agent.log();
    for said in [
        format!("runs as {only}, not root: only the login {only} is offered"),
        "the agent does not run as root and offers another login only".into(),
    ] {
        assert!(log.contains(&said), "{said:?} in {log}");
    }
    let status = agent.run(&["status"], b"").unwrap().ok().unwrap();
    let said = format!("only {only}, since the agent does not run as root");
    assert!(status.contains(&said), "{status}");
    let listed = operator.tsh(&["ls", "-v"]).unwrap().ok().unwrap();
    assert!(listed.contains(&format!("only {only}")), "{listed}");
    let listed = operator.tsh(&["ls", "--format", "json"]).unwrap();
    let nodes: serde_json::Value = serde_json::from_str(&listed.ok().unwrap()).unwrap();
    assert_eq!(nodes[0]["only_login"], only);
}

#[test]
fn roots_agent_serves_a_user_as_that_user() {
    let (dir, cluster) = Cluster::temporary().unwrap();
    let Ok(accounts) = cluster.accounts() else {
        eprintln!("skipped: only root can give agents users of their own");
        return;
    };
    let home = accounts
        .add("ann", 12_345, &[("diallers", 12_346)])
        .unwrap();
    cluster.add_user("operator", "access", "ann").unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let ssh = |command| {
        operator
            .tsh(&["ssh", "ann@gateway-1", "--", command])
            .unwrap()
    };

    assert_eq!(
        ssh("id").ok().unwrap(),
        "uid=12345(ann) gid=12345(ann) groups=12345(ann),12346(diallers)\n"
    );
    let variables = ssh("echo $HOME $USER $LOGNAME $SHELL; pwd").ok().unwrap();
    let home = home.display();
    assert_eq!(variables, format!("{home} ann ann /bin/sh\n{home}\n"));
    let terminal = operator.tsh(&["ssh", "-tt", "ann@gateway-1", "test -O $(tty) && echo mine"]);
    assert_eq!(terminal.unwrap().stdout, "mine\r\n");

    ssh("umask 027; echo hers > made-here").ok().unwrap();
    let made = std::fs::metadata(format!("{home}/made-here")).unwrap();
    assert_eq!((made.uid(), made.gid()), (12_345, 12_345));
    assert_eq!(made.permissions().mode() & 0o777, 0o640);
    // What is root's alone stays so, and nothing of root is left to take back.
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "root's").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let read = format!("cat {}", secret.display());
    ssh(&read).refused(1, "Permission denied").unwrap();
    let ids = ssh("grep -E '^(Uid|Gid|CapEff)' /proc/self/status")
        .ok()
        .unwrap();
    assert_eq!(
        ids,
        "Uid:\t12345\t12345\t12345\t12345\nGid:\t12345\t12345\t12345\t12345\nCapEff:\t0000000000000000\n"
    );
}
