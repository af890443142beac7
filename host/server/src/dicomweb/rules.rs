//! Which series are answered by which plugins: the `[[rule]]`s of rules.toml.

use serde::Deserialize;

use super::series::SeriesFacts;

/// One rule. What is left out fits every series; a list fits where one of its entries does.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For logs and the ledger.
    pub name: String,
    /// `CT`, `MR`, `PT`.
    #[serde(default)]
    pub modality: Vec<String>,
    /// Found anywhere in BodyPartExamined, in any case.
    #[serde(default)]
    pub body_part: Vec<String>,
    /// Patterns in SeriesDescription or ProtocolName, in any case; `*` stands for any text, `?` for one character, both
    /// ends are open.
    #[serde(default)]
    pub description: Vec<String>,
    /// Patterns that the SeriesDescription must not have.
    #[serde(default)]
    pub not_description: Vec<String>,
    /// SliceThickness in mm. A series that does not state it breaks the rule.
    #[serde(default)]
    pub slice_thickness_mm: Option<Range>,
    /// At least this many instances, where the number is known.
    #[serde(default)]
    pub min_instances: Option<u64>,
    /// Plugins of this server, by name.
    pub plugins: Vec<String>,
}

/// An interval that contains its ends.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Range {
    #[serde(default)]
    pub min: Option<f64>,
    #[serde(default)]
    pub max: Option<f64>,
}

impl Range {
    fn contains(self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// What a rule needs to know and the archive's list of series did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Yes,
    No,
    /// One instance's header decides.
    Unknown,
}

impl Rule {
    /// Refuses what can never fit or is surely a mistake.
    ///
    /// # Errors
    /// One line without the file.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let refuse = |what: String| Err(format!("rule \"{name}\": {what}"));
        if name.trim().is_empty() {
            return Err("a rule's name is empty; it is what logs and ledger call it".into());
        }
        if self.plugins.is_empty() {
            return refuse("plugins is empty; name at least one plugin".into());
        }
        let patterns = self.modality.iter().chain(&self.body_part).chain(&self.description);
        if patterns.chain(&self.not_description).any(|p| p.trim().is_empty()) {
            return refuse("an empty text fits everything; leave the key out".into());
        }
        if let Some(Range { min, max }) = self.slice_thickness_mm {
            let bad = [min, max].iter().flatten().any(|v| !v.is_finite() || *v < 0.0);
            if bad || min.zip(max).is_some_and(|(min, max)| min > max) {
                return refuse(format!("slice_thickness_mm from {min:?} to {max:?} holds no thickness"));
            }
        }
        Ok(())
    }

    /// Whether a series fits. `complete`: the facts come from a header, so that what is absent there is nowhere.
    pub fn fits(&self, series: &SeriesFacts, complete: bool) -> Fit {
        let mut unknown = false;
        let mut fits = |wanted: bool, found: Option<bool>| match (wanted, found) {
            (false, _) | (_, Some(true)) => true,
            (true, None) if !complete => {
                unknown = true;
                true
            }
            _ => false,
        };
        let modality = series.modality.as_deref();
        let all = fits(
            !self.modality.is_empty(),
            modality.map(|m| self.modality.iter().any(|w| w.eq_ignore_ascii_case(m))),
        ) && fits(
            !self.body_part.is_empty(),
            series.body_part.as_ref().map(|part| {
                let part = part.to_uppercase();
                self.body_part.iter().any(|w| part.contains(&w.to_uppercase()))
            }),
        ) && fits(!self.description.is_empty(), self.described(series))
            && fits(
                self.slice_thickness_mm.is_some(),
                series.slice_thickness_mm.zip(self.slice_thickness_mm).map(|(t, range)| range.contains(t)),
            );
        let unwanted = series.description.as_deref().unwrap_or_default();
        let refused = self.not_description.iter().any(|pattern| matches(unwanted, pattern))
            || self.min_instances.zip(series.instances).is_some_and(|(min, found)| found < min);
        match (all && !refused, unknown) {
            (false, _) => Fit::No,
            (true, true) => Fit::Unknown,
            (true, false) => Fit::Yes,
        }
    }

    /// Whether description or protocol match; `None` where one that was not stated might.
    fn described(&self, series: &SeriesFacts) -> Option<bool> {
        let texts = [series.description.as_deref(), series.protocol.as_deref()];
        let any = |text: &str| self.description.iter().any(|pattern| matches(text, pattern));
        match texts.iter().flatten().any(|t| any(t)) {
            true => Some(true),
            false if texts.contains(&None) => None,
            false => Some(false),
        }
    }
}

