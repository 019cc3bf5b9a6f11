//! How the kernel was built.

use std::fs::File;
use std::io::{self, Read};

use flate2::read::GzDecoder;

use super::HostFs;
use super::sensor::is_virtual_machine;

/// A kernel's configuration has some 300 KiB.
const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// Whether the kernel charges nobody for the time that a hypervisor takes, so that it can be told from the time that a task
/// used: in a virtual machine, by a kernel that is known to be built for it. Kernels of Debian are not.
pub fn tells_stolen_time(host: &HostFs) -> bool {
    is_virtual_machine(host) && has_option(host, "CONFIG_PARAVIRT_TIME_ACCOUNTING") == Some(true)
}

/// Whether the kernel was built with an option; none where its configuration cannot be read.
fn has_option(host: &HostFs, option: &str) -> Option<bool> {
    let config = configuration(host)?;
    Some(config.lines().any(|line| line.strip_prefix(option) == Some("=y")))
}

/// As the kernel tells it itself, or as its package left it.
fn configuration(host: &HostFs) -> Option<String> {
    let told = File::open(host.path("/proc/config.gz")).and_then(|file| text(GzDecoder::new(file)));
    told.ok().or_else(|| {
        let release = host.read("/proc/sys/kernel/osrelease").ok()?;
        File::open(host.path(format!("/boot/config-{release}"))).and_then(text).ok()
    })
}

fn text(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(CONFIG_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn the_kernel_or_its_package_says_how_it_was_built() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostFs::new(dir.path());
        let option = |name: &str| has_option(&host, name);
        assert_eq!(option("CONFIG_A"), None);
        for folder in ["proc/sys/kernel", "boot"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("proc/sys/kernel/osrelease"), "6.12.1-x\n").unwrap();
        fs::write(
            dir.path().join("boot/config-6.12.1-x"),
            "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_CC=y\n",
        )
        .unwrap();
        assert_eq!(
            (option("CONFIG_A"), option("CONFIG_B"), option("CONFIG_C")),
            (Some(true), Some(false), Some(false))
        );
        // What the running kernel says goes first.
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"CONFIG_B=y\n").unwrap();
        let packed = packed.finish().unwrap();
        fs::write(dir.path().join("proc/config.gz"), &packed).unwrap();
        assert_eq!((option("CONFIG_A"), option("CONFIG_B")), (Some(false), Some(true)));
        fs::write(dir.path().join("proc/config.gz"), &packed[..packed.len() / 2]).unwrap();
        assert_eq!(option("CONFIG_A"), Some(true), "a broken one is none");
    }

    #[test]
    fn stolen_time_is_told_by_virtual_machines_whose_kernel_can() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostFs::new(dir.path());
        for folder in ["proc/sys/kernel", "boot"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("proc/sys/kernel/osrelease"), "6").unwrap();
        let write = |flags: &str, option: &str| {
            fs::write(dir.path().join("proc/cpuinfo"), format!("flags\t: fpu {flags}\n")).unwrap();
            fs::write(
                dir.path().join("boot/config-6"),
                format!("CONFIG_PARAVIRT_TIME_ACCOUNTING={option}\n"),
            )
            .unwrap();
            tells_stolen_time(&host)
        };
        assert!(write("hypervisor", "y"));
        assert!(!write("hypervisor", "n") && !write("sse", "y"));
    }
}
