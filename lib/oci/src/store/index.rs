//! What the store holds, in memory, and the records that say so on disk.

use super::Image;
use crate::layer::sha256;
use crate::unpack::Unpacked;
use crate::{Digest, Error, ImageConfig, Reference, Result};
use minke_store::Record;
use minke_wire::json::{Map, Value, json};

/// Permission bits of records.
pub(super) const RECORD_MODE: u32 = 0o600;

/// Everything in the store.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of their ids. A device has a few; lists cost less bytes than trees.
    pub(super) images: Vec<StoredImage>,
    pub(super) layers: Vec<StoredLayer>,
    /// Layers that sessions need, once for each session.
    pub(super) pins: Vec<Digest>,
    /// The number of the next layer folder.
    pub(super) next_folder: u64,
    /// The number of the next naming: when two records claim a name, the higher one has it.
    pub(super) next_naming: u64,
}

/// An image's record in memory, without the configuration.
#[derive(Debug)]
pub(super) struct StoredImage {
    pub(super) id: Digest,
    pub(super) record: Record,
    /// Names in familiar form, with the number of their naming, in this order.
    pub(super) names: Vec<(String, u64)>,
    pub(super) layers: Vec<Digest>,
    pub(super) created: String,
    pub(super) architecture: String,
    pub(super) os: String,
}

/// A layer's record in memory.
#[derive(Debug)]
pub(super) struct StoredLayer {
    pub(super) diff_id: Digest,
    pub(super) record: Record,
    pub(super) folder: u64,
    pub(super) bytes: u64,
    pub(super) opaque: bool,
}

impl StoredLayer {
    /// The document of a layer's record.
    pub(super) fn document(diff_id: &Digest, folder: u64, unpacked: &Unpacked) -> Value {
        json!({
            "diff_id": diff_id.as_str(),
            "folder": folder,
            "bytes": unpacked.bytes,
            "opaque": unpacked.opaque,
        })
    }

    /// Understands a layer's record; `None` when it is not one of `diff_id`.
    pub(super) fn decode(diff_id: &Digest, document: &Value, record: Record) -> Option<Self> {
        let number = |key| document.get(key).and_then(Value::as_u64);
        (document.get("diff_id")?.as_str()? == diff_id.as_str()).then_some(())?;
        let opaque = document.get("opaque")?.as_bool()?;
        Some(Self {
            diff_id: diff_id.clone(),
            record,
            folder: number("folder")?,
            bytes: number("bytes")?,
            opaque,
        })
    }
}

impl StoredImage {
    /// The document of an image's record.
    pub(super) fn document(config: &str, names: &[(String, u64)]) -> Value {
        let mut numbers = Map::new();
        for (name, number) in names {
            numbers.insert(name.as_str(), Value::from(*number));
        }
        json!({ "names": numbers, "config": config })
    }

    /// Understands an image's record; an error when it is not one of `id`.
    pub(super) fn decode(id: &Digest, document: &Value, record: Record) -> Result<Self> {
        let fail = |reason: &str| Error::malformed(record.path(), &reason);
        let text = document.get("config").and_then(Value::as_str).ok_or_else(|| fail("no config"))?;
        if sha256(text.as_bytes()) != *id {
            return Err(fail("the config has another digest"));
        }
        let mut names = Vec::new();
        for (name, number) in document.get("names").and_then(Value::as_object).into_iter().flatten() {
            names.push((name.clone(), number.as_u64().ok_or_else(|| fail("bad names"))?));
        }
        Self::new(id, &ImageConfig::parse(text.as_bytes())?, names, record)
    }

    pub(super) fn new(
        id: &Digest,
        config: &ImageConfig,
        names: Vec<(String, u64)>,
        record: Record,
    ) -> Result<Self> {
        Ok(Self {
            id: id.clone(),
            record,
            names,
            layers: config.diff_ids()?,
            created: config.created().to_owned(),
            architecture: config.architecture().to_owned(),
            os: config.os().to_owned(),
        })
    }

    fn drop_names(&mut self, names: &[String]) -> Result<()> {
        let mut rest = self.names.clone();
        rest.retain(|(name, _)| !names.contains(name));
        self.rewrite(rest)
    }

    /// Writes the record with other names. The configuration comes from the old record, so that it need not
    /// be kept in memory.
    fn rewrite(&mut self, names: Vec<(String, u64)>) -> Result<()> {
        let path = self.record.path().to_owned();
        let (mut record, document, _) = Record::open(&path, RECORD_MODE)?;
        let config = document.as_ref().and_then(|document| document.get("config")?.as_str());
        let config = config.ok_or_else(|| Error::malformed(&path, &"the image's record is damaged"))?;
        record.write(&Self::document(config, &names))?;
        (self.record, self.names) = (record, names);
        Ok(())
    }
}

impl Index {
    /// The record of an image.
    pub(super) fn stored(&self, id: &Digest) -> Option<&StoredImage> {
        self.images.iter().find(|image| image.id == *id)
    }

