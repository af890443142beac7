//! A moment as DICOM writes it: date, time and the offset from UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 in UTC, and the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub unix_seconds: i64,
    /// Minutes east of UTC. Where the source states an offset of its own that one is used.
    pub utc_offset_minutes: i32,
}

impl Moment {
    /// Now, at this offset.
    pub fn now(utc_offset_minutes: i32) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_seconds: now.as_secs() as i64, utc_offset_minutes }
    }

    fn local(self) -> i64 {
        self.unix_seconds + i64::from(self.utc_offset_minutes) * 60
    }

    /// DA.
    pub(crate) fn date(self) -> String {
        let (year, month, day) = civil(self.local().div_euclid(86400));
        format!("{year:04}{month:02}{day:02}")
    }

    /// TM.
    pub(crate) fn time(self) -> String {
        let seconds = self.local().rem_euclid(86400);
        format!("{:02}{:02}{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    /// TimezoneOffsetFromUTC.
    pub(crate) fn offset(self) -> String {
        let minutes = self.utc_offset_minutes.abs();
        let sign = if self.utc_offset_minutes < 0 { '-' } else { '+' };
        format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }
}

/// Minutes of `+0130` or `-0800`.
pub(crate) fn offset_minutes(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text.get(1..5).filter(|d| text.len() == 5 && d.bytes().all(|b| b.is_ascii_digit()))?;
    Some(sign * (digits[..2].parse::<i32>().ok()? * 60 + digits[2..].parse::<i32>().ok()?))
}

/// Year, month and day of a day since 1970: H. Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_seconds, utc_offset_minutes, date, time, offset) in [
            (0, 0, "19700101", "000000", "+0000"),
            (951_782_399, 1, "20000229", "000059", "+0001"),
            (1_709_164_800, -90, "20240228", "223000", "-0130"),
            (1_796_000_000, 345, "20261130", "063820", "+0545"),
        ] {
            let moment = Moment { unix_seconds, utc_offset_minutes };
            assert_eq!((moment.date().as_str(), moment.time().as_str()), (date, time));
            assert_eq!(moment.offset(), offset);
            assert_eq!(offset_minutes(offset), Some(utc_offset_minutes));
        }
        assert_eq!(offset_minutes("0100"), None);
    }
}
