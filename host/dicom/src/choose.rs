//! Which series of a study fits what a plugin asks for, and why.

use std::cmp::Reverse;

use crate::error::{DicomError, ErrorKind, Result};
use crate::geometry::Orientation;
use crate::hints::SequenceHint;
use crate::series::{Series, Study};

/// What is asked for. Rules that are `None` or empty fit every series.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Any of these, as `CT`.
    pub modality: Vec<String>,
    /// Any of these, found anywhere in BodyPartExamined, without regard to case.
    pub body_part: Vec<String>,
    pub orientation: Option<Orientation>,
    pub contrast: Option<bool>,
    pub sequence: Option<SequenceHint>,
    /// A pattern in SeriesDescription or ProtocolName without regard to case; `*` stands for any text, and the
    /// pattern may begin and end anywhere.
    pub description: Option<String>,
    /// At least this many slices.
    pub min_slices: usize,
    /// The user's own choice: wins over every rule above.
    pub series: Option<SeriesSelector>,
    /// Which stack of the series, from 0.
    pub stack: Option<usize>,
    /// UIDs of series that are taken already: what another sequence of the study was chosen for.
    pub taken: Vec<String>,
}

/// A series as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeriesSelector {
    Uid(String),
    Number(i64),
}

impl SeriesSelector {
    /// A number, or else a UID.
    pub fn parse(text: &str) -> Self {
        text.trim().parse().map_or_else(|_| Self::Uid(text.trim().to_owned()), Self::Number)
    }

    /// As it was typed.
    fn text(&self) -> String {
        match self {
            Self::Uid(uid) => uid.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The chosen stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Index into [`Study::series`].
    pub series: usize,
    /// Index into [`Series::stacks`].
    pub stack: usize,
    /// One line: what was chosen, by which rules, from how many.
    pub why: String,
    /// Rules that the user's own choice breaks.
    pub warnings: Vec<String>,
}

/// How a series meets a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Rules it meets.
    pub met: Vec<String>,
    /// Rules about which its header says nothing. Such a series fits, after those that meet them.
    pub unknown: Vec<String>,
    /// Rules it breaks; empty: it fits.
    pub broken: Vec<String>,
}

impl Fit {
    /// No rule is broken.
    pub fn fits(&self) -> bool {
        self.broken.is_empty()
    }

