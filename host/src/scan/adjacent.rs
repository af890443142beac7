//! `channels = "adjacent"`: the slices before and behind each slice, by distance in mm, as its first and third channel.

use crate::memory::{OutOfMemory, zeroed};
use crate::scan::canonical::Volume;
use crate::scan::intensity;
use crate::scan::slice_grid::SliceGrid;

/// `[S, 3, H, W]` in 0..1: what lies `mm` before each slice of `grid`, the slice, and what lies `mm` behind it, in one
/// window. The second channel is the one that a grey image repeats, bit for bit.
///
/// # Errors
/// Where there is no memory for them.
pub(super) fn pixels(
    grid: &SliceGrid,
    volume: &Volume,
    mm: f64,
    windows: &[[f64; 2]],
) -> Result<Vec<f32>, OutOfMemory> {
    let layout = grid.layout();
    let [s, h, w] = layout.shape;
    let mut out = zeroed::<f32>(s.saturating_mul(3).saturating_mul(h * w))?;
    let shifted = [grid.shifted(-mm), grid.clone(), grid.shifted(mm)];
    for (channel, grid) in shifted.iter().enumerate() {
        let image = grid.sample(&volume.voxels, volume.minimum)?;
        let plane = intensity::apply(&image, &layout, windows)?;
        for slice in 0..s {
            let to = (slice * 3 + channel) * h * w;
            out[to..to + h * w].copy_from_slice(&plane[slice * h * w..][..h * w]);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use anymc3d_manifest::{Axis, Channels, Extent, Fit, Region, ThroughPlane, View};

    use crate::memory::MemoryBudget;
    use crate::scan::tests::{orientations, stored_as, view};
    use crate::scan::{Affine, Scan, SliceStack, Target, slices_of_target};

    fn cut(scan: &Scan, view: &View) -> SliceStack {
        let target = Target { mask: None, point_mm: Some([10.0, 9.0, 21.0]) };
        slices_of_target(&scan.canonical(), view, 1, MemoryBudget::of(1 << 28), target).unwrap()
    }

    /// 10 HU per mm from inferior to superior, a little along x and y.
    fn ramp() -> Scan {
        let value = |i: usize| 30.0 * (i / 400) as f32 + (i % 20) as f32 + 2.0 * (i / 20 % 20) as f32;
        let voxels = (0..8000).map(value).collect();
        Scan::from_voxels("x", voxels, [20; 3], Affine::aligned([1.0, 1.0, 3.0], [0.0; 3])).unwrap()
    }

    fn views() -> [View; 4] {
        let adjacent = View {
            channels: Channels::Adjacent,
            adjacent_mm: Some(4.5),
            ..view(Axis::Axial, 6, [20, 20], Fit::Stretch)
        };
        let point = View { region: Region::Point, size_mm: Some(Extent::Cube(12.0)), ..adjacent.clone() };
        let planes = View { through_plane: ThroughPlane::Linear, slices: Some(5), ..adjacent.clone() };
        [adjacent.clone(), point, planes, View { axis: Axis::Coronal, ..adjacent }]
    }

    #[test]
    fn the_neighbours_lie_so_many_mm_away_whatever_the_distance_of_the_slices() {
        for (view, [per_mm, per_voxel]) in
            views().iter().zip([[10.0, 30.0], [10.0, 30.0], [10.0, 30.0], [2.0, 2.0]])
        {
            let stack = cut(&ramp(), view);
            let [s, c, h, w] = stack.shape;
            assert_eq!(c, 3);
            // Nearer to the ends of the scan the neighbours are cut. The centre of a triangle sampled at whole voxels is off by
            // up to 0.043 voxels at these positions, once to each side.
            for slice in 2..s - 2 {
                let at =
                    |channel: usize| stack.pixels[((slice * 3 + channel) * h + h / 2) * w + w / 2] * 1000.0;
                let [before, here, behind] = [at(0), at(1), at(2)];
                let expected = 4.5 * per_mm;
                for found in [here - before, behind - here] {
                    assert!((found - expected).abs() < 0.05 * per_voxel, "{found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn the_second_channel_is_the_grey_image_bit_for_bit_and_edges_repeat() {
        for view in views() {
            let stack = cut(&ramp(), &view);
            let grey = cut(&ramp(), &View { channels: Channels::Windows, adjacent_mm: None, ..view });
            let n = grey.shape[2] * grey.shape[3];
            for (slice, plane) in grey.pixels.chunks_exact(n).enumerate() {
                assert!(stack.pixels[(slice * 3 + 1) * n..][..n] == *plane);
            }
        }
        // Far beyond the edge: the outermost voxel, at x = 9 and y = 9.
        let stack = cut(&ramp(), &View { adjacent_mm: Some(400.0), slices: Some(20), ..views()[0].clone() });
        assert!((stack.pixels[10 * 20 + 10] * 1000.0 - 27.0).abs() < 0.01);
    }

    #[test]
    fn all_48_orientations_give_the_same_neighbours() {
        let scan = ramp();
        let expected = views().map(|v| cut(&scan, &v).pixels);
        for (order, flip) in orientations() {
            let turned = stored_as(&scan, order, flip);
            for (view, expected) in views().iter().zip(&expected) {
                assert!(cut(&turned, view).pixels == *expected, "{order:?} {flip:?} {:?}", view.axis);
            }
        }
    }
}
