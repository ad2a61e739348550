//! Volumes.

use crate::json::{list, pairs, text};
use crate::{Engine, Removed, Result};
use minke_http::escape;
use minke_wire::json::Value;

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// The name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// The driver's options, sorted.
    pub options: Vec<(String, String)>,
    /// The labels, sorted.
    pub labels: Vec<(String, String)>,
}

impl Engine {
    /// All volumes.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        Ok(list(&self.list("/volumes")?, "/Volumes").iter().map(volume).collect())
    }

    /// Creates a volume from a body of the API's `VolumeCreate`; one that is there already stays as it is.
    pub fn create_volume(&self, body: &Value) -> Result<()> {
        self.call("POST", "/volumes/create", Some(body), &[200, 201]).map(|_| ())
    }

    /// Removes a volume and what is in it.
    pub fn remove_volume(&self, name: &str) -> Result<Removed> {
        let target = format!("/volumes/{}", escape(name));
        self.call("DELETE", &target, None, &[204, 404]).map(Removed::of)
    }
}

fn volume(value: &Value) -> Volume {
    Volume {
        name: text(value, "/Name"),
        driver: text(value, "/Driver"),
        options: pairs(value, "/Options"),
        labels: pairs(value, "/Labels"),
    }
}
