//! Times and durations as people type them, by ISO 8601.

use std::time::Duration;

const MS_PER_DAY: i64 = 86_400_000;

/// `2026-03-01T12:30:00.250+02:00` as milliseconds since 1970. Seconds, their fraction and the
/// zone may be left out, and so may the time; without a zone it is UTC.
pub(crate) fn parse_datetime(text: &str) -> Result<i64, String> {
    datetime(text).ok_or_else(|| {
        format!("{text:?} is not a time such as 2026-03-01T12:30:00Z or 2026-03-01T12:30:00+02:00")
    })
}

fn datetime(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).map_or((text, None), |(d, t)| (d, Some(t)));
    let day_ms = date_days(date)? * MS_PER_DAY;
    let Some(time) = time else { return Some(day_ms) };
    let (time, zone_ms) = split_zone(time)?;
    Some(day_ms + time_ms(time)? - zone_ms)
}

fn number(text: &str, digits: usize, max: i64) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number <= max);
    number.filter(|_| is_number)
}

fn date_days(date: &str) -> Option<i64> {
    let mut fields = date.split('-');
    let year = number(fields.next()?, 4, 9999)?;
    let month = number(fields.next()?, 2, 12).filter(|month| *month > 0)?;
    let day = number(fields.next()?, 2, days_in_month(year, month)).filter(|day| *day > 0)?;
    if fields.next().is_some() {
        return None;
    }
    let earlier_months = (1..month).map(|month| days_in_month(year, month)).sum::<i64>();
    Some(days_before_year(year) - days_before_year(1970) + earlier_months + day - 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the first of January of the year 1.
fn days_before_year(year: i64) -> i64 {
    let past = year - 1;
    past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
}

fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let (time, zone) = time.split_at(at);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone[1..].replace(':', "");
    if !digits.is_ascii() || digits.len() > 4 {
        return None;
    }
    let (hours, minutes) = digits.split_at(digits.len().min(2));
    let hours = number(hours, 2, 18)?;
    let minutes = if minutes.is_empty() { 0 } else { number(minutes, 2, 59)? };
    Some((time, sign * (hours * 60 + minutes) * 60_000))
}

fn time_ms(time: &str) -> Option<i64> {
    let (time, fraction) = time.split_once('.').map_or((time, ""), |(time, rest)| (time, rest));
    let mut fields = time.split(':');
    let hours = number(fields.next()?, 2, 23)?;
    let minutes = number(fields.next()?, 2, 59)?;
    let seconds = fields.next().map_or(Some(0), |seconds| number(seconds, 2, 59))?;
    if fields.next().is_some() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = fraction.chars().chain("000".chars()).take(3).collect::<String>().parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1000 + ms)
}

/// `P1DT12H`, `PT15M` or, shorter, `90s`, `15m`, `12h`, `1d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.strip_prefix('P') {
        Some(period) => iso_duration_ms(period),
        None => {
            sum_of_units(text, &[("d", MS_PER_DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1000)])
        }
    };
    let ms = parsed.and_then(|ms| u64::try_from(ms).ok());
    ms.map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration such as 90s, 15m, 12h, 1d or P1DT12H"))
}

fn iso_duration_ms(period: &str) -> Option<i64> {
    let (days, time) = match period.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (period, ""),
    };
    let days_ms = if days.is_empty() && !time.is_empty() {
        0
    } else {
        sum_of_units(days, &[("W", 7 * MS_PER_DAY), ("D", MS_PER_DAY)])?
    };
    let time_ms = if time.is_empty() {
        0
    } else {
        sum_of_units(time, &[("H", 3_600_000), ("M", 60_000), ("S", 1000)])?
    };
    days_ms.checked_add(time_ms)
}

/// At least one number with a unit behind it, larger units first, each once.
fn sum_of_units(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let mut rest = text;
    let mut sum = 0_i64;
    for (unit, ms) in units {
        let Some((number, behind)) = rest.split_once(unit) else { continue };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        sum = sum.checked_add(number.parse::<i64>().ok()?.checked_mul(*ms)?)?;
        rest = behind;
    }
    (rest.is_empty() && !text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_since_1970() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500),
            ("2026-03-01T12:30", 1_772_368_200_000),
            ("2026-03-01T12:30:00+02:00", 1_772_361_000_000),
            ("2026-03-01T12:30:00.123-0530", 1_772_388_000_123),
            ("2026-03-01 12:30:00", 1_772_368_200_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2100-01-01", 4_102_444_800_000),
        ] {
            assert_eq!(parse_datetime(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-00-10",
            "2026-03-01T",
            "2026-03-01T24:00",
            "2026-03-01T12",
            "2026-03-01T12:30:00+",
            "2026-03-01T12:30:00+ab",
            "2026-03-01T12:30:00.x",
            "26-03-01",
            "2026-03-01-01",
            "2026-03-01T1:30",
            "+026-03-01",
            "2026-03-01T12:30:00+éé",
        ] {
            assert!(parse_datetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_long_and_short() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("1h30m", 5400),
            ("1d", 86_400),
            ("PT15M", 900),
            ("P1DT12H", 129_600),
            ("P1W", 604_800),
            ("PT1H30M10S", 5410),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "P", "PT", "5", "m", "-5m", "5x", "30m1h", "P1H", "99999999999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
