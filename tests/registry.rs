//! A registry of images that only answers (OCI distribution specification 1.1, "Pull"), with faults where a test wants them.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::run;
use minke_image::tree::Scratch;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The registry; it ends with the test's process, its folder before that.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    folder: Scratch,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Bytes of answers' bodies so far.
    sent: AtomicU64,
    /// A transfer of a blob breaks off after this many bytes; 0: none does.
    piece: AtomicU64,
    /// No byte of a blob from here on is ever sent; 0: all are.
    end: AtomicU64,
}

impl Registry {
    /// Starts it on a port of loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = Scratch::new("registry").unwrap();
        let shared = Arc::new(Shared {
            folder: folder.path().to_owned(),
            sent: AtomicU64::new(0),
            piece: AtomicU64::new(0),
            end: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || while shared.answer(&stream).is_some() {});
            }
        });
        Self { port, folder, shared }
    }

    /// Offers the image in an archive under this name; the reference by which a guest finds it.
    pub fn offer(&self, name: &str, archive: &Path) -> String {
        let layout = self.folder.join(name);
        fs::create_dir_all(&layout).unwrap();
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&layout));
        let whole = layout.join("archive.tar");
        let _ = fs::remove_file(&whole);
        std::os::unix::fs::symlink(archive, whole).unwrap();
        format!("10.0.2.2:{}/{name}:latest", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder of an image that is on offer: its OCI layout.
    pub fn layout(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the guest gets the whole archive of an image that is on offer.
    pub fn archive(&self, name: &str) -> String {
        format!("http://10.0.2.2:{}/v2/{name}/blobs/archive", self.port)
    }

    /// The folder of plain files that it serves besides.
    pub fn files(&self) -> PathBuf {
        let folder = self.folder.join("files");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Where the guest gets a file of that folder.
    pub fn file(&self, name: &str) -> String {
        format!("http://10.0.2.2:{}/files/{name}", self.port)
    }

    /// Bytes of all answers' bodies since the last question.
    pub fn sent(&self) -> u64 {
        self.shared.sent.swap(0, Ordering::Relaxed)
    }

    /// From here on every transfer of a blob breaks off after this many bytes; 0: none does.
    pub fn pieces(&self, bytes: u64) {
        self.shared.piece.store(bytes, Ordering::Relaxed);
    }

    /// From here on no blob is sent beyond this many bytes, however often somebody asks; 0: all are sent.
    pub fn end(&self, bytes: u64) {
        self.shared.end.store(bytes, Ordering::Relaxed);
    }
}

impl Shared {
    /// Answers one request; nothing when the connection is over.
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next()?.ok()?;
        let mut words = request.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let mut from = 0;
        for line in lines.by_ref() {
            let line = line.ok()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').split('-').next()?.parse().ok()?;
            }
        }
        let mut stream = stream;
        let Some((file, kind)) = self.find(path) else {
            let (status, body) =
                if path == "/v2/" { ("200 OK", "{}") } else { ("404 Not Found", "{\"errors\":[]}") };
            let length = body.len();
            return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").ok();
        };
        let mut file = File::open(file).ok()?;
        let size = file.metadata().ok()?.len();
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", size - from)
            .ok()?;
        write!(stream, "Accept-Ranges: bytes\r\nContent-Range: bytes {from}-{}/{size}\r\n\r\n", size - 1)
            .ok()?;
        if method == "HEAD" {
            return Some(());
        }
        file.seek(SeekFrom::Start(from)).ok()?;
        let bound = |bytes: u64| if bytes > 0 && path.contains("/blobs/") { bytes } else { u64::MAX };
        let piece = bound(self.piece.load(Ordering::Relaxed));
        let end = bound(self.end.load(Ordering::Relaxed)).saturating_sub(from);
        let limit = (size - from).min(piece).min(end);
        let sent = std::io::copy(&mut file.take(limit), &mut stream).ok()?;
        self.sent.fetch_add(sent, Ordering::Relaxed);
        if limit < size - from {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        Some(())
    }

    /// The file that a path of the API names, and its media type.
    fn find(&self, path: &str) -> Option<(PathBuf, String)> {
        if path.starts_with("/files/") && !path.contains("..") {
            let file = self.folder.join(path.trim_start_matches('/'));
            return file.is_file().then(|| (file, "application/octet-stream".to_owned()));
        }
        let path = path.strip_prefix("/v2/")?;
        let (name, kind, reference) = match path.split_once("/manifests/") {
            Some((name, reference)) => (name, "manifests", reference),
            None => path.split_once("/blobs/").map(|(name, reference)| (name, "blobs", reference))?,
        };
        let layout = self.folder.join(name);
        let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
        if reference == "archive" {
            return Some((layout.join("archive.tar"), "application/x-tar".to_owned()));
        }
        if kind == "blobs" || reference.starts_with("sha256:") {
            let file = blob(reference);
            let media = if kind == "blobs" {
                "application/octet-stream"
            } else {
                "application/vnd.oci.image.manifest.v1+json"
            };
            return file.exists().then(|| (file, media.to_owned()));
        }
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).ok()?).ok()?;
        let descriptor = &index["manifests"][0];
        Some((blob(descriptor["digest"].as_str()?), descriptor["mediaType"].as_str()?.to_owned()))
    }
}
