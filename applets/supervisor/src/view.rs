//! What the worker shows to the API: written after each look at the engine, read for each request.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The state as last seen.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The target is reached.
    pub applied: bool,
    /// Containers of ours.
    pub containers: Vec<ContainerRow>,
    /// Images of the target's services.
    pub images: Vec<ImageRow>,
    /// The commit that runs, of the first app.
    pub release: Option<String>,
    /// What keeps the target from being reached, for people.
    pub problems: Vec<String>,
    /// Why the cloud does not know the device yet, for people.
    pub registration: Option<String>,
    /// When the present apply began, since boot; `None` while none runs.
    pub apply_since: Option<Duration>,
    /// The service that a step is changing now, with its status in the meantime (spec supervisor §4.8.2).
    pub changing: Option<(String, &'static str)>,
    /// Keys of the API, each with the app it is for; 0 is every app.
    pub keys: Vec<(String, i64)>,
    /// The target switches local mode on.
    pub local_mode: bool,
}

/// A container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRow {
    /// The engine's id.
    pub id: String,
    /// The app's id.
    pub app: i64,
    /// The service's name.
    pub service: String,
    /// The service's id.
    pub service_id: i64,
    /// The numeric id of the image, from the container's name.
    pub image_id: i64,
    /// The status (§2.9.5).
    pub status: String,
    /// When it was created, in the engine's words.
    pub created: String,
}

/// An image of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The reference.
    pub name: String,
    /// The app's id.
    pub app: i64,
    /// The service's name.
    pub service: String,
    /// The engine's id, if it is there.
    pub engine_id: Option<String>,
}

/// The view, shared between the worker and the API.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<View>>);

impl Shared {
    /// The view. Nobody holds it for long.
    pub fn get(&self) -> MutexGuard<'_, View> {
        // A panic elsewhere leaves the rows as they were: still the best there is.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
