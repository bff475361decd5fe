//! As `tc qdisc show` of iproute2 6.1 prints it.

use std::{fmt, time::Duration};

use super::{Chance, Loss, Netem, Pace, Rate, Slot, unit};
use crate::spec::Percent;

/// What tc prints after `netem`, the interface and its place; with `ecn`, the spaces
/// around it included.
impl fmt::Display for Netem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tc prints it with a sign.
        write!(f, "limit {}", self.limit.cast_signed())?;
        if !self.delay.time.is_zero() {
            write!(f, " delay {}", Ticks(self.delay.time))?;
            if !self.delay.jitter.is_zero() {
                write!(f, "  {}", Ticks(self.delay.jitter))?;
                write_correlation(f, self.delay.correlation)?;
            }
        }
        match &self.loss {
            Loss::Random(random) => write_chance(f, "loss", random)?,
            Loss::State {
                p13,
                p31,
                p32,
                p23,
                p14,
            } => {
                let [p13, p31, p32, p23, p14] = [p13, p31, p32, p23, p14].map(|p| Points(*p));
                write!(
                    f,
                    " loss state p13 {p13} p31 {p31} p32 {p32} p23 {p23} p14 {p14}"
                )?;
            }
            Loss::Gemodel { p, r, bad, good } => {
                let [p, r, bad, good] = [p, r, bad, good].map(|p| Points(*p));
                write!(f, " loss gemodel p {p} r {r} 1-h {bad} 1-k {good}")?;
            }
        }
        write_chance(f, "duplicate", &self.duplicate)?;
        if let Some(reorder) = &self.reorder {
            write_chance(f, "reorder", &reorder.chance)?;
        }
        write_chance(f, "corrupt", &self.corrupt)?;
        if let Some(rate) = &self.rate {
            write_rate(f, rate)?;
        }
        if let Some(slot) = &self.slot {
            write_slot(f, slot)?;
        }
        if let Some(seed) = self.seed {
            write!(f, " seed {seed}")?;
        }
        if self.ecn {
            f.write_str(" ecn ")?;
        }
        if let Some(reorder) = &self.reorder {
            write!(f, " gap {}", reorder.gap)?;
        }
        Ok(())
    }
}

fn write_chance(f: &mut fmt::Formatter<'_>, name: &str, chance: &Chance) -> fmt::Result {
    if chance.is_never() {
        return Ok(());
    }
    write!(f, " {name} {}", Points(chance.percent))?;
    write_correlation(f, chance.correlation)
}

fn write_correlation(f: &mut fmt::Formatter<'_>, correlation: Percent) -> fmt::Result {
    if correlation.points() > 0.0 {
        write!(f, " {}", Points(correlation))?;
    }
    Ok(())
}

fn write_rate(f: &mut fmt::Formatter<'_>, rate: &Rate) -> fmt::Result {
    // As far as nothing is lost, or little of much.
    let mut bits = rate.bytes_per_sec * 8;
    let mut unit = "";
    for larger in ["K", "M", "G", "T"] {
        if bits < 1000 || (!bits.is_multiple_of(1000) && bits < 1_000_000) {
            break;
        }
        bits /= 1000;
        unit = larger;
    }
    write!(f, " rate {bits}{unit}bit")?;
    if rate.packet_overhead != 0 {
        write!(f, " packetoverhead {}", rate.packet_overhead)?;
    }
    if rate.cell_size != 0 {
        write!(f, " cellsize {}", rate.cell_size)?;
    }
    if rate.cell_overhead != 0 {
        write!(f, " celloverhead {}", rate.cell_overhead)?;
    }
    Ok(())
}

fn write_slot(f: &mut fmt::Formatter<'_>, slot: &Slot) -> fmt::Result {
    match &slot.pace {
        Pace::Between { min, max } => write!(f, " slot {} {}", Nanos(*min), Nanos(*max))?,
        Pace::Distributed { delay, jitter, .. } => {
            write!(f, " slot distribution {} {}", Nanos(*delay), Nanos(*jitter))?;
        }
    }
    if slot.packets != 0 {
        write!(f, " packets {}", slot.packets)?;
    }
    if slot.bytes != 0 {
        write!(f, " bytes {}", slot.bytes)?;
    }
    Ok(())
}

/// A percentage, in tc's steps and C's `%g`.
struct Points(Percent);

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_general(f, unit::points(unit::steps(self.0)), 6)?;
        f.write_str("%")
    }
}

/// A time that tc keeps in nanoseconds.
struct Nanos(Duration);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_secs_f64() * 1e9;
        for (unit, scale) in [("s", 1e9), ("ms", 1e6), ("us", 1e3)] {
            if nanos >= scale {
                write_general(f, nanos / scale, 3)?;
                return f.write_str(unit);
            }
        }
        write!(f, "{}ns", self.0.as_nanos())
    }
}

/// A delay. tc counts it in ticks of 64 ns, and rounds down to a microsecond on the way
/// there and on the way back: 100us becomes 99us. Newer versions print a delay that is
/// no whole number of microseconds, and so does this.
struct Ticks(Duration);

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.subsec_nanos().is_multiple_of(1000) {
            return Nanos(self.0).fmt(f);
        }
        let ticks = self.0.as_nanos() / 64;
        let micros = ticks * 64 / 1000;
        if micros < 1000 {
            return write!(f, "{micros}us");
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a duration in nanoseconds was divided"
        )]
        let micros = Duration::from_micros(micros as u64);
        Nanos(micros).fmt(f)
    }
}

/// C's `%.Ng`.
fn write_general(f: &mut fmt::Formatter<'_>, value: f64, digits: usize) -> fmt::Result {
    let scientific = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return f.write_str(&scientific);
    };
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    let negative = exponent.unsigned_abs() as usize;
    if exponent < -4 || exponent >= 0 && negative >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(f, "{}e{sign}{negative:02}", without_zeros(mantissa));
    }
    let decimals = if exponent < 0 {
        digits - 1 + negative
    } else {
        digits - 1 - negative
    };
    f.write_str(without_zeros(&format!("{value:.decimals$}")))
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netem::parse;

    fn shown(words: &str) -> String {
        let words: Vec<_> = words.split_whitespace().collect();
        parse(&words).expect("netem's words").to_string()
    }

    #[test]
    fn prints_numbers_as_c_does() {
        struct General(f64, usize);
        impl fmt::Display for General {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_general(f, self.0, self.1)
            }
        }
        for (value, digits, text) in [
            (0.0, 6, "0"),
            (1.0, 6, "1"),
            (100.0, 6, "100"),
            (33.333_333_3, 6, "33.3333"),
            (0.000_100_001_4, 6, "0.000100001"),
            (0.000_023_283_064, 6, "2.32831e-05"),
            (99.999_999_9, 6, "100"),
            (123.456, 3, "123"),
            (999.6, 3, "1e+03"),
            (1.5, 3, "1.5"),
        ] {
            assert_eq!(General(value, digits).to_string(), text);
        }
    }

    #[test]
    fn what_tc_has_no_line_for_is_printed_too() {
        assert_eq!(shown("delay 500ns"), "limit 1000 delay 500ns");
        assert_eq!(shown("delay 1.234us"), "limit 1000 delay 1.23us");
        assert_eq!(
            shown("loss 1% ecn seed 5"),
            "limit 1000 loss 1% seed 5 ecn "
        );
        assert_eq!(shown("duplicate 1% 25%"), "limit 1000 duplicate 1% 25%");
    }
}
