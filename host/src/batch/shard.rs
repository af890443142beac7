//! A shard: one of n parts of the work, of about as many bytes as every other.

use super::manifest::WorkItem;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;

/// Most shards: more would be an error in a script.
const MOST: usize = 1_000_000;

/// Part `index` of `of`, counted from 0. As text: `3/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// All of the work.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Part `index` of `of`.
    ///
    /// # Errors
    /// One line, where there is no such part.
    pub fn new(index: usize, of: usize) -> Result<Self, String> {
        if of == 0 || of > MOST {
            return Err(format!("{of} shards; expected 1 to {MOST}"));
        }
        if index >= of {
            let last = of - 1;
            return Err(format!(
                "there is no shard {index} of {of}; shards are counted from 0, the last is {last}/{of}"
            ));
        }
        Ok(Self { index, of })
    }

    /// Which part, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// How many parts there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// As part of a file's name.
    pub(super) fn file_stem(self) -> String {
        format!("{}-of-{}", self.index, self.of)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        let (index, of) =
            numbers.ok_or_else(|| "expected I/N, for example 0/8; shards are counted from 0".to_owned())?;
        Self::new(index, of)
    }
}

/// Of each item the shard that it belongs to, 0 to `of` - 1.
///
/// Items go, largest first, to the shard with the fewest bytes so far. The result depends on the items alone and not on
/// their order: names decide between items of one size, the lower shard between shards of as many bytes.
pub fn partition(items: &[WorkItem], of: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| {
        let key = |i: usize| (Reverse(items[i].bytes), items[i].case.name.as_str());
        key(a).cmp(&key(b))
    });
    let mut shards: BinaryHeap<Reverse<(u64, usize)>> = (0..of).map(|i| Reverse((0, i))).collect();
    let mut shard_of = vec![0; items.len()];
    for item in order {
        let Some(Reverse((bytes, shard))) = shards.pop() else { break };
        shard_of[item] = shard;
        // An empty item is work too.
        shards.push(Reverse((bytes.saturating_add(items[item].bytes.max(1)), shard)));
    }
    shard_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, seq::SliceRandom};
    use rand_chacha::ChaCha8Rng;

    fn items(seed: u64, n: usize) -> Vec<WorkItem> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bytes = |random: &mut ChaCha8Rng| match random.random_range(0..4) {
            0 => 0,
            1 => 1 << 20,
            _ => random.random_range(1..200 << 20),
        };
        (0..n)
            .map(|i| WorkItem { bytes: bytes(&mut random), ..WorkItem::named(&format!("case{i:05}")) })
            .collect()
    }

    #[test]
    fn every_case_is_in_exactly_one_shard_whatever_the_order_of_the_work() {
        for (seed, (n, of)) in
            [(0, 1), (1, 8), (7, 3), (400, 8), (1000, 7), (513, 100), (64, 64)].into_iter().enumerate()
        {
            let mut work = items(seed as u64, n);
            let shards = partition(&work, of);
            assert_eq!(shards.len(), n, "each has one");
            assert!(shards.iter().all(|s| *s < of));
            let by_name = |work: &[WorkItem], shards: &[usize]| {
                let mut all: Vec<(String, usize)> =
                    work.iter().zip(shards).map(|(w, s)| (w.case.name.clone(), *s)).collect();
                all.sort();
                all
            };
            let before = by_name(&work, &shards);
            work.shuffle(&mut ChaCha8Rng::seed_from_u64(99));
            assert_eq!(by_name(&work, &partition(&work, of)), before, "{n} cases, {of} shards");
            // Largest first: no two shards differ by more than the largest case.
            let mut loads = vec![0u64; of];
            work.iter().zip(partition(&work, of)).for_each(|(w, s)| loads[s] += w.bytes.max(1));
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            let largest = work.iter().map(|w| w.bytes.max(1)).max().unwrap_or(0);
            assert!(most - least <= largest, "{n} cases, {of} shards: {loads:?}");
        }
    }

    #[test]
    fn scans_of_one_size_are_dealt_evenly() {
        let work: Vec<WorkItem> =
            (0..400).map(|i| WorkItem { bytes: 5000, ..WorkItem::named(&format!("c{i:03}")) }).collect();
        let shards = partition(&work, 8);
        assert!((0..8).all(|s| shards.iter().filter(|x| **x == s).count() == 50));
    }

    #[test]
    fn a_shard_is_counted_from_0_and_one_that_is_not_there_is_refused() {
        assert_eq!("3/8".parse::<Shard>().unwrap().to_string(), "3/8");
        let refused = |text: &str| text.parse::<Shard>().unwrap_err();
        assert_eq!(refused("9/8"), "there is no shard 9 of 8; shards are counted from 0, the last is 7/8");
        assert!(refused("8/8").contains("the last is 7/8"));
        assert!(refused("0/0").contains("0 shards; expected 1 to"));
        for wrong in ["3", "a/8", "-1/8", "3/8/2", ""] {
            assert!(refused(wrong).starts_with("expected I/N"), "{wrong}");
        }
    }
}
