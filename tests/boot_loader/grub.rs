//! The commands of GRUB that its script of ours uses (GNU GRUB manual, "The list of available commands").

use super::script::{Commands, Flow, Script, Variables};
use super::volume::Volume;
use super::{End, Start, test};

const SIGNATURE: &str = "# GRUB Environment Block\n";

/// Runs the script, then its entry `boot`.
pub fn pass(volume: &mut Volume, text: &str) -> End {
    let mut variables = Variables::new();
    variables.insert("root".into(), "hd0,gpt1".into());
    let mut commands = Grub { volume, kernel: None, initramfs: None };
    let mut script = Script::parse(text);
    match script.run(&mut commands, &mut variables) {
        Flow::End(end) => return end,
        Flow::Done(_) => {}
    }
    let entry = variables.get("default").cloned().unwrap_or_default();
    let flow = script.entry(&entry, &mut commands, &mut variables);
    let flow = flow.unwrap_or_else(|| panic!("no menu entry '{entry}'"));
    match flow {
        Flow::End(end) => end,
        // An entry that loads a kernel and says no more starts it.
        Flow::Done(_) => commands.boot().unwrap_or(End::Reset),
    }
}

struct Grub<'a> {
    volume: &'a mut Volume,
    kernel: Option<(u32, String)>,
    initramfs: Option<u32>,
}

/// `(hd0,gpt2)/boot/vmlinuz`: number of the partition and path.
fn place(word: &str) -> (u32, &str) {
    let (device, path) = word.trim_start_matches('(').split_once(')').unwrap_or((word, ""));
    let digits = device
        .trim_start_matches(|letter| letter != ',')
        .trim_start_matches(|letter: char| !letter.is_ascii_digit());
    (digits.parse().unwrap_or_else(|_| panic!("{word}")), path)
}

impl Grub<'_> {
    /// What `boot` does with what is loaded.
    fn boot(&self) -> Option<End> {
        let ((slot, arguments), initramfs) = (self.kernel.clone()?, self.initramfs?);
        assert_eq!(slot, initramfs, "kernel and initramfs of two slots");
        Some(End::Start(Start { slot, arguments }))
    }

    /// The variables of an environment block.
    fn block(&self, file: &str) -> Option<Vec<(String, String)>> {
        let (partition, path) = place(file);
        let content = String::from_utf8_lossy(&self.volume.read(partition, path)?).into_owned();
        let body = content.strip_prefix(SIGNATURE)?;
        let body = body.trim_end_matches('#');
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(body.lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect())
    }

    fn load(&self, variables: &mut Variables, file: &str, names: &[&str]) -> bool {
        let Some(found) = self.block(file) else { return false };
        for (name, value) in found {
            if names.is_empty() || names.contains(&name.as_str()) {
                variables.insert(name, value);
            }
        }
        true
    }

    fn save(&mut self, variables: &Variables, file: &str, names: &[&str]) -> bool {
        let Some(mut found) = self.block(file) else { return false };
        for name in names {
            let value = variables.get(*name).cloned().unwrap_or_default();
            found.retain(|(known, _)| known != name);
            found.push(((*name).to_owned(), value));
        }
        let (partition, path) = place(file);
        let length = self.volume.read(partition, path).map_or(0, |content| content.len());
        let mut text: String = SIGNATURE.to_owned();
        text.extend(found.iter().map(|(name, value)| format!("{name}={value}\n")));
        assert!(text.len() <= length, "the environment block overflows");
        text.extend(std::iter::repeat_n('#', length - text.len()));
        assert_eq!(partition, 1);
        self.volume.write(path, text.into_bytes());
        true
    }
}

impl Commands for Grub<'_> {
    fn run(&mut self, variables: &mut Variables, words: &[String]) -> Flow {
        let short: Vec<&str> = words.iter().map(String::as_str).collect();
        Flow::Done(match &short[..] {
            [] | ["echo" | "sleep" | "insmod" | "true", ..] => true,
            ["false"] => false,
            ["boot"] => return self.boot().map_or(Flow::Done(false), Flow::End),
            ["reboot"] => return Flow::End(End::Reset),
            ["set", assignment] => {
                let (name, value) = assignment.split_once('=').unwrap();
                variables.insert(name.into(), value.into());
                true
            }
            ["unset", name] => {
                variables.remove(*name);
                true
            }
            ["regexp", "--set=1:disk", r"^(.*),[^,]*$", text] => {
                let (disk, _) = text.rsplit_once(',').unwrap();
                variables.insert("disk".into(), disk.into());
                true
            }
            ["probe", set, "--fs-uuid", device] => {
                let name = set.strip_prefix("--set=").unwrap();
                variables.insert(name.into(), format!("uuid-of-partition-{}", place(device).0));
                true
            }
            ["[", inner @ .., "]"] => {
                let inner: Vec<String> = inner.iter().map(|word| (*word).to_owned()).collect();
                let exists = |path: &[String]| {
                    let (partition, path) = place(&path[0]);
                    self.volume.exists(partition, path)
                };
                test(&inner, 1, &exists)
            }
            ["load_env", "--file", file, names @ ..] => self.load(variables, file, names),
            ["save_env", "--file", file, names @ ..] => self.save(variables, file, names),
            ["source", file] => {
                let (partition, path) = place(file);
                let Some(text) = self.volume.read(partition, path) else { return Flow::Done(false) };
                return Script::parse(&String::from_utf8_lossy(&text)).run(self, variables);
            }
            ["linux", kernel, arguments @ ..] => {
                let (partition, path) = place(kernel);
                let found = self.volume.exists(partition, path);
                self.kernel = found.then(|| (partition, arguments.join(" ")));
                // A kernel that is given none has its own, or none that is missing.
                self.initramfs = Some(partition);
                found
            }
            ["initrd", file] => {
                let (partition, path) = place(file);
                let found = self.volume.exists(partition, path);
                self.initramfs = found.then_some(partition);
                found
            }
            _ => panic!("GRUB's script uses a command that this test does not know: {short:?}"),
        })
    }
}