/// Both ends are open, case does not count.
fn matches(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let pattern: Vec<char> = format!("*{}*", pattern.to_lowercase()).chars().collect();
    // Where the last star stands, and from where the text is tried again: linear memory, no recursion.
    let (mut t, mut p, mut star, mut again) = (0, 0, None, 0);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some(p);
                again = t;
                p += 1;
            }
            Some('?') => (t, p) = (t + 1, p + 1),
            Some(c) if *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match star {
                Some(at) => {
                    again += 1;
                    (t, p) = (again, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        toml::from_str(text).unwrap()
    }

    fn chest() -> SeriesFacts {
        SeriesFacts {
            uid: "1.2".into(),
            modality: Some("CT".into()),
            body_part: Some("CHEST".into()),
            description: Some("Thorax 1.0 B60f".into()),
            protocol: Some("Routine".into()),
            slice_thickness_mm: Some(1.0),
            instances: Some(300),
            ..SeriesFacts::default()
        }
    }

    #[test]
    fn every_key_decides() {
        let all = "name = 'a'\nplugins = ['p']\nmodality = ['ct']\nbody_part = ['chest']\ndescription = ['thorax*b?0']\n\
                   not_description = ['mip']\nslice_thickness_mm = { min = 0.5, max = 1.0 }\nmin_instances = 20";
        assert_eq!(rule(all).fits(&chest(), true), Fit::Yes);
        for (from, to) in [
            ("['ct']", "['MR']"),
            ("['chest']", "['HEAD']"),
            ("['thorax*b?0']", "['thorax*b??0']"),
            ("['mip']", "['b60']"),
            ("max = 1.0", "max = 0.9"),
            ("min = 0.5", "min = 1.1, max = 2.0, #"),
            ("min_instances = 20", "min_instances = 301"),
        ] {
            let text = all.replace(from, to).replace(", # , max = 1.0", "");
            let text = text.replace("max = 2.0, #, max = 1.0", "max = 2.0");
            assert_eq!(rule(&text).fits(&chest(), true), Fit::No, "{text}");
        }
        assert_eq!(rule("name = 'a'\nplugins = ['p']").fits(&SeriesFacts::default(), true), Fit::Yes);
    }

    #[test]
    fn what_a_list_of_series_leaves_out_is_unknown_until_a_header_says_it() {
        let thin = rule("name = 'a'\nplugins = ['p']\nmodality = ['CT']\nslice_thickness_mm = { max = 3 }");
        let unsaid = SeriesFacts { slice_thickness_mm: None, ..chest() };
        assert_eq!(thin.fits(&unsaid, false), Fit::Unknown);
        assert_eq!(thin.fits(&unsaid, true), Fit::No);
        // A rule that is broken anyway asks for no header.
        let mr = SeriesFacts { modality: Some("MR".into()), ..unsaid };
        assert_eq!(thin.fits(&mr, false), Fit::No);
        let named = rule("name = 'a'\nplugins = ['p']\ndescription = ['abdomen']");
        let unsaid = SeriesFacts { protocol: None, ..chest() };
        assert_eq!(named.fits(&unsaid, false), Fit::Unknown, "the protocol may match");
        assert_eq!(named.fits(&chest(), false), Fit::No);
    }

    #[test]
    fn patterns_are_open_at_both_ends() {
        for (text, pattern) in
            [("AX T2 FSE Brain", "t2*brain"), ("abc", "?"), ("", "*"), ("aXbXc", "x*x"), ("a*b", "a*b")]
        {
            assert!(matches(text, pattern), "{text} {pattern}");
        }
        for (text, pattern) in [("AX T2 FSE", "fse*t2"), ("", "?"), ("ab", "a?b"), ("aaa", "b")] {
            assert!(!matches(text, pattern), "{text} {pattern}");
        }
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for (text, says) in [
            ("name = ' '\nplugins = ['p']", "name is empty"),
            ("name = 'a'\nplugins = []", "plugins is empty"),
            ("name = 'a'\nplugins = ['p']\ndescription = ['']", "fits everything"),
            ("name = 'a'\nplugins = ['p']\nslice_thickness_mm = { min = 3, max = 1 }", "holds no thickness"),
        ] {
            assert!(rule(text).check().unwrap_err().contains(says), "{text}");
        }
        assert!(toml::from_str::<Rule>("name = 'a'\nplugins = ['p']\nmodalty = ['CT']").is_err());
    }
}