    fn rule<T>(
        &mut self,
        name: &str,
        wanted: &str,
        found: Option<T>,
        meets: impl Fn(&T) -> bool,
        shown: &str,
    ) {
        match found {
            None => self.unknown.push(name.to_owned()),
            Some(value) if meets(&value) => self.met.push(format!("{name} {shown}")),
            Some(_) => self.broken.push(format!("{name} is {shown}, asked for is {wanted}")),
        }
    }
}

/// Checks one series against the rules, the user's own choice aside.
pub fn fit(series: &Series, request: &Request) -> Fit {
    let mut fit = Fit { met: Vec::new(), unknown: Vec::new(), broken: Vec::new() };
    if !request.modality.is_empty() {
        let meets = |m: &&String| request.modality.iter().any(|w| w.eq_ignore_ascii_case(m));
        let found = Some(&series.modality).filter(|m| !m.is_empty());
        fit.rule("modality", &request.modality.join(" or "), found, meets, &series.modality);
    }
    if !request.body_part.is_empty() {
        let shown = series.body_part.clone().unwrap_or_default();
        let meets = |b: &&String| request.body_part.iter().any(|w| b.contains(&w.to_uppercase()));
        fit.rule("body part", &request.body_part.join(" or "), series.body_part.as_ref(), meets, &shown);
    }
    if let Some(wanted) = request.orientation {
        let shown = series.orientation.map_or("", Orientation::name);
        fit.rule("orientation", wanted.name(), series.orientation, |o| *o == wanted, shown);
    }
    if let Some(wanted) = request.contrast {
        let word = |c: bool| if c { "given" } else { "not given" };
        let shown = series.contrast.map_or("", word);
        fit.rule("contrast", word(wanted), series.contrast, |c| *c == wanted, shown);
    }
    if let Some(wanted) = request.sequence {
        let shown = series.sequence.map_or("", SequenceHint::name);
        fit.rule("sequence", wanted.name(), series.sequence, |s| *s == wanted, shown);
    }
    if let Some(pattern) = &request.description {
        let texts = [series.description.as_deref(), series.protocol.as_deref()];
        let matches = texts.iter().flatten().any(|t| matches_pattern(t, pattern));
        // The description itself is free text of a hospital, which may hold a name.
        match matches {
            true => fit.met.push(format!("description matches '{pattern}'")),
            false => fit.broken.push(format!("description does not match '{pattern}'")),
        }
    }
    if request.taken.contains(&series.uid) {
        fit.broken.push("is another view's".into());
    }
    let slices = series.stacks[series.largest_stack()].slices();
    if slices < request.min_slices {
        fit.broken.push(format!("has {slices} slices, asked for are {}", request.min_slices));
    }
    if !series.stacks.iter().any(|s| s.geometry.is_ok()) {
        let why = series.stacks.iter().find_map(|s| s.geometry.as_ref().err());
        fit.broken.push(why.map_or("no volume".into(), |e| e.without_file().to_owned()));
    }
    fit
}

/// Chooses the stack of a study that fits best.
///
/// Of several that fit: the one that meets most rules for certain, then original before derived, then most slices,
/// then the smallest gap, then the lowest series number and UID. The order of files never matters.
///
/// # Errors
/// [`ErrorKind::NothingFits`] with the reason for each series; [`ErrorKind::ChoiceNeeded`] where the series has
/// several stacks of the same size (time points, echoes) and the request names none.
pub fn choose(study: &Study, request: &Request) -> Result<Choice> {
    let fits: Vec<Fit> = study.series.iter().map(|s| fit(s, request)).collect();
    if let Some(selector) = &request.series {
        return choose_named(study, request, selector, &fits);
    }
    let mut fitting: Vec<usize> = (0..fits.len()).filter(|i| fits[*i].fits()).collect();
    fitting.sort_by_cached_key(|i| {
        let s = &study.series[*i];
        let largest = &s.stacks[s.largest_stack()];
        let gap = largest.geometry.as_ref().map_or(f64::INFINITY, |g| g.spacing_mm[2]);
        let number = s.number.unwrap_or(i64::MAX);
        let gap_um = (gap * 1000.0).min(1e9) as i64;
        (Reverse(fits[*i].met.len()), s.derived, Reverse(largest.slices()), gap_um, number, s.uid.clone())
    });
    let Some(&best) = fitting.first() else { return Err(nothing_fits(study, &fits)) };
    let series = &study.series[best];
    let stack = stack_of(series, request.stack)?;
    let mut why = format!("{}: {}", shown(series, stack), reasons(&fits[best]));
    if fitting.len() > 1 {
        let others: Vec<String> = fitting[1..].iter().take(4).map(|i| name(&study.series[*i])).collect();
        why += &format!("; {} more fit ({})", fitting.len() - 1, others.join(", "));
    }
    Ok(Choice { series: best, stack, why, warnings: Vec::new() })
}

fn choose_named(study: &Study, request: &Request, selector: &SeriesSelector, fits: &[Fit]) -> Result<Choice> {
    let named = |s: &Series| match selector {
        SeriesSelector::Uid(uid) => s.uid == *uid,
        SeriesSelector::Number(number) => s.number == Some(*number),
    };
    let found: Vec<usize> = (0..study.series.len()).filter(|i| named(&study.series[*i])).collect();
    let all = || study.series.iter().map(name).collect::<Vec<_>>().join(", ");
    match found.as_slice() {
        &[one] => {
            let series = &study.series[one];
            let stack = stack_of(series, request.stack)?;
            let warnings = fits[one].broken.clone();
            Ok(Choice {
                series: one,
                stack,
                why: format!("{}: named by the user", shown(series, stack)),
                warnings,
            })
        }
        [] => Err(DicomError::new(
            ErrorKind::NothingFits,
            format!("no such series as {}; there are {}", selector.text(), all()),
        )),
        _ => Err(DicomError::new(
            ErrorKind::ChoiceNeeded,
            format!("{} series have that number; name one by its UID: {}", found.len(), all()),
        )),
    }
}

/// A stack of a study in one line, with the rules of a request that it meets, leaves open or breaks; no text of its header.
pub fn describe(study: &Study, series: usize, stack: usize, request: &Request) -> String {
    let (chosen, all) = (&study.series[series], study.series.len());
    let fit = fit(chosen, request);
    let broken = if fit.fits() { String::new() } else { format!("; but {}", fit.broken.join(", ")) };
    let among = if all > 1 { format!(", one of {all} series") } else { String::new() };
    format!("{}{among}: {}{broken}", shown(chosen, stack), reasons(&fit))
}

/// The stack asked for, else the only one that is largest.
fn stack_of(series: &Series, asked: Option<usize>) -> Result<usize> {
    let list = || {
        let label = |(i, s): (usize, &crate::Stack)| format!("{i}: {} ({} slices)", s.label, s.slices());
        series.stacks.iter().enumerate().take(20).map(label).collect::<Vec<_>>().join("; ")
    };
    if let Some(stack) = asked {
        return match series.stacks.get(stack) {
            Some(_) => Ok(stack),
            None => Err(DicomError::new(
                ErrorKind::NothingFits,
                format!("no stack {stack}; there are {}", list()),
            )),
        };
    }
    let usable = |s: &crate::Stack| if s.geometry.is_ok() { s.slices() } else { 0 };
    let most = series.stacks.iter().map(usable).max().unwrap_or(0);
    let largest: Vec<usize> =
        (0..series.stacks.len()).filter(|i| usable(&series.stacks[*i]) == most).collect();
    match largest.as_slice() {
        _ if most == 0 => Ok(series.largest_stack()),
        &[one] => Ok(one),
        _ => {
            let message =
                format!("{} has {} stacks: name one of {}", name(series), series.stacks.len(), list());
            Err(DicomError::new(ErrorKind::ChoiceNeeded, message))
        }
    }
}

fn name(series: &Series) -> String {
    match series.number {
        Some(number) => format!("series {number}"),
        // A UID leads back to the patient.
        None => format!("the series without a number ({} instances)", series.instances()),
    }
}

fn shown(series: &Series, stack: usize) -> String {
    let s = &series.stacks[stack];
    let mut text = format!("{} ({} slices", name(series), s.slices());
    if let Ok(g) = &s.geometry {
        text += &format!(" every {:.2} mm, {}", g.volume_gap_mm(), g.orientation.name());
    }
    if !s.label.is_empty() {
        text += &format!(", {}", s.label);
    }
    text + ")"
}

fn reasons(fit: &Fit) -> String {
    let mut parts = fit.met.clone();
    if !fit.unknown.is_empty() {
        parts.push(format!("{} not stated", fit.unknown.join(", ")));
    }
    if parts.is_empty() { "the largest".into() } else { parts.join(", ") }
}

fn nothing_fits(study: &Study, fits: &[Fit]) -> DicomError {
    let mut reasons: Vec<String> =
        study.series.iter().zip(fits).map(|(s, f)| format!("{}: {}", name(s), f.broken.join(", "))).collect();
    reasons.extend(study.left_out.iter().map(|l| {
        let number = l.series_number.map_or_else(|| "without a number".to_owned(), |n| n.to_string());
        format!("series {number}: {}, {}", l.kind.name(), l.kind.reason())
    }));
    let all = if reasons.is_empty() { "it has no series".into() } else { reasons.join("; ") };
    DicomError::new(ErrorKind::NothingFits, format!("no series of the study fits: {all}"))
}

/// `*` stands for any text; both ends are open.
fn matches_pattern(text: &str, pattern: &str) -> bool {
    let text = text.to_lowercase();
    let mut rest = text.as_str();
    pattern.to_lowercase().split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_may_begin_anywhere_and_stars_skip_text() {
        assert!(matches_pattern("AX T2 FSE Brain", "t2*brain"));
        assert!(matches_pattern("AX T2 FSE", "fse"));
        assert!(!matches_pattern("AX T2 FSE", "fse*t2"));
    }
}
