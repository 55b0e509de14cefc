//! Hours of a day in which something may be read: `20:00-06:00`, in the system's time zone.

use std::str::FromStr;

/// From a minute of the day up to another one; past midnight where that is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    from: u16,
    to: u16,
}

impl FromStr for Hours {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let (from, to) = text.split_once('-').ok_or(())?;
        let (from, to) = (minute(from).ok_or(())?, minute(to).ok_or(())?);
        if from == to { Err(()) } else { Ok(Self { from, to }) }
    }
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Hours {
    fn hold(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// Whether it is such an hour now, in a zone that `check` has found.
    pub(crate) fn now(self, zone: &str) -> bool {
        let zone = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let time = jiff::Timestamp::now().to_zoned(zone).time();
        self.hold(u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_go_past_midnight() {
        let night: Hours = "20:00-06:30".parse().unwrap();
        let held: Vec<_> = [0, 389, 390, 1199, 1200, 1439].into_iter().filter(|minute| night.hold(*minute)).collect();
        assert_eq!((held, night.to_string().as_str()), (vec![0, 389, 1200, 1439], "20:00-06:30"));
        let day: Hours = "8:00 - 17:00".parse().unwrap();
        assert!(day.hold(480) && !day.hold(479) && !day.hold(1020));
        for bad in ["", "8-17", "8:00", "24:00-6:00", "8:00-8:00", "8:60-9:00"] {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
    }
}
