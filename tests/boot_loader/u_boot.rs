//! The commands of U-Boot that its script of ours uses (doc/usage/cmd of U-Boot).

use super::script::{Commands, Flow, Script, Variables};
use super::volume::Volume;
use super::{End, Start, test};
use std::collections::BTreeMap;

/// The header of a script image.
const HEADER: usize = 64;
/// The length of the only script, and the end of the list of lengths.
const LENGTHS: usize = 8;

/// Runs the script `image` as `distro_bootcmd` does when it has found it on the first partition.
pub fn pass(volume: &mut Volume, image: &[u8]) -> End {
    let text = String::from_utf8_lossy(image.get(HEADER + LENGTHS..).unwrap_or_default()).into_owned();
    let mut variables = Variables::new();
    for (name, value) in [
        ("devtype", "virtio"),
        ("devnum", "0"),
        ("distro_bootpart", "1"),
        ("kernel_addr_r", "0x1000000"),
        ("ramdisk_addr_r", "0x2000000"),
        ("pxefile_addr_r", "0x3000000"),
        ("scriptaddr", "0x4000000"),
        ("fdt_addr_r", "0x5000000"),
        ("fdt_addr", "0x6000000"),
    ] {
        variables.insert(name.into(), value.into());
    }
    let mut commands = UBoot { volume, memory: BTreeMap::new() };
    match Script::parse(&text).run(&mut commands, &mut variables) {
        Flow::End(end) => end,
        // Without a script that starts something, distro_bootcmd ends at a prompt, which is the end as well.
        Flow::Done(_) => End::Reset,
    }
}

/// What a `load` has put into memory.
struct Loaded {
    partition: u32,
    content: Vec<u8>,
}

struct UBoot<'a> {
    volume: &'a mut Volume,
    memory: BTreeMap<String, Loaded>,
}

/// `virtio 0:2`: the number of the partition.
fn partition(place: &str) -> u32 {
    place.split_once(':').and_then(|(_, number)| u32::from_str_radix(number, 16).ok()).unwrap()
}

/// Kernels and the like are not needed themselves.
const LARGE: &[&str] = &["vmlinuz", "initramfs", ".dtb"];

impl UBoot<'_> {
    fn load(&mut self, variables: &mut Variables, place: &str, address: &str, path: &str) -> bool {
        let partition = partition(place);
        let content = if LARGE.iter().any(|name| path.ends_with(name)) {
            self.volume.exists(partition, path).then(|| b"content".to_vec())
        } else {
            self.volume.read(partition, path)
        };
        let Some(content) = content else { return false };
        variables.insert("filesize".into(), format!("{:x}", content.len()));
        self.memory.insert(address.into(), Loaded { partition, content });
        true
    }

    fn import(&self, variables: &mut Variables, words: &[&str]) -> bool {
        let words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
        let [address, size, names @ ..] = &words[..] else { panic!("env import {words:?}") };
        let Some(loaded) = self.memory.get(*address) else { return false };
        let size = usize::from_str_radix(size.trim_start_matches("0x"), 16).unwrap();
        let text = String::from_utf8_lossy(loaded.content.get(..size).unwrap_or_default());
        // A block of text ends at a zero byte.
        let text = text.split('\0').next().unwrap_or_default();
        // Names that are asked for and missing are deleted.
        for name in names {
            variables.remove(*name);
        }
        for line in text.lines() {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
            let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            if names.is_empty() || names.contains(&name) {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        true
    }

    fn export(&mut self, variables: &mut Variables, words: &[&str]) -> bool {
        let words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
        let [address, names @ ..] = &words[..] else { panic!("env export {words:?}") };
        let line = |name: &&str| variables.get(*name).map(|value| format!("{name}={value}\n"));
        let mut content: Vec<u8> = names.iter().filter_map(line).collect::<String>().into_bytes();
        content.push(0);
        variables.insert("filesize".into(), format!("{:x}", content.len()));
        self.memory.insert((*address).into(), Loaded { partition: 0, content });
        true
    }
}

impl Commands for UBoot<'_> {
    fn run(&mut self, variables: &mut Variables, words: &[String]) -> Flow {
        let short: Vec<&str> = words.iter().map(String::as_str).collect();
        Flow::Done(match &short[..] {
            [] | ["echo" | "sleep" | "fdt" | "true", ..] => true,
            ["false"] => false,
            ["reset"] => return Flow::End(End::Reset),
            ["setenv", name] => {
                variables.remove(*name);
                true
            }
            ["setenv", name, value @ ..] => {
                variables.insert((*name).into(), value.join(" "));
                true
            }
            ["test", ..] => {
                let exists = |place: &[String]| self.volume.exists(partition(&place[1]), &place[2]);
                test(&words[1..], 3, &exists)
            }
            ["load", _, place, address, path] => self.load(variables, place, address, path),
            ["env", "import", rest @ ..] => self.import(variables, rest),
            ["env", "export", rest @ ..] => self.export(variables, rest),
            ["setexpr", name, left, "+", right] => {
                let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
                variables.insert((*name).into(), format!("{:x}", number(left) + number(right)));
                true
            }
            ["fatwrite", _, place, address, path, size] => {
                assert_eq!(partition(place), 1);
                let size = usize::from_str_radix(size.trim_start_matches("0x"), 16).unwrap();
                let content = self.memory[*address].content[..size].to_vec();
                self.volume.write(path, content);
                true
            }
            ["bootz" | "booti", kernel, initramfs, ..] => {
                let initramfs = initramfs.split(':').next().unwrap_or_default();
                let arguments = variables.get("bootargs").cloned().unwrap_or_default();
                match (self.memory.get(*kernel), self.memory.get(initramfs)) {
                    (Some(kernel), Some(initramfs)) if kernel.partition == initramfs.partition => {
                        return Flow::End(End::Start(Start { slot: kernel.partition, arguments }));
                    }
                    (Some(_), Some(_)) => panic!("kernel and initramfs of two slots"),
                    _ => false,
                }
            }
            _ => panic!("U-Boot's script uses a command that this test does not know: {short:?}"),
        })
    }
}
