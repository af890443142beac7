//! From the frames of a series to stacks: parallel slices of one size, each position once.

use std::collections::BTreeMap;

use crate::error::{DicomError, ErrorKind, Result};
use crate::frames::{Distinctions, Plane};
use crate::geometry::{SAME_POSITION_MM, StackGeometry, cross, dot, measure};
use crate::headers::InstanceHeader;
use crate::limits::Limits;

/// One frame of one instance of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameRef {
    /// Index into the series' instances.
    pub instance: usize,
    /// From 0.
    pub frame: usize,
}

/// Slices that make one volume, or why they do not.
#[derive(Debug, Clone)]
pub struct Stack {
    /// What tells it from the other stacks of the series, such as `echo time 30`; empty for the only one.
    pub label: String,
    /// In ascending order along the normal.
    pub(crate) frames: Vec<FrameRef>,
    /// The geometry, or why these frames are no volume.
    pub geometry: Result<StackGeometry>,
}

impl Stack {
    /// Number of slices.
    pub fn slices(&self) -> usize {
        self.frames.len()
    }
}

struct Candidate<'a> {
    at: FrameRef,
    plane: Plane,
    tell_apart: &'a Distinctions,
    instance_number: i64,
    /// Coordinate along the normal of the group's first frame, mm.
    along: f64,
}

/// Splits a series. The order of the result and of its frames depends on positions and attributes only.
pub(crate) fn stacks_of(instances: &[InstanceHeader], limits: &Limits) -> Vec<Stack> {
    let mut without_plane: BTreeMap<&'static str, (Vec<FrameRef>, DicomError)> = BTreeMap::new();
    let mut groups: Vec<(Group, Vec<Candidate>)> = Vec::new();
    for (instance, header) in instances.iter().enumerate() {
        let Some(format) = &header.pixels else { continue };
        for (frame, found) in header.frames.iter().enumerate() {
            let at = FrameRef { instance, frame };
            let plane = match &found.plane {
                Ok(plane) => *plane,
                Err(e) => {
                    let kind = e.kind.name();
                    without_plane.entry(kind).or_insert_with(|| (Vec::new(), e.clone())).0.push(at);
                    continue;
                }
            };
            let group =
                Group::of(&plane, [format.columns, format.rows], header.frame_of_reference.as_deref());
            let place = groups.iter().position(|(g, _)| g.is_near(&group)).unwrap_or_else(|| {
                groups.push((group, Vec::new()));
                groups.len() - 1
            });
            let normal = groups[place].0.normal;
            groups[place].1.push(Candidate {
                at,
                along: dot(plane.position, normal),
                plane,
                tell_apart: &found.tell_apart,
                instance_number: header.instance_number.unwrap_or(0),
            });
        }
    }
    let several = groups.len() > 1;
    let mut stacks = Vec::new();
    for (group, candidates) in groups {
        let orientation = crate::geometry::Orientation::of_normal(group.normal).name();
        let label = if several {
            format!("{orientation} {} × {}", group.size[0], group.size[1])
        } else {
            String::new()
        };
        let mut parts = Vec::new();
        split(candidates, 0, label, &mut parts);
        for (label, part) in parts {
            for (label, part) in split_uneven(label, part, group.size, limits) {
                stacks.push(stack(label, part, instances, group.size, limits));
            }
        }
    }
    for (_, (frames, error)) in without_plane {
        stacks.push(Stack { label: "without position".into(), frames, geometry: Err(error) });
    }
    stacks
}

fn stack(
    label: String,
    part: Vec<Candidate>,
    instances: &[InstanceHeader],
    size: [usize; 2],
    limits: &Limits,
) -> Stack {
    let planes: Vec<Plane> = part.iter().map(|c| c.plane).collect();
    let thickness = part.first().and_then(|c| instances[c.at.instance].slice_thickness_mm);
    let geometry = measure(&planes, size, thickness, limits);
    Stack { label, frames: part.iter().map(|c| c.at).collect(), geometry }
}

/// What all slices of a stack share.
struct Group {
    size: [usize; 2],
    spacing: [f64; 2],
    directions: [f64; 6],
    normal: [f64; 3],
    frame_of_reference: Option<String>,
}

impl Group {
    fn of(plane: &Plane, size: [usize; 2], frame_of_reference: Option<&str>) -> Self {
        let [r, c] = plane.orientation;
        Self {
            size,
            spacing: plane.spacing,
            directions: [r[0], r[1], r[2], c[0], c[1], c[2]],
            normal: cross(r, c),
            frame_of_reference: frame_of_reference.map(str::to_owned),
        }
    }

    /// A tenth of a degree, and a thousandth of the spacing, are rounding.
    fn is_near(&self, other: &Self) -> bool {
        self.size == other.size
            && self.frame_of_reference == other.frame_of_reference
            && self.directions.iter().zip(&other.directions).all(|(a, b)| (a - b).abs() < 2e-3)
            && self.spacing.iter().zip(&other.spacing).all(|(a, b)| (a - b).abs() < 1e-3 * a)
    }
}

/// Sorts along the normal and returns how often each position occurs.
fn sort_and_count(part: &mut [Candidate]) -> Vec<usize> {
    part.sort_by(|a, b| {
        a.along.total_cmp(&b.along).then((a.instance_number, a.at.instance, a.at.frame).cmp(&(
            b.instance_number,
            b.at.instance,
            b.at.frame,
        )))
    });
    let mut counts = Vec::new();
    for (i, c) in part.iter().enumerate() {
        match counts.last_mut() {
            Some(n) if c.along - part[i - 1].along < SAME_POSITION_MM => *n += 1,
            _ => counts.push(1),
        }
    }
    counts
}

