//! The inverse of the 5/3 wavelet, a resolution at a time.

use super::tile::Rect;

/// Joins the four subbands of a resolution, which lie beside each other in the first rows and columns of `values`.
pub(super) fn join(values: &mut [i32], stride: usize, area: Rect) {
    let [width, height] = area.size();
    if width == 0 || height == 0 {
        return;
    }
    let (odd_x, odd_y) = (area.x0 % 2 == 1, area.y0 % 2 == 1);
    let lows = low_count(height, odd_y);
    let mut rows = vec![0; width * height];
    for (n, line) in values.chunks(stride).take(height).enumerate() {
        // Rows are put where they belong among the others on the way.
        let at = if n < lows { 2 * n + usize::from(odd_y) } else { 2 * (n - lows) + usize::from(!odd_y) };
        interleave(&line[..width], &mut rows[at * width..][..width], odd_x);
    }
    lift_columns(&mut rows, width, odd_y);
    for (line, row) in values.chunks_mut(stride).zip(rows.chunks_exact(width)) {
        line[..width].copy_from_slice(row);
    }
}

/// Of `n` samples those that are low, where the first is low or, with `odd`, high.
fn low_count(n: usize, odd: bool) -> usize {
    if odd { n / 2 } else { n.div_ceil(2) }
}

/// A row of low and then high coefficients becomes a row of samples.
fn interleave(from: &[i32], to: &mut [i32], odd: bool) {
    let (low, high) = from.split_at(low_count(from.len(), odd));
    if from.len() == 1 {
        to[0] = if odd { from[0] / 2 } else { from[0] };
        return;
    }
    let before = |i: usize| high[(i + usize::from(odd)).saturating_sub(1).min(high.len() - 1)];
    let after = |i: usize| high[(i + usize::from(odd)).min(high.len() - 1)];
    // Low sample i lies between high samples i - 1 and i, or with an odd start i and i + 1; at the ends they are mirrored.
    let even = |i: usize| low[i].wrapping_sub(before(i).wrapping_add(after(i)).wrapping_add(2) >> 2);
    let first = usize::from(odd);
    let mut last = even(0);
    to[first] = last;
    if odd {
        to[0] = high[0].wrapping_add(last);
    }
    for i in 1..low.len() {
        let next = even(i);
        let between = 2 * i + first;
        to[between - 1] = high[i - 1 + first].wrapping_add(last.wrapping_add(next) >> 1);
        to[between] = next;
        last = next;
    }
    if let Some(end) = to.get_mut(2 * low.len() - 1 + first) {
        *end = high[high.len() - 1].wrapping_add(last);
    }
}

/// The same along columns, of rows that lie in their order already.
fn lift_columns(rows: &mut [i32], width: usize, odd: bool) {
    let height = rows.len() / width;
    let first = usize::from(odd);
    if height == 1 {
        if odd {
            rows.iter_mut().for_each(|v| *v /= 2);
        }
        return;
    }
    for y in (first..height).step_by(2) {
        let (row, above, below) = neighbours(rows, width, y, height);
        for ((v, a), b) in row.iter_mut().zip(above).zip(below) {
            *v = v.wrapping_sub(a.wrapping_add(*b).wrapping_add(2) >> 2);
        }
    }
    for y in (1 - first..height).step_by(2) {
        let (row, above, below) = neighbours(rows, width, y, height);
        for ((v, a), b) in row.iter_mut().zip(above).zip(below) {
            *v = v.wrapping_add(a.wrapping_add(*b) >> 1);
        }
    }
}

/// Row `y`, and those before and after it, mirrored at the ends.
fn neighbours(rows: &mut [i32], width: usize, y: usize, height: usize) -> (&mut [i32], &[i32], &[i32]) {
    let (before, rest) = rows.split_at_mut(y * width);
    let (row, after) = rest.split_at_mut(width);
    let (before, after): (&[i32], &[i32]) = (before, after);
    let above = y.checked_sub(1).map(|above| &before[above * width..]);
    let below = (y + 1 < height).then(|| &after[..width]);
    let (a, b) = (above.or(below), below.or(above));
    (row, a.unwrap_or(&[]), b.unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forward transform as Annex F writes it, sample by sample, on an axis that begins at `start`.
    fn split(samples: &[i32], start: usize) -> Vec<i32> {
        let n = samples.len() as isize;
        if n == 1 {
            return vec![if start % 2 == 1 { samples[0] * 2 } else { samples[0] }];
        }
        let mirrored = |i: isize| {
            let i = i.abs();
            if i >= n { 2 * (n - 1) - i } else { i }
        };
        let is_high = |i: isize| (i + start as isize) % 2 == 1;
        let sample = |i: isize| samples[mirrored(i) as usize];
        let high = |i: isize| sample(i) - ((sample(i - 1) + sample(i + 1)) >> 1);
        let low = |i: isize| sample(i) + ((high(mirrored(i - 1)) + high(mirrored(i + 1)) + 2) >> 2);
        let lows = (0..n).filter(|i| !is_high(*i)).map(low);
        lows.chain((0..n).filter(|i| is_high(*i)).map(high)).collect()
    }

    #[test]
    fn joining_undoes_the_standards_split_of_every_length_and_start() {
        let noise = |i: usize| ((i * 7919 + 13) % 4001) as i32 - 2000;
        for (width, height) in [(1, 1), (1, 5), (2, 1), (2, 2), (3, 4), (5, 5), (8, 7), (13, 16)] {
            for (x0, y0) in [(0, 0), (1, 0), (0, 1), (3, 5)] {
                let samples: Vec<i32> = (0..width * height).map(noise).collect();
                // Columns before rows, as the standard splits: joining takes them in the other order.
                let mut columns = vec![0; width * height];
                for x in 0..width {
                    let column: Vec<i32> = samples.iter().skip(x).step_by(width).copied().collect();
                    split(&column, y0).into_iter().enumerate().for_each(|(y, v)| columns[y * width + x] = v);
                }
                let mut values = Vec::new();
                columns.chunks_exact(width).for_each(|row| values.extend(split(row, x0)));
                let area =
                    Rect { x0: x0 as u32, y0: y0 as u32, x1: (x0 + width) as u32, y1: (y0 + height) as u32 };
                join(&mut values, width, area);
                assert_eq!(values, samples, "{width} × {height} from {x0}, {y0}");
            }
        }
    }
}
