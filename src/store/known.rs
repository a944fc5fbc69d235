//! What the index knows, in memory: many look-ups without the database.
//!
//! About 56 bytes an object. It may miss what another process wrote since it was read: then an object is written twice,
//! which costs room and nothing else.

use std::collections::HashMap;

use rusqlite::Connection;

use super::index::Place;
use super::object::ObjectId;

/// Objects and their places.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What the database held, sorted.
    read: Vec<(ObjectId, Place)>,
    /// What came since.
    added: HashMap<ObjectId, Place>,
}

impl Known {
    /// Reads all of it; `present` says which archives are there.
    pub(crate) fn read(db: &Connection, present: impl Fn(u32) -> bool) -> rusqlite::Result<Known> {
        let mut query = db.prepare("SELECT archive, frame, packed, start, length, id FROM object ORDER BY id")?;
        let mut rows = query.query([])?;
        let mut read = Vec::new();
        while let Some(row) = rows.next()? {
            let place = super::index::place(row)?;
            if present(place.archive) {
                read.push((ObjectId::from_bytes(row.get(5)?), place));
            }
        }
        read.shrink_to_fit();
        Ok(Known { read, added: HashMap::new() })
    }

    /// Where an object is.
    pub(crate) fn find(&self, id: ObjectId) -> Option<Place> {
        match self.read.binary_search_by(|(known, _)| known.cmp(&id)) {
            Ok(at) => Some(self.read[at].1),
            Err(_) => self.added.get(&id).copied(),
        }
    }

    /// Notes where an object is.
    pub(crate) fn add(&mut self, id: ObjectId, place: Place) {
        self.added.insert(id, place);
    }
}