    /// The record of a layer.
    pub(super) fn layer(&self, diff_id: &Digest) -> Option<&StoredLayer> {
        self.layers.iter().find(|layer| layer.diff_id == *diff_id)
    }

    /// Adds an image at its place.
    pub(super) fn insert(&mut self, image: StoredImage) {
        let place = self.images.partition_point(|other| other.id < image.id);
        self.images.insert(place, image);
    }

    /// Takes an image out.
    pub(super) fn take_image(&mut self, id: &Digest) -> Option<StoredImage> {
        let place = self.images.iter().position(|image| image.id == *id)?;
        Some(self.images.remove(place))
    }

    /// Takes a layer out.
    pub(super) fn take_layer(&mut self, diff_id: &Digest) -> Option<StoredLayer> {
        let place = self.layers.iter().position(|layer| layer.diff_id == *diff_id)?;
        Some(self.layers.swap_remove(place))
    }

    /// The image for the outside.
    pub(super) fn image(&self, id: &Digest) -> Option<Image> {
        let stored = self.stored(id)?;
        let (mut digests, mut tags) = (Vec::new(), Vec::new());
        for name in self.names_of(id) {
            if name.contains('@') { &mut digests } else { &mut tags }.push(name);
        }
        let mut size = 0u64;
        for diff_id in &stored.layers {
            size = size.saturating_add(self.layer(diff_id).map_or(0, |layer| layer.bytes));
        }
        Some(Image {
            id: id.clone(),
            tags,
            digests,
            layers: stored.layers.clone(),
            size,
            created: stored.created.clone(),
            architecture: stored.architecture.clone(),
            os: stored.os.clone(),
        })
    }

    /// The names that mean this image and no other, in the order they were given.
    pub(super) fn names_of(&self, id: &Digest) -> Vec<String> {
        let mut names = Vec::new();
        for (name, _) in self.stored(id).map_or(&[][..], |image| &image.names) {
            if self.owner(name) == Some(id) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The image that a name in familiar form means: of those whose record claims it the latest.
    pub(super) fn owner(&self, name: &str) -> Option<&Digest> {
        let mut owner = None;
        for image in &self.images {
            let claim = image.names.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
            if claim > owner.map(|(number, _)| number) {
                owner = claim.map(|number| (number, &image.id));
            }
        }
        owner.map(|(_, id)| id)
    }

    /// The id that a query means, in Docker's order: a whole id, a reference, the prefix of an id.
    pub(super) fn find(&self, query: &str) -> Result<Digest> {
        let missing = || Error::not_found(&query);
        let hex = query.strip_prefix("sha256:").unwrap_or(query);
        if let Some(id) = Digest::of_hex(hex) {
            return self.stored(&id).is_some().then_some(id).ok_or_else(missing);
        }
        let name = Reference::parse(query).map(|reference| reference.familiar());
        if let Some(id) = name.as_ref().ok().and_then(|name| self.owner(name)) {
            return Ok(id.clone());
        }
        if !minke_wire::oci::is_lower_hex(hex) {
            // What is neither a reference nor hex is a bad request rather than a missing image.
            return Err(name.map_or_else(Error::from, |_| missing()));
        }
        let mut found = None;
        for image in &self.images {
            if image.id.hex().starts_with(hex) && found.replace(&image.id).is_some() {
                return Err(Error::conflict(&format_args!("the id prefix {hex} is ambiguous")));
            }
        }
        found.cloned().ok_or_else(missing)
    }

    /// Gives names to an image and takes them from others, durably, in this order.
    pub(super) fn add_names(&mut self, id: &Digest, names: &[String]) -> Result<()> {
        let mut fresh = names.to_vec();
        fresh.retain(|name| self.owner(name) != Some(id));
        if fresh.is_empty() {
            return Ok(());
        }
        let image =
            self.images.iter_mut().find(|image| image.id == *id).ok_or_else(|| Error::not_found(id))?;
        let mut all = image.names.clone();
        all.retain(|(name, _)| !fresh.contains(name));
        for name in &fresh {
            all.push((name.clone(), self.next_naming));
            self.next_naming = self.next_naming.saturating_add(1);
        }
        image.rewrite(all)?;
        self.drop_claims(id, &fresh)
    }

    /// Removes names from an image durably.
    pub(super) fn remove_names(&mut self, id: &Digest, names: &[String]) -> Result<()> {
        if let Some(image) = self.images.iter_mut().find(|image| image.id == *id) {
            image.drop_names(names)?;
        }
        // An older claim of another image must not come to life again.
        self.drop_claims(id, names)
    }

    /// Removes claims of names from all images but one.
    pub(super) fn drop_claims(&mut self, except: &Digest, names: &[String]) -> Result<()> {
        for image in &mut self.images {
            if image.id != *except && image.names.iter().any(|(name, _)| names.contains(name)) {
                image.drop_names(names)?;
            }
        }
        Ok(())
    }

    /// Whether an image or a session needs a layer.
    pub(super) fn is_needed(&self, diff_id: &Digest) -> bool {
        self.pins.contains(diff_id) || self.images.iter().any(|image| image.layers.contains(diff_id))
    }
}
