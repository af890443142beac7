//! Tag trees: numbers of neighbouring code-blocks, told by what their minimum is.

/// What is not known yet.
const UNKNOWN: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    value: u32,
    /// The value is at least that.
    low: u32,
}

/// The leaves first, the root last.
#[derive(Debug)]
pub(super) struct TagTree {
    nodes: Vec<Node>,
    /// First node and nodes in a row of each level.
    levels: Vec<(usize, usize)>,
}

impl TagTree {
    pub fn new(wide: usize, high: usize) -> Self {
        let (mut levels, mut count, [mut w, mut h]) = (Vec::new(), 0, [wide, high]);
        while w * h > 0 {
            levels.push((count, w));
            count += w * h;
            if w * h == 1 {
                break;
            }
            [w, h] = [w.div_ceil(2), h.div_ceil(2)];
        }
        Self { nodes: vec![Node { value: UNKNOWN, low: 0 }; count], levels }
    }

    /// Whether the value of a leaf is below `threshold`; reads as many bits as tell that.
    pub fn is_below(
        &mut self,
        [x, y]: [usize; 2],
        threshold: u32,
        mut bit: impl FnMut() -> Option<u32>,
    ) -> Option<bool> {
        let (mut low, mut value) = (0, UNKNOWN);
        for (level, (first, wide)) in self.levels.iter().enumerate().rev() {
            let node = self.nodes.get_mut(first + (y >> level) * wide + (x >> level))?;
            low = node.low.max(low);
            while low < threshold && low < node.value {
                match bit()? {
                    0 => low += 1,
                    _ => node.value = low,
                }
            }
            node.low = low;
            value = node.value;
        }
        Some(value < threshold)
    }
}
