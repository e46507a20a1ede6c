//! Finds duplicate ids.
//!
//! The store has a unique index, but the file of a tampered store may lack or corrupt it, and an export has none. So this
//! is an external merge sort: 2^18 ids at a time (6 MiB) are sorted and written to a temporary file, and these runs are
//! merged at the end. 10 million events temporarily take 240 MB of disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use uuid::Uuid;

/// The number of ids sorted in memory.
const RUN: usize = 1 << 18;
/// The size of a [`Pair`] in a run, in bytes.
const WIDTH: usize = 24;
/// The size of the read buffer of each run, in bytes.
const BUFFER: usize = WIDTH * 1024;

/// An id, which sorts like its bytes, and its sequence number.
type Pair = (u128, u64);

/// Collects the ids of a log.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    run: Vec<[u64; 3]>,
    spilled: Vec<File>,
}

/// Two events with the same id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DuplicateId {
    pub(crate) id: Uuid,
    pub(crate) first: u64,
    pub(crate) second: u64,
}

impl Ids {
    pub(crate) fn push(&mut self, id: Uuid, seq: u64) -> io::Result<()> {
        let (high, low) = id.as_u64_pair();
        self.run.push([high, low, seq]);
        if self.run.len() >= RUN {
            self.spill()
        } else {
            Ok(())
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        let mut file = BufWriter::with_capacity(BUFFER, tempfile::tempfile()?);
        for pair in &self.run {
            for part in pair {
                file.write_all(&part.to_be_bytes())?;
            }
        }
        self.run.clear();
        self.spilled
            .push(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }

    /// Returns the first event, in log order, whose id an earlier event has.
    pub(crate) fn find_duplicate(mut self) -> io::Result<Option<DuplicateId>> {
        self.run.sort_unstable();
        let mut runs = Vec::with_capacity(self.spilled.len());
        for mut file in self.spilled {
            file.seek(SeekFrom::Start(0))?;
            runs.push(BufReader::with_capacity(BUFFER, file));
        }
        let mut memory = self.run.into_iter().map(pair);
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(next(run)?.map(|pair| Reverse((pair, Some(number)))));
        }
        heads.extend(memory.next().map(|pair| Reverse((pair, None))));
        let mut found: Option<DuplicateId> = None;
        let mut last: Option<Pair> = None;
        while let Some(Reverse(((id, seq), source))) = heads.pop() {
            if let Some((before, first)) = last
                && before == id
                && found.as_ref().is_none_or(|found| seq < found.second)
            {
                let id = Uuid::from_u128(id);
                found = Some(DuplicateId {
                    id,
                    first,
                    second: seq,
                });
            }
            last = Some((id, seq));
            let following = match source.map(|number| runs.get_mut(number)) {
                Some(Some(run)) => next(run)?,
                Some(None) => None,
                None => memory.next(),
            };
            heads.extend(following.map(|pair| Reverse((pair, source))));
        }
        Ok(found)
    }
}

fn pair([high, low, seq]: [u64; 3]) -> Pair {
    (Uuid::from_u64_pair(high, low).as_u128(), seq)
}

fn next(run: &mut BufReader<File>) -> io::Result<Option<Pair>> {
    let (mut id, mut seq) = ([0; 16], [0; 8]);
    match run.read_exact(&mut id) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    run.read_exact(&mut seq)?;
    Ok(Some((u128::from_be_bytes(id), u64::from_be_bytes(seq))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Permutes the numbers, so that runs overlap.
    fn id(number: u64) -> Uuid {
        Uuid::from_u128(u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64)
    }

    fn duplicate(ids: impl Iterator<Item = Uuid>) -> Option<DuplicateId> {
        let mut all = Ids::default();
        for (index, id) in ids.enumerate() {
            all.push(id, index as u64 + 1).unwrap();
        }
        all.find_duplicate().unwrap()
    }

    #[test]
    fn distinct_ids_have_no_duplicate() {
        assert_eq!(duplicate(std::iter::empty()), None);
        assert_eq!(duplicate((0..10).map(id)), None);
        assert_eq!(duplicate((0..3 * RUN as u64 + 7).map(id)), None);
    }

    #[test]
    fn the_first_duplicate_is_found() {
        let found = |first, second, number| {
            Some(DuplicateId {
                id: id(number),
                first,
                second,
            })
        };
        assert_eq!(duplicate([5, 7, 5].into_iter().map(id)), found(1, 3, 5));
        assert_eq!(duplicate([5, 7, 7, 5, 5].into_iter().map(id)), found(2, 3, 7));
        // Across spilled runs and the one in memory.
        let far = 2 * RUN as u64 + 3;
        let numbers = (0..far).chain([9, far, 3]).map(id);
        assert_eq!(duplicate(numbers), found(10, far + 1, 9));
    }
}
