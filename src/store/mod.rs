//! The store: content-addressed objects in immutable `tar.zst` archives, their index, and manifests.
use crate::error::Result;
use std::path::Path;
/// The BLAKE3 of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 32]);
impl std::fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.0)
    }
}
impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.0)
    }
}
impl std::str::FromStr for ObjectId {
    type Err = crate::error::Error;
    fn from_str(s: &str) -> Result<ObjectId> {
        let _ = s;
        todo!()
    }
}
/// A store in a state directory.
#[derive(Debug)]
pub struct Store {
    _dir: std::path::PathBuf,
}
impl Store {
    /// Opens (creates) the store in `<state>/store`; archives are written in `tmp` (this process's own directory).
    pub fn open(state: &Path, tmp: &Path) -> Result<Store> {
        let _ = (state, tmp);
        todo!()
    }
    /// Opens an existing store for reading only; nothing is created (works on a read-only state directory). `None` when there is none yet.
    pub fn open_read_only(state: &Path) -> Result<Option<Store>> {
        let _ = state;
        todo!()
    }
    /// Keeps `bytes` as one object; durable when it returns.
    pub fn put(&self, bytes: &[u8]) -> Result<ObjectId> {
        let _ = bytes;
        todo!()
    }
    /// An object's bytes, checked against its name.
    pub fn get(&self, id: ObjectId) -> Result<Vec<u8>> {
        let _ = id;
        todo!()
    }
    /// Reads and checks every object that a restore of `manifests` needs, every archive's frame once; an error (`Fault::Damage`) says what is damaged and which files it hits. Returns bytes read.
    pub fn prove(&self, manifests: &[ObjectId], progress: &dyn Fn(u64, u64)) -> Result<u64> {
        let _ = (manifests, progress);
        todo!()
    }
    /// Keeps everything `source` gives as the only entry of a manifest: what databases are captured with.
    pub fn capture_stream(&self, head: Head, source: &mut dyn std::io::Read) -> Result<crate::resource::Captured> {
        let _ = (head, source);
        todo!()
    }
    /// A manifest that only says something (`facts`): for a resource that does not exist.
    pub fn capture_facts(&self, head: Head) -> Result<crate::resource::Captured> {
        let _ = head;
        todo!()
    }
    /// Gives back what `capture_stream` was given.
    pub fn restore_stream(&self, manifest: ObjectId, sink: &mut dyn std::io::Write) -> Result<u64> {
        let _ = (manifest, sink);
        todo!()
    }
    /// x
    pub fn file_content(&self, manifest: ObjectId, path: &str) -> Result<Option<Vec<u8>>> {
        let _ = (manifest, path);
        todo!()
    }
    /// What a manifest says of itself.
    pub fn head(&self, manifest: ObjectId) -> Result<Head> {
        let _ = manifest;
        todo!()
    }
    /// Bytes of all archives.
    pub fn size(&self) -> Result<u64> {
        todo!()
    }
}

/// What a manifest says of itself, so that the store explains itself without the journal.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The transaction.
    pub tx: String,
    /// The resource's instance.
    pub resource: String,
    /// Its kind.
    pub kind: String,
    /// Where it lives, for people.
    pub place: String,
    /// The version stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When, RFC 3339.
    pub at: String,
    /// What the kind wants to remember: exclusions, a fingerprint, `{"absent":true}`.
    #[serde(default)]
    pub facts: serde_json::Value,
}
