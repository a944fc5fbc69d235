//! The names of objects, and bytes as JSON can hold them.
//!
//! Promises: an [`ObjectId`] reads back from what it prints; any bytes survive JSON through [`Bytes`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The BLAKE3 of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 32]);

impl ObjectId {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> ObjectId {
        ObjectId(*blake3::hash(bytes).as_bytes())
    }

    /// From the 32 bytes of a BLAKE3.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> ObjectId {
        ObjectId(bytes)
    }

    /// The 32 bytes of the BLAKE3.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl FromStr for ObjectId {
    type Err = Error;

    fn from_str(text: &str) -> Result<ObjectId, Error> {
        blake3::Hash::from_hex(text)
            .map(|hash| ObjectId(*hash.as_bytes()))
            .map_err(|_| Error::new(format!("`{text}` is not the name of an object")))
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ObjectId, D::Error> {
        struct Hex;
        impl serde::de::Visitor<'_> for Hex {
            type Value = ObjectId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an object")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ObjectId, E> {
                text.parse().map_err(|e: Error| E::custom(e.statement))
            }
        }
        from.deserialize_str(Hex)
    }
}

/// Bytes that are mostly text: names, link targets, extended attributes.
///
/// As text a `\` is written `\\`, and a byte that is not part of valid UTF-8, or a control character, `\xNN`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes that [`fmt::Display`] wrote; `None` for text that it does not write.
    pub fn from_text(text: &str) -> Option<Bytes> {
        if !text.contains('\\') {
            return Some(Bytes(text.as_bytes().to_vec()));
        }
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            match rest {
                [b'\\', after @ ..] => {
                    out.push(b'\\');
                    rest = after;
                }
                [b'x', high, low, after @ ..] => {
                    let digit = |c: u8| char::from(c).to_digit(16);
                    out.push((digit(*high)? * 16 + digit(*low)?) as u8);
                    rest = after;
                }
                _ => return None,
            }
        }
        Some(Bytes(out))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c != '\\' && !c.is_control();
        for chunk in self.0.utf8_chunks() {
            let valid = chunk.valid();
            if valid.chars().all(plain) {
                f.write_str(valid)?;
            } else {
                for c in valid.chars() {
                    match c {
                        '\\' => f.write_str("\\\\")?,
                        c if c.is_control() => {
                            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                                write!(f, "\\x{byte:02x}")?;
                            }
                        }
                        c => write!(f, "{c}")?,
                    }
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains(|c: char| c == '\\' || c.is_control()) => to.serialize_str(text),
            _ => to.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text with escaped bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::from_text(text).ok_or_else(|| E::custom(format!("`{text}` is wrongly escaped")))
            }
        }
        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_id_reads_back_what_it_prints() {
        let id = ObjectId::of(b"x");
        assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
        assert_eq!("zz".parse::<ObjectId>().unwrap_err().to_string(), "`zz` is not the name of an object");
    }

    #[test]
    fn bytes_survive_json() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&b"plain"[..], b"back\\slash", b"new\nline", b"\xff\xfe\\x41", "\u{85}é日".as_bytes(), &all] {
            let json = serde_json::to_string(&Bytes(bytes.to_vec())).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, bytes);
        }
        assert_eq!(Bytes(b"a\nb\xff\\".to_vec()).to_string(), "a\\x0ab\\xff\\\\");
        assert!(Bytes::from_text("\\q").is_none());
    }
}