/// Splits repeated positions by the first attribute that makes them fewer, until each occurs once.
fn split<'a>(
    mut part: Vec<Candidate<'a>>,
    from: usize,
    label: String,
    out: &mut Vec<(String, Vec<Candidate<'a>>)>,
) {
    let counts = sort_and_count(&mut part);
    let most = counts.iter().copied().max().unwrap_or(0);
    if most <= 1 {
        out.push((label, part));
        return;
    }
    let repeats = part.len() - counts.len();
    for key in from..Distinctions::NAMES.len() {
        let values = distinct(&part, key);
        // More values than repeats is an attribute that differs from slice to slice, such as a time.
        if values.len() < 2 || values.len() > most {
            continue;
        }
        let left: usize = values
            .iter()
            .map(|v| {
                let mut along: Vec<f64> =
                    part.iter().filter(|c| &c.tell_apart.values[key] == v).map(|c| c.along).collect();
                along.sort_by(f64::total_cmp);
                along.windows(2).filter(|w| w[1] - w[0] < SAME_POSITION_MM).count()
            })
            .sum();
        if left >= repeats {
            continue;
        }
        for value in values {
            let (chosen, rest) = part.into_iter().partition(|c| c.tell_apart.values[key] == value);
            part = rest;
            split(chosen, key + 1, joined(&label, key, value.as_deref()), out);
        }
        return;
    }
    by_repeat(part, &counts, most, label, out);
}

/// The values of an attribute, numbers in their order.
fn distinct(part: &[Candidate], key: usize) -> Vec<Option<String>> {
    let mut values: Vec<Option<String>> = part.iter().map(|c| c.tell_apart.values[key].clone()).collect();
    let number =
        |v: &Option<String>| v.as_ref().and_then(|t| t.parse::<f64>().ok()).unwrap_or(f64::NEG_INFINITY);
    values.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
    values.dedup();
    values
}

fn joined(label: &str, key: usize, value: Option<&str>) -> String {
    let own = format!("{} {}", Distinctions::NAMES[key], value.unwrap_or("absent"));
    if label.is_empty() { own } else { format!("{label}, {own}") }
}

/// Every position equally often: time points in the order of their instance numbers. Else the stack is refused,
/// because any order would be a guess.
fn by_repeat<'a>(
    part: Vec<Candidate<'a>>,
    counts: &[usize],
    most: usize,
    label: String,
    out: &mut Vec<(String, Vec<Candidate<'a>>)>,
) {
    if counts.iter().any(|n| *n != most) {
        out.push((label, part));
        return;
    }
    let mut repeats: Vec<Vec<Candidate>> = (0..most).map(|_| Vec::new()).collect();
    for (i, c) in part.into_iter().enumerate() {
        repeats[i % most].push(c);
    }
    for (n, repeat) in repeats.into_iter().enumerate() {
        let own = format!("time point {} of {most}", n + 1);
        out.push((if label.is_empty() { own } else { format!("{label}, {own}") }, repeat));
    }
}

/// Two acquisitions interleaved at different positions look like one uneven stack: split where each is even.
fn split_uneven<'a>(
    label: String,
    part: Vec<Candidate<'a>>,
    size: [usize; 2],
    limits: &Limits,
) -> Vec<(String, Vec<Candidate<'a>>)> {
    const ACQUISITION: usize = 6;
    let is_even = |part: &[&Candidate]| {
        let planes: Vec<Plane> = part.iter().map(|c| c.plane).collect();
        part.len() > 2 && measure(&planes, size, None, limits).is_ok_and(|g| g.straight)
    };
    if part.len() < 6 || is_even(&part.iter().collect::<Vec<_>>()) {
        return vec![(label, part)];
    }
    for key in [0, 1, 2, ACQUISITION] {
        let values = distinct(&part, key);
        if values.len() != 2 {
            continue;
        }
        let parts =
            values.iter().map(|v| part.iter().filter(|c| &c.tell_apart.values[key] == v).collect::<Vec<_>>());
        let parts: Vec<Vec<&Candidate>> = parts.collect();
        let overlap = parts[0][0].along.max(parts[1][0].along)
            < parts[0][parts[0].len() - 1].along.min(parts[1][parts[1].len() - 1].along);
        if overlap && parts.iter().all(|p| is_even(p)) {
            let (first, second) = part.into_iter().partition(|c| c.tell_apart.values[key] == values[0]);
            let name = |v: &Option<String>| joined(&label, key, v.as_deref());
            return vec![(name(&values[0]), first), (name(&values[1]), second)];
        }
    }
    vec![(label, part)]
}

/// Refuses a stack that the caller asked for and that is no volume.
pub(crate) fn geometry_of(stack: &Stack) -> Result<&StackGeometry> {
    match &stack.geometry {
        Ok(geometry) => Ok(geometry),
        Err(e) if e.kind == ErrorKind::RepeatedPositions && !stack.label.is_empty() => {
            Err(DicomError::new(e.kind, format!("{} ({})", e.without_file(), stack.label)))
        }
        Err(e) => Err(e.clone()),
    }
}
