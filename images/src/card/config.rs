//! The boot partition's two texts, config.txt for the firmware and cmdline.txt for the kernel, and reading them back.

use anyhow::{Context, Result, bail};

pub const KERNEL: &str = "kernel8.img";
pub const INITRAMFS: &str = "initramfs.cpio";
/// Where the firmware puts the initramfs: 128 MiB, clear of the kernel and its bss, and where QEMU puts it too.
pub const INITRAMFS_AT: u64 = 0x0800_0000;

/// config.txt. `overlays` says that the firmware's overlay for the console is on the card; `more` are the recipe's lines.
pub fn config_txt(overlays: bool, more: &[String]) -> String {
    let mut text = format!(
        "# Written by crannog; the boards' documentation lists every option.\n\
         arm_64bit=1\n\
         kernel={KERNEL}\n\
         initramfs {INITRAMFS} {INITRAMFS_AT:#010x}\n\
         # Device trees of the mainline kernel, by its names for them.\n\
         upstream_kernel=1\n\
         # The console: the PL011 at 115200 baud on header pins 8 and 10. The kernel moves it there itself.\n\
         enable_uart=1\n\
         init_uart_clock=48000000\n"
    );
    if overlays {
        text.push_str("dtoverlay=disable-bt\n");
    }
    text.push_str(
        "disable_overscan=1\n\
         # Without the # the firmware itself tells on the serial line what it loads.\n\
         #uart_2ndstage=1\n\
         [pi4]\n\
         enable_gic=1\n\
         [all]\n",
    );
    for line in more {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// cmdline.txt: one line.
pub fn cmdline_txt(more: &str) -> Result<String> {
    if more.contains(['\n', '\r', '\0']) {
        bail!("the command line must be one line: {more:?}");
    }
    let line = format!("console=ttyAMA0,115200 rdinit=/.crannog/init {more}");
    Ok(format!("{}\n", line.trim_end()))
}

/// What config.txt tells the firmware to load.
#[derive(Debug, PartialEq)]
pub struct Boot {
    pub kernel: String,
    pub initramfs: Option<(String, u64)>,
}

/// Reads config.txt as the firmware does, as far as it concerns what is loaded. Sections for single boards are passed over.
pub fn read(text: &str) -> Result<Boot> {
    let mut boot = Boot { kernel: String::from(KERNEL), initramfs: None };
    let mut for_all = true;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[') {
            for_all = section.trim_end_matches(']') == "all";
        } else if !for_all {
        } else if let Some(kernel) = line.strip_prefix("kernel=") {
            boot.kernel = kernel.trim().to_string();
        } else if let Some(rest) = line.strip_prefix("initramfs ") {
            let mut words = rest.split_whitespace();
            let name = words.next().context("config.txt: initramfs without a file")?;
            let at = words.next().with_context(|| format!("config.txt: initramfs {name} without an address"))?;
            let parsed = at.strip_prefix("0x").map_or_else(|| at.parse(), |digits| u64::from_str_radix(digits, 16));
            let Ok(address) = parsed else { bail!("config.txt: initramfs {name} {at}: not an address") };
            boot.initramfs = Some((name.to_string(), address));
        }
    }
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = config_txt(true, &[String::from("hdmi_force_hotplug=1")]);
        let boot = read(&text).unwrap();
        assert_eq!(boot, Boot { kernel: KERNEL.into(), initramfs: Some((INITRAMFS.into(), INITRAMFS_AT)) });
        assert!(text.contains("dtoverlay=disable-bt") && text.ends_with("[all]\nhdmi_force_hotplug=1\n"));
        assert!(!config_txt(false, &[]).contains("dtoverlay"));
        assert_eq!(cmdline_txt("quiet").unwrap().lines().count(), 1);
        assert!(cmdline_txt("a\nb").is_err());
    }

    #[test]
    fn other_peoples_configurations_are_read() {
        let text = "kernel = x\nkernel=k.img # mine\n[pi4]\nkernel=four.img\n[all]\ninitramfs a.gz 4096\n";
        assert_eq!(read(text).unwrap(), Boot { kernel: "k.img".into(), initramfs: Some(("a.gz".into(), 4096)) });
        assert!(read("initramfs a.gz followkernel").is_err());
        assert!(read("initramfs a.gz").is_err());
    }
}
