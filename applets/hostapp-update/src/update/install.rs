//! `hostapp-update -i` and `-f`: from a release to a filled slot.

use super::check::{self, Device, check};
use super::image::Mounted;
use super::progress::Progress;
use super::slot::{self, Writing};
use super::slots::Slots;
use super::why::{Result, Why, refuse};
use super::{Done, Update};
use crate::boot_files;
use minke_boot::Chain;
use minke_config::{DeviceType, Paths, Store, os_release};
use minke_control::time::{self, Woken};
use minke_oci::hostapp::{self, Installed, PublicKey, Release, Source, Step, Task, Watch, read_keys};
use minke_oci::registry::{Access, Credentials};
use minke_oci::{Error, Platform, Reference};
use minke_sys::clock;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Where the public keys of releases lie: the image's, the owner's.
const KEYS: [&str; 2] = ["usr/share/minke/release-keys", "mnt/boot/release-keys"];
/// Where `docker login` leaves what it was told.
const LOGIN: &str = "home/root/.docker/config.json";

impl Update<'_> {
    /// Installs a release and switches to it.
    pub(super) fn install(&self, progress: &mut Progress) -> Result<Done> {
        progress.step(25, "Preparing OS update");
        let slots = self.slots()?;
        // Without a selection to change, nothing of all this would count.
        let boot = self.boot();
        let chain = Chain::find(&boot)?;
        let selection = chain.read(&boot)?;
        if selection.upgrade_available && selection.root == slots.active.slot {
            refuse!(
                "the running system is on trial, and the other slot the way back; try again when it is over \
                 ('rollback-health stop' ends it)"
            );
        }
        let keys = self.keys()?;
        let mut run = Run {
            update: self,
            slots: &slots,
            chain,
            keys: &keys,
            writing: None,
            checked: false,
            came: false,
            patience: clock::ahead(time::CLOCK_LIMIT),
            progress,
        };
        let installed = match self.args.value("file") {
            Some(path) => run.take(Source::Archive(Path::new(path))),
            None => run.download(),
        };
        let installed = match installed {
            Err(_) if run.checked => return Ok(Done::Checked),
            installed => installed?,
        };
        let Some(writing) = run.writing.take() else { refuse!("nothing was installed") };
        let app =
            writing.select_content(&installed.release.id).map_err(|error| slots.inactive.told(&error))?;
        let (version, letter) = (installed.release.version(), slots.inactive.slot.letter());
        let seconds = progress.spent().as_secs();
        progress.step(90, &format!("{version} is whole in slot {letter} after {seconds} s"));
        if self.args.has("no-hooks") {
            return Ok(Done::Filled);
        }
        let system = Mounted::new(&app, &self.root)?;
        self.switch(system.place(), &slots, progress)
    }

    /// The keys that releases are signed with.
    fn keys(&self) -> Result<Vec<PublicKey>> {
        let folders = KEYS.map(|folder| self.path(folder));
        let keys = read_keys(&[&folders[0], &folders[1]])?;
        if self.args.has("allow-unsigned") && !keys.is_empty() {
            refuse!("keys are installed on this device: it takes signed releases only");
        }
        Ok(keys)
    }
}

/// An installation under way.
struct Run<'a, 'b> {
    update: &'a Update<'a>,
    slots: &'a Slots,
    chain: Chain,
    keys: &'a [PublicKey],
    writing: Option<Writing<'a>>,
    /// A dry run has come to its end.
    checked: bool,
    /// All has come, and is read back.
    came: bool,
    /// Until when the clock is waited for, since boot.
    patience: Duration,
    progress: &'b mut Progress,
}

impl Run<'_, '_> {
    /// From the registry: the delta, or what it is a delta of.
    fn download(&mut self) -> Result<Installed> {
        let args = self.update.args;
        if let Some(delta) = args.value("delta") {
            match self.pull(delta) {
                Err(error) if !self.checked => {
                    self.progress
                        .warn(&format!("the delta cannot be used ({error}); taking the whole release"));
                }
                installed => return installed,
            }
        }
        self.pull(args.value("image").unwrap_or_default())
    }

    fn pull(&mut self, text: &str) -> Result<Installed> {
        let reference = match Reference::parse(text) {
            Ok(reference) => reference,
            Err(error) => refuse!("{text}: {error}"),
        };
        if !time::is_sane() {
            self.progress.warn("waiting for the time: the clock is not known to be right");
            if self.wait_for_clock(time::is_sane) != Woken::Holds {
                self.progress.warn("the clock is not known to be right: certificates may be refused");
            }
        }
        self.take(Source::Registry(&reference, &self.access(&reference)))
    }

    fn wait_for_clock(&self, state: fn() -> bool) -> Woken {
        time::wait(state, self.patience.saturating_sub(clock::boottime()), None)
    }

