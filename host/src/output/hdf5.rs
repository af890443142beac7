//! HDF5 files of vectors: datasets of 32-bit floats in one dimension, all in the root group.
//!
//! The format's oldest version (superblock 0, version 1 object headers and B-tree; HDF5 File Format Specification 3.0), which
//! every release of the library reads. Nothing here is compressed or chunked, so that a few structures of fixed size are all of
//! it, and no C library is linked.

/// Bytes of an address or a length.
const WORD: usize = 8;
/// "No address".
const UNDEFINED: u64 = u64::MAX;
/// Half of the children that a node of the group's B-tree may have; one is used.
const INTERNAL_K: usize = 16;
const SUPERBLOCK: usize = 96;
const GROUP_HEADER: usize = 16 + 8 + 16;
const TREE: usize = 24 + (2 * INTERNAL_K + 1) * WORD + 2 * INTERNAL_K * WORD;
const HEAP_HEADER: usize = 32;
const ENTRY: usize = 40;
/// Object header of a dataset: prefix, and the messages dataspace, datatype, fill value and layout.
const DATASET_HEADER: usize = 16 + (8 + 16) + (8 + 24) + (8 + 8) + (8 + 24);

/// Most datasets of a file: its one node counts them in 16 bits.
pub const MOST_VECTORS: usize = u16::MAX as usize;

