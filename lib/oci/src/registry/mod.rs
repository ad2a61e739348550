//! The client of a registry (OCI distribution-spec 1.1, "Pull"; Docker Registry HTTP API V2; Docker "Token
//! Authentication Specification").
//!
//! Everything is held to its digest. What breaks off is asked for again, a layer from where it broke off, with growing
//! pauses as long as nothing comes.

mod access;
mod blob;
mod request;

pub use access::{Access, Credentials};
pub use blob::BlobReader;

use crate::archive::MAX_DOCUMENT;
use crate::documents::{Documents, Image, image_of, text};
use crate::layer::{sha256, verify};
use crate::{Digest, Error, Platform, Reference, Result};
use minke_wire::json::Value;
use std::borrow::Cow;

/// The media types of manifests and indexes that we understand.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// One repository of a registry.
#[derive(Debug)]
pub struct Registry<'a> {
    access: &'a Access,
    /// `http` or `https`.
    tls: bool,
    /// Whether a registry that does not speak TLS is spoken to without.
    plain: bool,
    /// The registry's host and port, as written.
    host: String,
    /// The repository's name there.
    name: String,
    /// The value of `Authorization`, once it was asked for.
    authorization: Option<String>,
}

impl<'a> Registry<'a> {
    /// The repository of a reference. Nothing is sent yet.
    pub fn new(reference: &Reference, access: &'a Access) -> Self {
        let (host, name) = match reference.registry.as_deref() {
            None | Some("docker.io" | "index.docker.io") => {
                let official = !reference.name.bytes().any(|byte| byte == b'/');
                let prefix = if official { "library/" } else { "" };
                ("registry-1.docker.io", format!("{prefix}{}", reference.name))
            }
            Some(host) => (host, reference.name.clone()),
        };
        let authorization = match &access.credentials {
            Some(Credentials::Token(token)) => Some(format!("Bearer {token}")),
            _ => None,
        };
        Self {
            access,
            tls: true,
            plain: access.allows_plain(host),
            host: host.to_owned(),
            name,
            authorization,
        }
    }

    /// The image that a reference means on a platform. The first of its digests is the one that it has in the registry.
    pub(crate) fn image(&mut self, reference: &Reference, platform: &Platform) -> Result<Image> {
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let name = reference.digest.as_ref().map_or(tag, Digest::as_str);
        let content = self.document(&format!("/manifests/{name}"))?;
        let digest = sha256(&content);
        if let Some(expected) = &reference.digest {
            verify("manifest", expected, digest.clone())?;
        }
        let document = minke_wire::json::parse(&content);
        let document = document.map_err(|error| self.malformed(&format_args!("manifest {name}: {error}")))?;
        if document.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            return Err(Error::unsupported(&"manifests of schema 1; push the image anew"));
        }
        if let ("", None, None) =
            (text(&document, "mediaType"), document.get("config"), document.get("manifests"))
        {
            return Err(self.malformed(&format_args!("{name} is no image")));
        }
        image_of(self, document, vec![digest], platform)
    }

    /// Reads a layer from `place` on. `size` is the one of its descriptor.
    pub fn blob(&self, digest: &Digest, size: Option<u64>, place: u64) -> BlobReader {
        BlobReader::new(self.target(&format!("/blobs/{digest}")), size, place, self.access.patience())
    }

    /// Reads a document, which is small.
    fn document(&mut self, what: &str) -> Result<Vec<u8>> {
        let target = self.target(what);
        let limit = usize::try_from(MAX_DOCUMENT).unwrap_or(usize::MAX);
        let mut patience = self.access.patience();
        loop {
            let read = self.ask(&target, 0).and_then(|stream| {
                let read = stream.read_all(limit);
                read.map_err(|error| request::failed(&self.host, &error))
            });
            match read {
                Ok(response) => return Ok(response.body),
                Err(failure) => patience.wait(failure, self.access)?,
            }
        }
    }

    fn target(&self, what: &str) -> String {
        format!("/v2/{}{what}", self.name)
    }

    fn malformed(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::Malformed { what: self.host.as_str().into(), reason: reason.to_string().into() }
    }
}

impl Documents for Registry<'_> {
    fn named(&mut self, name: &str) -> Result<Value> {
        Err(self.malformed(&format_args!("a registry has no {name}")))
    }

    fn blob(&mut self, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>> {
        self.document(&format!("/{}/{digest}", if is_manifest { "manifests" } else { "blobs" }))
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.host)
    }
}
