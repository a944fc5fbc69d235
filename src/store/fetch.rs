//! Reading many objects: sorted by place, each frame decoded once, by all cores, every object checked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::archive::Opener;
use super::index::Place;
use super::object::ObjectId;
use super::{Store, checked, cores};
use crate::error::{Error, Result};

/// An object that is wanted, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<T> {
    pub(crate) place: Place,
    pub(crate) id: ObjectId,
    pub(crate) what_for: T,
}

/// An object that cannot be read, and why.
pub(crate) type Bad = (ObjectId, Error);

/// What is done with an object's bytes.
pub(crate) type Each<'a, T> = &'a (dyn Fn(&Want<T>, &[u8]) -> Result<()> + Sync);

/// The same; its thread keeps an `L` from one object to the next.
pub(crate) type EachWith<'a, L, T> = &'a (dyn Fn(&mut L, &Want<T>, &[u8]) -> Result<()> + Sync);

/// The same, in one thread.
type EachHere<'a, T> = &'a mut dyn FnMut(&Want<T>, &[u8]) -> Result<()>;

/// What came of fetching.
pub(crate) struct Fetched {
    /// Bytes of objects read.
    pub(crate) bytes: u64,
    pub(crate) bad: Vec<Bad>,
}

/// What is done when an object cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnBad {
    GoOn,
    Stop,
}

/// Objects that were read and checked before.
pub(crate) type Held = HashMap<ObjectId, Box<[u8]>>;

/// Gives every wanted object's bytes to `each`, by several threads in no order. `tell` gets bytes done and in all.
pub(crate) fn fetch<T: Copy + Send + Sync>(
    store: &Store,
    wants: Vec<Want<T>>,
    on_bad: OnBad,
    tell: &dyn Fn(u64, u64),
    each: Each<'_, T>,
) -> Result<Fetched> {
    fetch_rest(store, wants, &Held::new(), on_bad, tell, &|(), want, bytes| each(want, bytes))
}

/// The same, where some of them are `held`.
pub(crate) fn fetch_rest<T: Copy + Send + Sync, L: Default>(
    store: &Store,
    mut wants: Vec<Want<T>>,
    held: &Held,
    on_bad: OnBad,
    tell: &dyn Fn(u64, u64),
    each: EachWith<'_, L, T>,
) -> Result<Fetched> {
    /// What one thread writes before it takes more.
    const GROUP: usize = 64;
    // From here on every core has a frame of its own.
    store.forget_frames();
    wants.sort_unstable_by_key(|want| want.place);
    let here: Vec<Want<T>> = wants.extract_if(.., |want| held.contains_key(&want.id)).collect();
    let groups: Vec<&[Want<T>]> = here.chunks(GROUP).collect();
    let frames: Vec<&[Want<T>]> =
        wants.chunk_by(|a, b| (a.place.archive, a.place.frame) == (b.place.archive, b.place.frame)).collect();
    let sum = |wants: &[Want<T>]| {
        let objects = wants.chunk_by(|a, b| a.place == b.place);
        objects.map(|same| u64::from(same[0].place.length)).sum::<u64>()
    };
    let total = sum(&wants) + sum(&here);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (done, progress) = crossbeam_channel::unbounded::<Result<(u64, Vec<Bad>)>>();
    let mut fetched = Fetched { bytes: 0, bad: Vec::new() };
    let mut failure = None;
    std::thread::scope(|scope| {
        for _ in 0..cores().min(groups.len() + frames.len()) {
            let (done, groups, frames, next, stop) = (done.clone(), &groups, &frames, &next, &stop);
            scope.spawn(move || {
                let (mut opener, mut local) = (Opener::default(), L::default());
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let result = match (groups.get(at), at.checked_sub(groups.len()).map(|at| frames.get(at))) {
                        (Some(group), _) => group
                            .iter()
                            .try_for_each(|want| each(&mut local, want, &held[&want.id]))
                            .map(|()| (sum(group), Vec::new())),
                        (None, Some(Some(frame))) => {
                            let each = &mut |want: &Want<T>, bytes: &[u8]| each(&mut local, want, bytes);
                            one_frame(store, frame, &mut opener, each).map(|bad| (sum(frame), bad))
                        }
                        _ => break,
                    };
                    if done.send(result).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        for result in progress {
            match result {
                Ok((bytes, bad)) => {
                    fetched.bytes += bytes;
                    if !bad.is_empty() && on_bad == OnBad::Stop {
                        stop.store(true, Ordering::Relaxed);
                    }
                    fetched.bad.extend(bad);
                    tell(fetched.bytes, total);
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(fetched),
    }
}

fn one_frame<T>(store: &Store, wants: &[Want<T>], opener: &mut Opener, each: EachHere<'_, T>) -> Result<Vec<Bad>> {
    let tar = match store.open_frame(wants[0].place, opener) {
        Ok(tar) => tar,
        Err(error) => return Ok(wants.iter().map(|want| (want.id, error.clone())).collect()),
    };
    let mut bad = Vec::new();
    for same in wants.chunk_by(|a, b| a.place == b.place) {
        match checked(tar, same[0].place, same[0].id) {
            Ok(bytes) => same.iter().try_for_each(|want| each(want, bytes))?,
            Err(error) => bad.push((same[0].id, error)),
        }
    }
    Ok(bad)
}
