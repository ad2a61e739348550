//! What an earlier run left: containers in their records, some of them running behind their shims.

use super::Engine;
use crate::container::{Container, Status};
use crate::fields::Fields;
use minke_sys::channel::Channel;
use std::path::Path;

impl Engine {
    /// Reads all records and connects to all shims.
    pub fn recover(&mut self) {
        let root = self.options.data.join("containers");
        for folder in &minke_sys::file::list(&root).unwrap_or_default() {
            if let Some((container, was_running)) = read(folder) {
                self.take_over(container, was_running);
            } else if !super::exists(&folder.join(DAMAGED)) {
                super::files::remove_in_background(folder, &self.options.data);
            }
        }
        self.sweep_groups();
    }

    fn take_over(&mut self, mut container: Box<Container>, was_running: bool) {
        let id = container.id.clone();
        let run = self.run_folder(&id);
        let shim = Channel::connect(&run.join("shim.sock"))
            .ok()
            .filter(|channel| channel.set_nonblocking(true).is_ok());
        if let Some(channel) = shim {
            container.status = Status::Running;
            container.started_boottime = minke_sys::clock::boottime();
            self.insert(container);
            if let Err(error) = self.watch_shim(&id, channel) {
                minke_applet::log::error(format_args!("container {id}: {error}"));
            }
            return;
        }
        if was_running {
            // It ended while no engine ran: by itself, then the shim wrote how, or with the machine.
            let record = self.exit_record(&id);
            container.exit_code = record.map_or(255, |record| record.int("code", 255));
            container.finished_at = Some(minke_sys::clock::realtime());
            for (_, endpoint) in &mut container.networks {
                endpoint.make_object().remove("IPAddress");
            }
        }
        let _ = minke_sys::file::remove_all(&run);
        self.remove_group(&id);
        self.insert(container);
    }

    /// Containers are kept by age.
    fn insert(&mut self, container: Box<Container>) {
        let place = self.containers.partition_point(|other| other.created <= container.created);
        self.containers.insert(place, container);
    }

    /// Starts what its policy wants running.
    pub fn start_at_boot(&mut self) {
        // Those whose network namespace others join come first.
        for joining in [false, true] {
            let wanted = |container: &Container| {
                container.started_once
                    && !container.is_active()
                    && joins_another(container) == joining
                    && container.policy().starts_at_boot(container.stopped_by_hand, container.exit_code)
            };
            for id in &self.ids(&wanted) {
                // Counts as automatic, so that a failure is tried again.
                self.start(id);
            }
        }
        let unwanted =
            |container: &Container| container.auto_remove && container.started_once && !container.is_active();
        for id in &self.ids(&unwanted) {
            self.remove_now(id, true);
        }
    }
}

/// Members of a host config that may name a container whose namespace is joined.
pub(super) const JOINABLE: [&str; 3] = ["NetworkMode", "PidMode", "IpcMode"];

fn joins_another(container: &Container) -> bool {
    JOINABLE.iter().any(|key| container.host.text(key).starts_with("container:"))
}

/// The name that a record gets that cannot be read; its folder is kept for a person to look at.
const DAMAGED: &str = "container.json.bad";

fn read(folder: &Path) -> Option<(Box<Container>, bool)> {
    let path = folder.join("container.json");
    let opened = crate::record::read(&path, format_args!("container in {}", folder.display()))?;
    let Some((mut container, was_running)) = Container::from_document(&opened.1) else {
        if super::exists(&path) {
            minke_applet::log::error(format_args!(
                "container in {}: its record is damaged, it is set aside",
                folder.display()
            ));
            let _ = std::fs::rename(&path, folder.join(DAMAGED));
        }
        return None;
    };
    container.record = Some(opened.0);
    Some((container, was_running))
}
