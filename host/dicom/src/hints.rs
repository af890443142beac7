//! What kind of image a series is, from numbers in its header where they decide, else from words people write.

use crate::headers::InstanceHeader;

/// The weighting or technique of an MR series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SequenceHint {
    T1,
    T2,
    T2Star,
    Flair,
    Stir,
    ProtonDensity,
    Diffusion,
    Adc,
    Susceptibility,
    Angiography,
    Perfusion,
    Functional,
    Dixon,
}

impl SequenceHint {
    const NAMES: [(Self, &'static str); 13] = [
        (Self::T1, "T1"),
        (Self::T2, "T2"),
        (Self::T2Star, "T2*"),
        (Self::Flair, "FLAIR"),
        (Self::Stir, "STIR"),
        (Self::ProtonDensity, "PD"),
        (Self::Diffusion, "DWI"),
        (Self::Adc, "ADC"),
        (Self::Susceptibility, "SWI"),
        (Self::Angiography, "MRA"),
        (Self::Perfusion, "PERFUSION"),
        (Self::Functional, "BOLD"),
        (Self::Dixon, "DIXON"),
    ];

    /// As in manifests: `T1`, `T2`, `T2*`, `FLAIR`, `STIR`, `PD`, `DWI`, `ADC`, `SWI`, `MRA`, `PERFUSION`, `BOLD`,
    /// `DIXON`.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// The hint of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(hint, _)| *hint)
    }
}

/// Words of descriptions, the more special ones first: "T2 FLAIR" is FLAIR, "ep2d_diff_ADC" is ADC.
const WORDS: [(&[&str], SequenceHint); 13] = [
    (&["flair", "dark fluid", "darkfluid", "dark-fluid"], SequenceHint::Flair),
    (&["stir", "tirm"], SequenceHint::Stir),
    (&["adc", "apparent diffusion"], SequenceHint::Adc),
    (&["dwi", "diff", "dti", "trace", "resolve"], SequenceHint::Diffusion),
    (&["swi", "swan", "suscept", "venobold"], SequenceHint::Susceptibility),
    (&["tof", "angio", "mra"], SequenceHint::Angiography),
    (&["perf", "pwi", "dsc", "asl"], SequenceHint::Perfusion),
    (&["bold", "fmri", "rest"], SequenceHint::Functional),
    (&["dixon", "lava", "ideal"], SequenceHint::Dixon),
    (&["t2*", "t2star", "t2_star", "hemo", "gre_t2", "t2 gre", "t2gre"], SequenceHint::T2Star),
    (&["t1", "mprage", "mp2rage", "spgr", "bravo", "vibe", "flash", "tfe"], SequenceHint::T1),
    (&["t2", "haste", "ssfse", "space", "cube"], SequenceHint::T2),
    (&["pd", "proton"], SequenceHint::ProtonDensity),
];

pub(crate) fn sequence_hint(header: &InstanceHeader) -> Option<SequenceHint> {
    if header.modality != "MR" {
        return None;
    }
    let type_says_adc = header.image_type.iter().any(|t| t.eq_ignore_ascii_case("ADC"));
    if type_says_adc {
        return Some(SequenceHint::Adc);
    }
    for text in [&header.series_description, &header.protocol].into_iter().flatten() {
        let text = text.to_lowercase();
        if let Some((_, hint)) = WORDS.iter().find(|(words, _)| words.iter().any(|w| has_word(&text, w))) {
            return Some(*hint);
        }
    }
    by_contrast(header).or_else(|| by_times(header))
}

/// The word where no letter stands right before it: `diff` is in `ep2d_diff`, `pd` is not in `updated`.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        // Words of two letters also end there.
        let ends =
            word.len() > 2 || !after.is_some_and(|c| c.is_ascii_digit() || (c.is_alphabetic() && c != 'w'));
        !before.is_some_and(char::is_alphanumeric) && ends
    })
}

fn by_contrast(header: &InstanceHeader) -> Option<SequenceHint> {
    Some(match header.acquisition.contrast.as_deref()? {
        "T1" => SequenceHint::T1,
        "T2" => SequenceHint::T2,
        "T2_STAR" => SequenceHint::T2Star,
        "DIFFUSION" => SequenceHint::Diffusion,
        "FLUID_ATTENUATED" => SequenceHint::Flair,
        "STIR" => SequenceHint::Stir,
        "PROTON_DENSITY" => SequenceHint::ProtonDensity,
        "SUSCEPTIBILITY" => SequenceHint::Susceptibility,
        "PERFUSION" => SequenceHint::Perfusion,
        _ => return None,
    })
}

/// Times in ms at 1.5 and 3 T, for spin echo; inversion recovery by its inversion time.
fn by_times(header: &InstanceHeader) -> Option<SequenceHint> {
    let a = &header.acquisition;
    let is = |code: &str| a.scanning_sequence.iter().any(|s| s.eq_ignore_ascii_case(code));
    let (te, tr) = (a.echo_time?, a.repetition_time?);
    if is("IR") {
        return match a.inversion_time {
            Some(ti) if ti > 1500.0 && te > 60.0 => Some(SequenceHint::Flair),
            Some(ti) if (80.0..300.0).contains(&ti) => Some(SequenceHint::Stir),
            _ => Some(SequenceHint::T1),
        };
    }
    if !is("SE") || is("EP") {
        return None;
    }
    match (te, tr) {
        _ if te < 30.0 && tr < 1000.0 => Some(SequenceHint::T1),
        _ if te > 60.0 && tr > 1800.0 => Some(SequenceHint::T2),
        _ if te < 40.0 && tr > 1800.0 => Some(SequenceHint::ProtonDensity),
        _ => None,
    }
}

/// Whether contrast agent was given: the header's attribute decides, words come second.
pub(crate) fn contrast_hint(header: &InstanceHeader) -> Option<bool> {
    if header.contrast_agent {
        return Some(true);
    }
    let text = header.series_description.as_deref().unwrap_or_default().to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| has_word(&text, w) || (w.len() > 5 && text.contains(w)));
    let without = [
        "without",
        "w/o",
        "wo",
        "native",
        "nativ",
        "plain",
        "non-contrast",
        "noncontrast",
        "unenhanced",
        "pre",
        "c-",
    ];
    let with =
        ["post", "contrast", "enhanced", "gd", "gad", "ce", "c+", "+c", "venous", "arterial", "portal"];
    if any(&without) {
        Some(false)
    } else if any(&with) {
        Some(true)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hint_has_its_own_name() {
        for (i, (hint, name)) in SequenceHint::NAMES.iter().enumerate() {
            assert_eq!(*hint as usize, i);
            assert_eq!(SequenceHint::from_name(&name.to_lowercase()), Some(*hint));
        }
    }

    #[test]
    fn words_count_only_where_they_begin() {
        assert!(has_word("ep2d_diff_3scan", "diff"));
        assert!(has_word("t2w tse", "t2"));
        assert!(!has_word("at2", "t2"));
        assert!(!has_word("updated", "pd"));
        assert!(!has_word("t25", "t2"));
    }
}
