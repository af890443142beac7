//! Tokens of a slice that say the same become one (token merging: Bolya et al. 2023, arXiv:2210.09461).
//!
//! Between a block's attention and its MLP the patches are dealt into two sets by turns. Each of the first finds the one of the second
//! whose key is nearest to its own, and the nearest of these pairs become a token each: their mean, weighted by how many patches each
//! stood for. A token counts in the attention as often as it stands for a patch. In the end every patch has the token that it went
//! into, so that heads, decoders and heatmaps see the full grid. It needs no training.

/// Which token each computed row of a slice went into.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedRows {
    /// Of each row.
    token_of: Vec<u32>,
    /// Of each token: how many rows it stands for.
    sizes: Vec<f32>,
    /// Of each token, ascending: the row whose place it has.
    places: Vec<u32>,
}

impl MergedRows {
    /// Every one of `rows` is a token of its own.
    pub(crate) fn alone(rows: usize) -> Self {
        let each: Vec<u32> = (0..rows as u32).collect();
        Self { token_of: each.clone(), sizes: vec![1.0; rows], places: each }
    }

    /// Tokens that are left.
    pub fn tokens(&self) -> usize {
        self.sizes.len()
    }

    /// How many rows each token stands for; `None` where each stands for one.
    pub(crate) fn sizes(&self) -> Option<&[f32]> {
        (self.tokens() < self.token_of.len()).then_some(&*self.sizes)
    }

    /// Of each token, ascending: the row whose place it has.
    pub(crate) fn places(&self) -> &[u32] {
        &self.places
    }

    /// Tokens `x` [T, width] of each pair `(from, into)` become their mean, in the place of `into`. No token is `from` twice, nor
    /// both `from` and `into`. The tokens that are left move to the front of `x`.
    pub(crate) fn merge(&mut self, pairs: &[(usize, usize)], width: usize, x: &mut [f32]) {
        let t = self.tokens();
        let mut into: Vec<usize> = (0..t).collect();
        let mut total = self.sizes.clone();
        for &(from, to) in pairs {
            into[from] = to;
            total[to] += self.sizes[from];
        }
        // Sums first, weighted by sizes, then means.
        for &(_, to) in pairs {
            if total[to] > self.sizes[to] {
                let own = self.sizes[to] / total[to];
                x[to * width..][..width].iter_mut().for_each(|x| *x *= own);
                // Once for each token, however many come to it.
                self.sizes[to] = total[to];
            }
        }
        for &(from, to) in pairs {
            let share = self.sizes[from] / self.sizes[to];
            let (from, to) = (from * width, to * width);
            for i in 0..width {
                x[to + i] += share * x[from + i];
            }
        }
        let mut number = vec![0u32; t];
        let mut left = 0;
        for token in (0..t).filter(|&token| into[token] == token) {
            number[token] = left as u32;
            x.copy_within(token * width..(token + 1) * width, left * width);
            (self.sizes[left], self.places[left]) = (self.sizes[token], self.places[token]);
            left += 1;
        }
        self.sizes.truncate(left);
        self.places.truncate(left);
        for token in &mut self.token_of {
            *token = number[into[*token as usize]];
        }
    }

    /// Of rows `x` [rows, width] those whose places the tokens have move to the front: all rows of a token are alike.
    pub(crate) fn compact(&self, width: usize, x: &mut [f32]) {
        for (token, &row) in self.places.iter().enumerate() {
            let from = row as usize * width;
            x.copy_within(from..from + width, token * width);
        }
    }

    /// Tokens at the front of `x` [rows, width] go to all their rows.
    pub(crate) fn spread(&self, width: usize, x: &mut [f32]) {
        let tokens = x[..self.tokens() * width].to_vec();
        for (row, &token) in x.chunks_exact_mut(width).zip(&self.token_of) {
            row.copy_from_slice(&tokens[token as usize * width..][..width]);
        }
    }