/// A file's bytes; readers see a dataset per name.
///
/// # Errors
/// One line: no vector, a name that is empty, there twice or holds `/` or a zero byte, or more vectors than a group takes.
pub fn vectors(mut named: Vec<(&str, &[f32])>) -> Result<Vec<u8>, String> {
    // Readers look names up by their order.
    named.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    if let Some((name, _)) = named.iter().find(|(n, _)| n.is_empty() || n.contains(['/', '\0']) || *n == ".")
    {
        return Err(format!("`{name}` cannot be the name of a dataset"));
    }
    if let Some(pair) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("two datasets would be called `{}`", pair[0].0));
    }
    if !(1..=MOST_VECTORS).contains(&named.len()) {
        return Err(format!("{} datasets, expected 1 to {MOST_VECTORS}", named.len()));
    }
    let leaf_k = named.len().div_ceil(2).max(4);
    let leaf_k16 = u16::try_from(leaf_k).unwrap_or(u16::MAX);
    let mut names = vec![0u8; WORD];
    let mut name_at = Vec::new();
    for (name, _) in &named {
        name_at.push(names.len() as u64);
        names.extend(name.as_bytes());
        names.push(0);
        names.resize(names.len().next_multiple_of(WORD), 0);
    }
    let group = SUPERBLOCK;
    let tree = group + GROUP_HEADER;
    let heap = tree + TREE;
    let symbols = heap + HEAP_HEADER + names.len();
    let first = symbols + 8 + 2 * leaf_k * ENTRY;
    let mut headers = Vec::new();
    let mut end = first;
    for (_, values) in &named {
        headers.push(end);
        end += (DATASET_HEADER + size_of_val(*values)).next_multiple_of(WORD);
    }
    let mut file = Writer(Vec::with_capacity(end));
    file.superblock(leaf_k16, group, end, (tree, heap));
    file.header(&[(0x11, &[(tree as u64).to_le_bytes(), (heap as u64).to_le_bytes()].concat())]);
    file.tree(symbols, name_at[name_at.len() - 1]);
    file.heap(&names, heap + HEAP_HEADER);
    file.symbols(&name_at, &headers, leaf_k);
    for ((_, values), at) in named.iter().zip(&headers) {
        debug_assert_eq!(file.0.len(), *at);
        file.dataset(values, at + DATASET_HEADER);
    }
    Ok(file.0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn u64s(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.0.extend(value.to_le_bytes()));
    }

    fn superblock(&mut self, leaf_k: u16, group: usize, end: usize, (tree, heap): (usize, usize)) {
        self.0.extend(b"\x89HDF\r\n\x1a\n");
        // Versions of superblock, free space, root group; reserved; version of shared messages; sizes of address and length.
        self.0.extend([0, 0, 0, 0, 0, WORD as u8, WORD as u8, 0]);
        self.0.extend(leaf_k.to_le_bytes());
        self.0.extend((INTERNAL_K as u16).to_le_bytes());
        self.0.extend([0; 4]);
        self.u64s(&[0, UNDEFINED, end as u64, UNDEFINED]);
        // The root group's entry: its name, header, that tree and heap are cached, and where.
        self.u64s(&[0, group as u64]);
        self.0.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        self.u64s(&[tree as u64, heap as u64]);
    }

    /// An object header of version 1; every message is a multiple of 8 bytes.
    fn header(&mut self, messages: &[(u16, &[u8])]) {
        let size: usize = messages.iter().map(|(_, data)| 8 + data.len()).sum();
        self.0.extend([1, 0]);
        self.0.extend((messages.len() as u16).to_le_bytes());
        self.0.extend(1u32.to_le_bytes());
        self.0.extend((size as u32).to_le_bytes());
        self.0.extend([0; 4]);
        for (kind, data) in messages {
            self.0.extend(kind.to_le_bytes());
            self.0.extend((data.len() as u16).to_le_bytes());
            self.0.extend([0; 4]);
            self.0.extend(*data);
        }
    }

    /// A leaf with one child, whose greatest name is at `last`.
    fn tree(&mut self, symbols: usize, last: u64) {
        let start = self.0.len();
        self.0.extend(b"TREE\0\0\x01\0");
        self.u64s(&[UNDEFINED, UNDEFINED, 0, symbols as u64, last]);
        self.0.resize(start + TREE, 0);
    }

    fn heap(&mut self, names: &[u8], at: usize) {
        /// No block of the heap is free.
        const NONE_FREE: u64 = 1;
        self.0.extend(b"HEAP\0\0\0\0");
        self.u64s(&[names.len() as u64, NONE_FREE, at as u64]);
        self.0.extend(names);
    }

    fn symbols(&mut self, names: &[u64], headers: &[usize], leaf_k: usize) {
        let start = self.0.len();
        self.0.extend(b"SNOD\x01\0");
        self.0.extend((names.len() as u16).to_le_bytes());
        for (name, header) in names.iter().zip(headers) {
            self.u64s(&[*name, *header as u64, 0, 0, 0]);
        }
        self.0.resize(start + 8 + 2 * leaf_k * ENTRY, 0);
    }

    /// Header and numbers, which lie behind it at `at`.
    fn dataset(&mut self, values: &[f32], at: usize) {
        let bytes = size_of_val(values) as u64;
        // Version 1, one dimension, no greatest size.
        let space = [[1, 1, 0, 0, 0, 0, 0, 0], (values.len() as u64).to_le_bytes()].concat();
        // Version 1, floating point; little endian, mantissa with a leading 1 that is implied, sign in bit 31; 4 bytes; bits
        // 0 to 31; exponent of 8 bits at 23, mantissa of 23 at 0, bias 127.
        let mut kind = vec![0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];
        kind.resize(24, 0);
        // Version 2, allocated late, never filled.
        let fill = [2, 2, 2, 0, 0, 0, 0, 0];
        // Version 3, contiguous.
        let mut layout = [&[3, 1][..], &(at as u64).to_le_bytes(), &bytes.to_le_bytes()].concat();
        layout.resize(24, 0);
        self.header(&[(1, &space), (3, &kind), (5, &fill), (8, &layout)]);
        values.iter().for_each(|v| self.0.extend(v.to_le_bytes()));
        self.0.resize(self.0.len().next_multiple_of(WORD), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_datasets_than_a_node_counts_are_refused() {
        let names: Vec<String> = (0..=MOST_VECTORS).map(|i| i.to_string()).collect();
        let all: Vec<(&str, &[f32])> = names.iter().map(|name| (name.as_str(), &[1.0f32][..])).collect();
        let most = vectors(all[..MOST_VECTORS].to_vec()).unwrap();
        let node = most.windows(6).position(|w| w == b"SNOD\x01\0").unwrap();
        assert_eq!(most[node + 6..node + 8], [255, 255]);
        assert!(vectors(all).unwrap_err().contains("1 to 65535"));
    }

    #[test]
    fn a_file_is_as_long_as_it_says_and_holds_its_numbers() {
        // h5py reads such files in tests/outside/embeddings.
        let file = vectors(vec![("b", &[1.0, -2.5]), ("a", &[0.25])]).unwrap();
        assert_eq!(&file[..8], b"\x89HDF\r\n\x1a\n");
        assert_eq!(u64::from_le_bytes(file[40..48].try_into().unwrap()), file.len() as u64);
        let has = |v: &[f32]| {
            let bytes: Vec<u8> = v.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.windows(bytes.len()).any(|w| w == bytes)
        };
        assert!(has(&[1.0, -2.5]) && has(&[0.25]));
    }

    #[test]
    fn names_that_no_reader_would_find_are_refused() {
        let value = &[1.0f32][..];
        for names in [&["a", "a"][..], &["a/b"], &[""], &["."], &[]] {
            assert!(vectors(names.iter().map(|name| (*name, value)).collect()).is_err(), "{names:?}");
        }
    }
}
