//! Looking images up and removing them.

use super::index::Index;
use super::{Image, ImageStore, remove_tree};
use crate::{Digest, Error, Reference, Result};
use minke_sys::{Context, Errno};
use std::path::PathBuf;

/// What [`ImageStore::remove`] did; the answer of `DELETE /images/{name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// This name no longer means an image.
    Untagged(String),
    /// This image or layer is gone.
    Deleted(Digest),
}

impl ImageStore {
    /// The image that `query` means: a reference with tag or digest, `sha256:…`, a hex id, or a unique
    /// prefix of one, in Docker's order. [`Error::NotFound`], [`Error::Conflict`] (an ambiguous prefix) or
    /// [`Error::Reference`] otherwise.
    pub fn get(&self, query: &str) -> Result<Image> {
        let index = self.index();
        let id = index.find(query)?;
        index.image(&id).ok_or_else(|| Error::not_found(&query))
    }

    /// Removes a name, and with the last one the image and the layers that nobody else needs.
    ///
    /// As Docker does: by a name, only that name goes, and the image with the last; with the last tag of a
    /// repository go the repository's digests. By an id, all names and the image go, and names in several
    /// repositories are a conflict without `force`. `in_use` tells whether containers were made from this
    /// image: then an image that would be deleted is a conflict, and with `force` it only loses its names
    /// and stays for the containers. It is called while the store is locked: it must not call the store.
    ///
    /// The image's record goes first and decides; a power cut after it leaves layers that
    /// [`ImageStore::collect`] removes.
    pub fn remove(&self, query: &str, force: bool, in_use: &dyn Fn(&Digest) -> bool) -> Result<Vec<Removal>> {
        let mut index = self.index();
        let id = index.find(query)?;
        let all = index.names_of(&id);
        let doomed = doomed_names(&index, query, &id, &all, force)?;
        let last = doomed.len() == all.len();
        let keep = last && in_use(&id);
        if keep && !force {
            let id = id.short();
            let text = format_args!("unable to delete {id} (must be forced): a container uses it");
            return Err(Error::conflict(&text));
        }
        let mut removals = Vec::new();
        for name in &doomed {
            removals.push(Removal::Untagged(name.clone()));
        }
        if !last || keep {
            index.remove_names(&id, &doomed)?;
            return Ok(removals);
        }
        // Older claims of these names by other images must not come to life again.
        index.drop_claims(&id, &doomed)?;
        let Some(image) = index.take_image(&id) else { return Ok(removals) };
        image.record.remove()?;
        removals.push(Removal::Deleted(id));
        let mut trash = Vec::new();
        for layer in image.layers.into_iter().rev() {
            if !index.is_needed(&layer) && index.layer(&layer).is_some() {
                trash.push(self.drop_layer(&mut index, &layer)?.0);
                removals.push(Removal::Deleted(layer));
            }
        }
        // Deleting many files takes its time; nobody needs to wait for it.
        drop(index);
        empty(&trash)?;
        Ok(removals)
    }

    /// Removes layers that no image and no session needs: what abandoned pulls left. Returns the bytes freed.
    pub fn collect(&self) -> Result<u64> {
        let mut index = self.index();
        let (mut freed, mut trash) = (0u64, Vec::new());
        while let Some(layer) = index.layers.iter().find(|layer| !index.is_needed(&layer.diff_id)) {
            let unused = layer.diff_id.clone();
            let (path, bytes) = self.drop_layer(&mut index, &unused)?;
            freed = freed.saturating_add(bytes);
            trash.push(path);
        }
        drop(index);
        empty(&trash)?;
        Ok(freed)
    }

    /// Removes a layer's record and moves its folder out of the way. Power cut in between: no record speaks
    /// of the folder, and it is removed when the store is opened.
    fn drop_layer(&self, index: &mut Index, id: &Digest) -> Result<(PathBuf, u64)> {
        let layer = index.take_layer(id).ok_or_else(|| Error::not_found(id))?;
        layer.record.remove()?;
        let (from, to) = (self.layer_folder(layer.folder), self.temporary(layer.folder));
        match std::fs::rename(&from, &to).on("rename", &from) {
            Err(error) if error.errno != Errno::NOENT => Err(error.into()),
            _ => Ok((to, layer.bytes)),
        }
    }
}

fn empty(trash: &[PathBuf]) -> Result<()> {
    for path in trash {
        remove_tree(path)?;
    }
    Ok(())
}

/// The names that a removal takes.
fn doomed_names(index: &Index, query: &str, id: &Digest, all: &[String], force: bool) -> Result<Vec<String>> {
    let given = Reference::parse(query).map(|reference| reference.familiar()).ok();
    let mut doomed = all.to_vec();
    // A name, unless the query was found as an id.
    if let Some(name) = given.filter(|name| index.owner(name) == Some(id) && all.contains(name)) {
        // With the last tag of a repository go its digests.
        doomed.retain(|other| *other != name && repository(other) == repository(&name));
        if name.contains('@') || doomed.iter().any(|other| !other.contains('@')) {
            doomed.clear();
        }
        doomed.insert(0, name);
    } else if let (false, Some(first)) = (force, all.first())
        && all.iter().any(|name| repository(name) != repository(first))
    {
        let id = id.short();
        return Err(Error::conflict(&format_args!(
            "unable to delete {id} (must be forced): image is referenced in multiple repositories"
        )));
    }
    Ok(doomed)
}

/// The repository of a name in familiar form.
fn repository(name: &str) -> &str {
    if let Some((repository, _)) = name.split_once('@') {
        return repository;
    }
    name.rsplit_once(':').map_or(name, |(repository, _)| repository)
}
