use super::*;

const SECOND: Duration = Duration::from_secs(1);
const RATE: u64 = 1000;

fn at(ms: u64) -> Duration {
    // A clock's start is arbitrary.
    Duration::from_secs(77) + Duration::from_millis(ms)
}

fn meter() -> Meter {
    Meter::new(11, SECOND)
}

#[test]
fn at_rest_there_is_room_for_one_sample() {
    assert_eq!(meter().room(RATE, at(0)), Some(1000));
    assert_eq!(meter().opens_at(RATE, at(0)), at(0));
}

#[test]
fn what_went_is_made_up_for_before_it_opens() {
    let mut meter = meter();
    meter.record(1000, at(0));
    assert_eq!(meter.room(RATE, at(0)), None);
    assert_eq!(meter.room(RATE, at(1099)), None, "room for less than a portion is none");
    assert_eq!(meter.room(RATE, at(1100)), Some(100));
    meter.record(100, at(1100));
    assert_eq!(meter.room(RATE, at(1150)), None);
    meter.record(5000, at(1150));
    assert_eq!(meter.room(RATE, at(6199)), None);
    assert_eq!(meter.room(RATE, at(6200)), Some(100));
}

#[test]
fn what_went_is_forgotten_a_window_after_its_sample_with_the_time_that_it_stood_for() {
    let mut meter = meter();
    meter.record(500, at(0));
    meter.record(4000, at(10_000));
    assert_eq!(meter.room(RATE, at(11_999)), Some(11_999 - 4500));
    assert_eq!(meter.room(RATE, at(12_000)), None, "4000 in the two seconds that are left");
    assert_eq!(meter.room(RATE, at(14_100)), Some(100));
    assert_eq!(meter.room(RATE, at(22_000)), Some(1000), "nothing is remembered");
}

#[test]
fn another_rate_counts_at_once() {
    let mut meter = meter();
    meter.record(2000, at(0));
    assert_eq!(meter.room(RATE, at(1000)), None);
    assert_eq!(meter.room(4 * RATE, at(1000)), Some(2000));
    assert_eq!(meter.room(u64::MAX, at(1000)), Some(u64::MAX - 2000));
}

#[test]
fn no_rate_at_all_lets_a_batch_go_in_a_window() {
    let mut meter = meter();
    assert_eq!(meter.room(0, at(0)), Some(0), "no room but for one batch");
    meter.record(1, at(0));
    meter.record(1, at(2500));
    assert_eq!(meter.opens_at(0, at(3000)), at(2500 + 12_000));
    assert_eq!(meter.room(0, at(2500 + 11_999)), None);
    assert_eq!(meter.room(0, at(2500 + 12_000)), Some(0));
}

#[test]
fn no_setting_makes_it_overflow_or_remember_without_bound() {
    for rate in [0, 1, u64::MAX] {
        let mut meter = Meter::new(u32::MAX, Duration::from_secs(u64::from(u32::MAX)));
        meter.record(u64::MAX, at(0));
        meter.record(u64::MAX, at(1));
        assert!(meter.opens_at(rate, at(2)) >= at(2));
        assert_eq!(meter.room(rate, at(2)).is_some(), rate == u64::MAX, "{rate}");
    }
    let mut many = Meter::new(u32::MAX, Duration::from_millis(1));
    let length = many.length;
    for n in 0..5000 {
        many.record(1, at(0) + length * n);
    }
    assert!(many.samples.len() <= SAMPLES_MAX as usize + 2, "{}", many.samples.len());
    assert_eq!(Meter::new(0, Duration::ZERO).room(RATE, at(0)), Some(100), "a portion");
}

/// Numbers that repeat, for histories of all kinds.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Takes what there is room for, or one batch where that is more, at times of all kinds; answers what
/// went, and when.
fn history(random: &mut Random, meter: &mut Meter, batch_max: u64) -> Vec<(Duration, u64)> {
    let mut went = Vec::new();
    let mut now = at(0);
    for _ in 0..400 {
        now = match random.below(10) {
            0 => now + Duration::from_millis(random.below(30_000)),
            1..=3 => now + Duration::from_millis(random.below(300)),
            _ => {
                let opens = meter.opens_at(RATE, now);
                if opens > now {
                    let before = opens - Duration::from_nanos(1);
                    assert_eq!(meter.room(RATE, before), None, "not before it opens");
                }
                assert!(meter.room(RATE, opens).is_some(), "when it opens, there is room");
                opens
            }
        };
        let Some(room) = meter.room(RATE, now) else { continue };
        let wanted = random.below(20_000);
        let bytes = wanted.min(room).max(random.below(batch_max));
        meter.record(bytes, now);
        went.push((now, bytes));
    }
    went
}

#[test]
fn in_no_stretch_of_time_goes_more_than_the_bound_allows() {
    for seed in 1..200 {
        let mut random = Random(seed);
        let (samples, length) = (1 + random.below(12), SECOND * (1 + random.below(3) as u32));
        let mut meter = Meter::new(samples as u32, length);
        let batch_max = 1 + random.below(3000);
        let went = history(&mut random, &mut meter, batch_max);
        let slack = length * (samples as u32 + 2);
        for (first, (from, _)) in went.iter().enumerate() {
            let mut bytes = 0;
            for (to, more) in &went[first..] {
                bytes += more;
                let allowed = bytes_in(RATE, *to - *from + slack) + u128::from(batch_max);
                assert!(u128::from(bytes) <= allowed, "seed {seed}: {bytes} of {allowed}");
            }
        }
    }
}

#[test]
fn who_always_wants_more_gets_what_the_bound_allows() {
    let mut meter = meter();
    let (mut now, mut bytes) = (at(0), 0);
    while now < at(600_000) {
        let room = meter.room(RATE, now).expect("open");
        meter.record(room, now);
        bytes += room;
        now = meter.opens_at(RATE, now);
    }
    assert!((594_000..=601_000).contains(&bytes), "within a hundredth: {bytes}");
}
