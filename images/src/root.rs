//! What is on a device.

use cross::target::board::Board;

use crate::kernel::Module;
use crate::tree::Tree;

/// What the scripts use, and what somebody at the console may want; busybox has more.
const PROGRAMS: &[&str] = &[
    "bin/ash",
    "bin/cat",
    "bin/chmod",
    "bin/cp",
    "bin/date",
    "bin/dd",
    "bin/df",
    "bin/dmesg",
    "bin/echo",
    "bin/false",
    "bin/grep",
    "bin/hostname",
    "bin/kill",
    "bin/ln",
    "bin/ls",
    "bin/mkdir",
    "bin/mount",
    "bin/mv",
    "bin/ping",
    "bin/ps",
    "bin/pwd",
    "bin/rm",
    "bin/rmdir",
    "bin/sed",
    "bin/sh",
    "bin/sleep",
    "bin/stty",
    "bin/sync",
    "bin/touch",
    "bin/true",
    "bin/umount",
    "bin/uname",
    "bin/usleep",
    "bin/vi",
    "sbin/halt",
    "sbin/ifconfig",
    "sbin/init",
    "sbin/insmod",
    "sbin/ip",
    "sbin/poweroff",
    "sbin/reboot",
    "sbin/route",
    "sbin/udhcpc",
    "usr/bin/basename",
    "usr/bin/cut",
    "usr/bin/dirname",
    "usr/bin/du",
    "usr/bin/env",
    "usr/bin/expr",
    "usr/bin/find",
    "usr/bin/free",
    "usr/bin/head",
    "usr/bin/id",
    "usr/bin/killall",
    "usr/bin/md5sum",
    "usr/bin/nc",
    "usr/bin/od",
    "usr/bin/printf",
    "usr/bin/readlink",
    "usr/bin/seq",
    "usr/bin/sha256sum",
    "usr/bin/sort",
    "usr/bin/tail",
    "usr/bin/tee",
    "usr/bin/test",
    "usr/bin/tr",
    "usr/bin/tty",
    "usr/bin/uptime",
    "usr/bin/wc",
    "usr/bin/xargs",
    "usr/bin/yes",
];

/// What the initramfs uses.
const EARLY: &[&str] = &["insmod", "mount", "sh", "sleep", "switch_root"];

/// The root of a device.
#[must_use]
pub fn tree(name: &str, board: &Board, agent: &[u8], busybox: &[u8], modules: &[Module]) -> Tree {
    let inittab = include_str!("../files/inittab").replace("@CONSOLE@", &board.console);
    let mut tree = mount_points(Tree::default())
        .file("bin/busybox", 0o755, busybox)
        .file("usr/sbin/tether-agent", 0o755, agent)
        .file("etc/inittab", 0o644, inittab)
        .file("etc/init.d/boot", 0o755, include_str!("../files/boot"))
        .file(
            "etc/init.d/network",
            0o755,
            include_str!("../files/network"),
        )
        .file("etc/init.d/agent", 0o755, include_str!("../files/agent"))
        .file("etc/udhcpc", 0o755, include_str!("../files/udhcpc"))
        .file("etc/profile", 0o644, include_str!("../files/profile"))
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
        .file("etc/hostname", 0o644, format!("{name}\n"))
        .link("etc/resolv.conf", "/run/resolv.conf")
        .link("etc/mtab", "/proc/mounts")
        .link("etc/tether", "/data/config")
        .link("var/lib/tether-agent", "/data/tether-agent")
        .link("tmp", "/run/tmp");
    for program in PROGRAMS {
        tree = tree.link(program, "/bin/busybox");
    }
    with_modules(tree, "lib/modules", modules)
}

/// The modules, and the order that they are loaded in.
fn with_modules(mut tree: Tree, folder: &str, modules: &[Module]) -> Tree {
    let mut order = String::new();
    for module in modules {
        order += &module.name;
        order.push('\n');
        let path = format!("{folder}/{}", module.name);
        tree = tree.file(&path, 0o644, module.bytes.clone());
    }
    tree.file(&format!("{folder}/order"), 0o644, order)
}

fn mount_points(tree: Tree) -> Tree {
    let points = ["proc", "sys", "dev", "run", "data"];
    let tree = points
        .iter()
        .fold(tree, |tree, point| tree.folder(point, 0o755));
    // What init needs before it has mounted anything.
    tree.folder("root", 0o700)
        .device("dev/console", 0o600, 5, 1)
        .device("dev/null", 0o666, 1, 3)
}

/// The initramfs that mounts that root.
#[must_use]
pub fn initramfs(modules: &[Module], busybox: &[u8]) -> Tree {
    let mut tree = Tree::default()
        .folder("dev", 0o755)
        .device("dev/console", 0o600, 5, 1)
        .folder("root", 0o755)
        .file("bin/busybox", 0o755, busybox)
        .file("init", 0o755, include_str!("../files/init"));
    for program in EARLY {
        tree = tree.link(&format!("bin/{program}"), "busybox");
    }
    with_modules(tree, "modules", modules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    fn root() -> Tree {
        let target = cross::target::find("mipsel").unwrap();
        tree("mipsel", &target.board.unwrap(), b"agent", b"busybox", &[])
    }

    #[test]
    fn a_root_holds_the_agent_and_busybox_and_no_other_program() {
        let root = root();
        let programs = root.nodes().filter_map(|(path, node)| match node {
            Node::File { mode, .. } if mode & 0o111 != 0 => Some(path),
            _ => None,
        });
        let programs: Vec<_> = programs.filter(|path| !path.starts_with("etc/")).collect();
        assert_eq!(programs, ["bin/busybox", "usr/sbin/tether-agent"]);
        for absent in ["bin/bash", "etc/nsswitch.conf", "etc/shadow", "etc/group"] {
            assert!(root.paths().all(|path| path != absent), "{absent}");
        }
    }

    #[test]
    fn root_is_the_only_user_and_the_console_is_the_boards() {
        let root = root();
        let text = |wanted: &str| {
            let found = root.nodes().find(|(path, _)| *path == wanted);
            match found {
                Some((_, Node::File { bytes, .. })) => String::from_utf8(bytes.clone()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(text("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
        assert!(text("etc/inittab").contains("\nttyS0::respawn:-/bin/sh\n"));
    }

    #[test]
    fn whatever_is_written_to_lies_on_the_data_partition_or_in_memory() {
        for (path, node) in root().nodes() {
            if let Node::Link { to } = node {
                let fixed = ["/bin/busybox", "/proc/mounts"].contains(&to.as_str());
                let writable = to.starts_with("/data/") || to.starts_with("/run/");
                assert!(fixed || writable, "{path} {to}");
            }
        }
    }
}
