//! What the device should run: apps, releases, services (spec supervisor §2.5), checked on the way in.

mod parse;
mod preload;
mod reference;

pub use parse::app;
pub use preload::{Preload, preload};
pub use reference::normalise;

use minke_wire::json::Map;

/// A set of names with values, in order.
pub type Pairs = Vec<(String, String)>;

/// An app (fleet) with the one release that the device should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The app's uuid.
    pub uuid: String,
    /// The app's numeric id: part of volume names and lock folders.
    pub id: i64,
    /// The app's name.
    pub name: String,
    /// The host OS itself: nothing of it is an ordinary service (§3.9.1).
    pub is_host: bool,
    /// What to run; none when the app has no release.
    pub release: Option<Release>,
}

/// One release of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The release's uuid.
    pub commit: String,
    /// The release's numeric id: part of container names.
    pub id: i64,
    /// The services, in order.
    pub services: Vec<Service>,
    /// The volumes by name, in compose form.
    pub volumes: Map,
    /// The networks by name, in compose form.
    pub networks: Map,
}

/// One service of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// The service's numeric id.
    pub id: i64,
    /// The numeric id of its image: part of container names.
    pub image_id: i64,
    /// The image reference, normalised.
    pub image: String,
    /// The environment at service level.
    pub environment: Pairs,
    /// The labels at service level.
    pub labels: Pairs,
    /// Whether it should run, or only be installed.
    pub running: bool,
    /// The compose fields.
    pub composition: Map,
}