    /// How the registry of a reference is reached: as the user that `docker login` has left here, or at the cloud's own
    /// registry, as the device that it knows (spec os §15.11.1).
    fn access(&self, reference: &Reference) -> Access {
        let root = &self.update.root;
        let registry = reference.registry.as_deref().unwrap_or("docker.io");
        let config = Store::new(Paths::below(root)).load().config;
        let mut access = Access {
            credentials: Credentials::from_file(&root.join(LOGIN), registry),
            trust: minke_cloud::trust(&config, root),
            names: root.join("etc"),
            ..Access::default()
        };
        if let (None, Some(uuid), Some(key)) =
            (&access.credentials, config.string("uuid"), config.string("deviceApiKey"))
            && config.string("registryEndpoint") == Some(registry)
        {
            let (user, password) = (format!("d_{uuid}"), key.to_owned());
            access.credentials = Some(Credentials::Basic { user, password });
        }
        if self.update.args.has("insecure-registry") {
            access.insecure.push(registry.to_owned());
        }
        access
    }

    fn take(&mut self, source: Source<'_>) -> Result<Installed> {
        let active = &self.slots.active.place;
        let base = slot::current(active).map(|id| slot::folder(active, &id));
        let target = slot::new_folder(&self.slots.inactive.place);
        let (keys, platform) = (self.keys, &Platform::host());
        let task = Task { base: base.as_deref(), target: &target, keys, platform };
        let inactive = &self.slots.inactive;
        let is_doubtful = time::is_doubtful();
        let mut installed = hostapp::install(source, &task, self);
        if is_doubtful && let Err(Error::Dates(why)) = &installed {
            self.progress.warn(&format!("{why}; trying again when another clock has confirmed that"));
            if self.wait_for_clock(time::is_synchronized) == Woken::Holds {
                installed = hostapp::install(source, &task, self);
            }
        }
        installed.map_err(|error| match error {
            // What is written has short names there.
            Error::System(error)
                if !error.object.starts_with('/')
                    || Path::new(&*error.object).starts_with(&inactive.place) =>
            {
                inactive.told(&error.into())
            }
            Error::ReadBack(_) => inactive.told(&error.into()),
            error => error.into(),
        })
    }

    /// Everything that can be known of a release before it comes.
    fn judge(&self, release: &Release) -> Result<()> {
        let root = &self.update.root;
        let own = os_release(&root.join("etc/os-release"));
        let boot = self.update.boot();
        let board = DeviceType::read(&boot);
        let device = Device {
            slug: own.slug().or(board.as_ref().map(|board| board.slug.as_str())),
            version: own.version(),
            room: slot::room(self.slots)?,
        };
        let documents = check::Release {
            slug: Some(release.os_release("SLUG")).filter(|slug| !slug.is_empty()),
            version: Some(release.version()).filter(|version| !version.is_empty()),
            bytes: release.size().or(release.download).unwrap_or(0),
        };
        check(&documents, &device, self.update.args.has("allow-downgrade"))
            .map_err(|refusal| Why::new(format_args!("{refusal}")))?;
        // The hooks see to this once more, by the files themselves.
        if !self.update.args.has("no-hooks") {
            boot_files::has_room(release.label(hostapp::LABEL_BOOT_FILES), &boot)?;
        }
        Ok(())
    }

    /// Gets the slot ready for a release that is wanted.
    fn prepare(&mut self) -> Result<()> {
        let (boot, running) = (self.update.boot(), self.slots.active.slot);
        // An update that waits for its reboot is replaced: no boot loader shall be sent to a slot that is being written.
        let selection = self.chain.read(&boot)?;
        if selection.root != running || selection.upgrade_available {
            self.chain.select(&boot, running, false)?;
        }
        let writing = Writing::open(self.slots, &self.update.root)?;
        writing.empty()?;
        self.writing = Some(writing);
        Ok(())
    }
}

impl Watch for Run<'_, '_> {
    fn accept(&mut self, release: &Release) -> std::result::Result<(), String> {
        self.judge(release).map_err(|error| error.to_string())?;
        let signer = match &release.signer {
            Some(signer) => format!(", signed with key {}", signer.key),
            None => String::new(),
        };
        let text = format!(
            "Running OS update: {} into slot {}{signer}",
            release.version(),
            self.slots.inactive.slot.letter()
        );
        self.progress.step(50, &text);
        if self.update.args.has("dry-run") {
            self.checked = true;
            return Err("a dry run ends here".to_owned());
        }
        self.prepare().map_err(|error| self.slots.inactive.told(&error).to_string())
    }

    fn progress(&mut self, step: Step) -> ControlFlow<()> {
        match step {
            Step::Fetch(done, total) => self.progress.bytes(done, total),
            Step::ReadBack(..) if !std::mem::replace(&mut self.came, true) => {
                self.progress.step(88, "Reading it back from the disk");
            }
            Step::ReadBack(..) => {}
        }
        ControlFlow::Continue(())
    }
}