    /// As [`Self::spread`] of a number for each token that its rows share.
    pub(crate) fn spread_shares(&self, x: &mut [f32]) {
        x.iter_mut().zip(&self.sizes).for_each(|(x, size)| *x /= size);
        self.spread(1, x);
    }
}

/// How the tokens of some slices are merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merging {
    /// Tokens that each block merges away, of each slice; 0: none.
    pub each: usize,
    /// Of each slice, what earlier blocks merged; empty: nothing.
    pub done: Vec<MergedRows>,
}

impl Merging {
    /// Before the first block.
    pub fn each(each: usize) -> Self {
        Self { each, done: Vec::new() }
    }

    /// `n` slices from `from` on, which there must be.
    pub(crate) fn narrow(&self, from: usize, n: usize) -> Self {
        let done = if self.done.is_empty() { Vec::new() } else { self.done[from..from + n].to_vec() };
        Self { each: self.each, done }
    }
}

/// Pairs `(from, into)` of the tokens from `leading` on whose keys [T, width], of length 1, are nearest: at most `each`, at most half
/// of the tokens.
pub(crate) fn nearest_pairs(keys: &[f32], width: usize, leading: usize, each: usize) -> Vec<(usize, usize)> {
    let key = |token: usize| &keys[token * width..][..width];
    let tokens = keys.len() / width;
    let mut found: Vec<(f32, usize, usize)> = (leading..tokens)
        .step_by(2)
        .filter_map(|from| {
            let near = |into: usize| (dot(key(from), key(into)), into);
            let of_second = (leading + 1..tokens).step_by(2).map(near);
            // The first of equals.
            of_second.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(near, into)| (near, from, into))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.truncate(each.min(tokens.saturating_sub(leading) / 2));
    found.into_iter().map(|(_, from, into)| (from, into)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.into_iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_tokens_are_means_of_their_rows_and_every_row_has_its_token() {
        // Rows 0 to 5 of one number each; 1 and 3 go into 2, then 4 and what is left of it into 5.
        let mut x = [10.0, 1.0, 2.0, 6.0, 4.0, 8.0];
        let mut merged = MergedRows::alone(6);
        merged.merge(&[(1, 2), (3, 2)], 1, &mut x);
        assert_eq!((merged.tokens(), &x[..4]), (4, &[10.0, 3.0, 4.0, 8.0][..]));
        assert_eq!((merged.sizes(), merged.places()), (Some(&[1.0, 3.0, 1.0, 1.0][..]), &[0, 2, 4, 5][..]));
        // (3 · 3 + 8) / 4
        merged.merge(&[(1, 3)], 1, &mut x);
        assert_eq!(&x[..3], &[10.0, 4.0, 4.25]);
        let mut shares = [0.5, 0.25, 1.0, 0.0, 0.0, 0.0];
        merged.spread(1, &mut x);
        assert_eq!(x, [10.0, 4.25, 4.25, 4.25, 4.0, 4.25]);
        merged.spread_shares(&mut shares);
        assert_eq!(shares, [0.5, 0.25, 0.25, 0.25, 0.25, 0.25]);
        let mut back = x;
        merged.compact(1, &mut back);
        assert_eq!(&back[..3], &[10.0, 4.0, 4.25]);
    }

    #[test]
    fn the_nearest_pairs_are_merged_and_never_what_stands_before_the_patches() {
        // Directions of a plane: tokens 1 and 4 are alike, 3 and 2 nearly.
        let keys: Vec<f32> =
            [0.0f32, 0.1, 1.5, 1.4, 0.1].iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        assert_eq!(nearest_pairs(&keys, 2, 1, 1), [(1, 4)]);
        assert_eq!(nearest_pairs(&keys, 2, 1, 9), [(1, 4), (3, 2)]);
        assert_eq!(nearest_pairs(&keys[..4], 2, 1, 9), [], "one patch has no partner");
        assert_eq!(nearest_pairs(&keys[..2], 2, 1, 9), []);
    }
}
