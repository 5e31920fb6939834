//! Numbers as INFO writes them.

/// A number of bytes for a human reader, such as `1.50M`.
pub fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}{name}", decimal(bytes as f64 / unit as f64)),
        None => format!("{bytes}B"),
    }
}

/// With two decimals.
pub fn decimal(number: f64) -> String {
    format!("{number:.2}")
}

/// A part of a whole, such as `12.34%`.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{}%", decimal(100.0 * part as f64 / whole.max(1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_redis_writes_them() {
        assert_eq!(
            [0, 1_023, 1_536, 3 << 20, 5 << 30].map(human),
            ["0B", "1023B", "1.50K", "3.00M", "5.00G"]
        );
        assert_eq!([percent(1, 8), percent(0, 0)], ["12.50%", "0.00%"]);
    }
}
