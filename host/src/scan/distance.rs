//! Exact Euclidean distances on a grid: lower envelopes of parabolas, one axis after the other (Felzenszwalb and Huttenlocher 2012,
//! doi:10.4086/toc.2012.v008a019).

/// Farther than any scan is long, squared.
const NEVER: f64 = 1e12;

/// mm from each voxel of a grid `[x, y, z]`, x fastest, to the nearest voxel of `to`, centre to centre; with `beyond` the voxels
/// just outside of the grid are of `to` as well. Where nothing is, a number above any scan's length.
pub(super) fn distances_mm(to: &[bool], shape: [usize; 3], spacing: [f64; 3], beyond: bool) -> Vec<f64> {
    let mut squares: Vec<f64> = to.iter().map(|to| if *to { 0.0 } else { NEVER }).collect();
    let steps = [1, shape[0], shape[0] * shape[1]];
    for axis in 0..3 {
        let (n, step) = (shape[axis], steps[axis]);
        let mut line = vec![0.0; n + 2];
        for start in (0..squares.len()).filter(|i| i / step % n == 0) {
            let border = if beyond { 0.0 } else { NEVER };
            (line[0], line[n + 1]) = (border, border);
            (0..n).for_each(|i| line[i + 1] = squares[start + i * step]);
            let found = along(&line, spacing[axis]);
            (0..n).for_each(|i| squares[start + i * step] = found[i + 1]);
        }
    }
    squares.into_iter().map(f64::sqrt).collect()
}

/// Least of `line[j] + (mm (i - j))²` over all `j`, for each `i`.
fn along(line: &[f64], mm: f64) -> Vec<f64> {
    let height = |j: usize| line[j] + (mm * j as f64).powi(2);
    // Parabolas of the envelope, and from where on each is the lowest.
    let (mut lowest, mut from) = (vec![0usize], vec![f64::NEG_INFINITY]);
    for j in 1..line.len() {
        let meets = |k: usize| (height(j) - height(k)) / (2.0 * mm * mm * (j - k) as f64);
        while let (Some(&k), Some(&start)) = (lowest.last(), from.last()) {
            let at = meets(k);
            if at > start {
                lowest.push(j);
                from.push(at);
                break;
            }
            lowest.pop();
            from.pop();
        }
    }
    let mut at = 0;
    (0..line.len())
        .map(|i| {
            while at + 1 < lowest.len() && from[at + 1] < i as f64 {
                at += 1;
            }
            line[lowest[at]] + (mm * (i as f64 - lowest[at] as f64)).powi(2)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_all_pairs() {
        let (shape, spacing) = ([7, 6, 5], [0.7, 1.3, 2.5]);
        let place = |i: usize| [i % 7, i / 7 % 6, i / 42].map(|v| v as f64);
        let mut state = 5u32;
        for share in [1, 3, 12] {
            let to: Vec<bool> = (0..210)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    i == 100 || (state >> 16) % 40 < share
                })
                .collect();
            let found = distances_mm(&to, shape, spacing, false);
            for (i, found) in found.iter().enumerate() {
                let far = |j: usize| {
                    let (a, b) = (place(i), place(j));
                    (0..3).map(|k| ((a[k] - b[k]) * spacing[k]).powi(2)).sum::<f64>().sqrt()
                };
                let expected = (0..210).filter(|j| to[*j]).map(far).fold(f64::INFINITY, f64::min);
                assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
            }
        }
    }

    #[test]
    fn beyond_the_grid_lies_the_nearest_where_it_counts() {
        let nothing = [false; 27];
        let found = distances_mm(&nothing, [3; 3], [1.0, 2.0, 4.0], true);
        // The middle voxel is two steps of x from either end.
        assert_eq!((found[13], found[12]), (2.0, 1.0));
        assert!(distances_mm(&nothing, [3; 3], [1.0; 3], false)[0] > 1e5);
    }
}
