//! An emulated machine: what QEMU is told, and where its kernel and its busybox come from.

use serde::Deserialize;

use super::Size;

/// A QEMU board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What it is, in a few words.
    pub summary: String,
    /// Whether the ordinary test run boots it, or only `--all`.
    #[serde(default)]
    pub always: bool,
    /// Its RAM: as little as its kernel boots in with room for the agent.
    pub memory: Size,
    /// The kernel's name of its serial console, without `/dev/`.
    pub console: String,
    /// What else the kernel is told.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// QEMU's device for a disk, such as `virtio-blk-pci`.
    pub disk: String,
    /// QEMU's network card with its options, such as `pcnet,romfile=`.
    pub nic: String,
    /// The emulator.
    pub qemu: Qemu,
    /// What boots.
    pub kernel: Kernel,
    /// The few programs that an image has beside the agent.
    pub busybox: Busybox,
    /// What building them takes, if they are built here.
    #[serde(default)]
    pub build_tools: Vec<BuildTool>,
}

/// The emulator of a board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The program.
    pub program: String,
    /// The package that has it.
    pub package: String,
    /// Machine and CPU.
    pub args: Vec<String>,
}

/// Where a kernel comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Debian built it.
    Debian(DebianKernel),
    /// Built here from Debian's source, once; no package fits.
    Built(BuiltKernel),
}

/// A kernel of Debian's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianKernel {
    /// The package that names the current kernel, such as `linux-image-armmp`.
    pub package: String,
    /// Debian's release.
    pub suite: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Modules that the initramfs loads, as the root cannot be mounted without them; those that
    /// they need come along.
    pub early: Vec<String>,
    /// Modules that are loaded from the root.
    pub late: Vec<String>,
}

/// A kernel built here, with everything it needs inside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltKernel {
    /// Debian's release that has the source.
    pub suite: String,
    /// The package that is the source, such as `linux-source-6.1`.
    pub source: String,
    /// Name of the settings in `images/kernels/`, beside those all have in common.
    pub config: String,
    /// The kernel's name of the architecture.
    pub architecture: String,
    /// Start of the cross compiler's name, such as `mips-linux-gnu-`.
    pub compiler: String,
    /// What boots, below the build folder.
    pub image: String,
    /// The device tree to boot with, below the build folder.
    #[serde(default)]
    pub dtb: Option<String>,
}

/// Where busybox comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Busybox {
    /// Debian's `busybox-static`.
    Debian(DebianBusybox),
    /// Built here from Debian's source, for architectures that Debian does not have.
    Built(BuiltBusybox),
}

/// A busybox of Debian's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianBusybox {
    /// Debian's release.
    pub suite: String,
    /// Debian's name of the architecture.
    pub architecture: String,
}

/// A busybox built here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltBusybox {
    /// Debian's release that has the source.
    pub suite: String,
    /// Start of the cross compiler's name, such as `mips-linux-gnu-`.
    pub compiler: String,
}

/// A program, or a file by its path, that has to be there to build a kernel or busybox.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTool {
    /// The program.
    pub program: String,
    /// The package that has it.
    pub package: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALTA: &str = r#"
        summary = "MIPS Malta"
        memory = "32 MiB"
        console = "ttyS0"
        disk = "virtio-blk-pci"
        nic = "pcnet,romfile="
        [qemu]
        program = "qemu-system-mipsel"
        package = "qemu-system-mips"
        args = ["-machine", "malta"]
        [kernel.debian]
        package = "linux-image-4kc-malta"
        suite = "bookworm"
        architecture = "mipsel"
        early = ["virtio_pci"]
        late = ["ext4"]
        [busybox.debian]
        suite = "bookworm"
        architecture = "mipsel"
    "#;

    #[test]
    fn a_board_is_read() {
        let board: Board = toml::from_str(MALTA).unwrap();
        assert!(!board.always);
        assert_eq!(board.memory.bytes(), 32 << 20);
        let Kernel::Debian(kernel) = board.kernel else {
            panic!("not Debian's kernel")
        };
        assert_eq!(kernel.early, ["virtio_pci"]);
    }

    #[test]
    fn unknown_keys_and_missing_parts_are_named() {
        for (from, to, said) in [
            ("memory", "ram", "ram"),
            ("kernel.debian", "kernel.redhat", "redhat"),
            ("early", "drivers", "drivers"),
            ("args = [\"-machine\", \"malta\"]", "", "args"),
        ] {
            let error = toml::from_str::<Board>(&MALTA.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
