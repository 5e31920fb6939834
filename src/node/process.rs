//! What the system says of this process, where it says so in files; zero where it does not.

use std::time::Duration;

/// Memory and processor time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Memory that it has now.
    pub memory_bytes: u64,
    /// Time that it has spent in its own code.
    pub user_time: Duration,
    /// Time that the system has spent for it.
    pub system_time: Duration,
    /// Memory of the machine.
    pub machine_memory_bytes: u64,
}

impl Process {
    /// As of now.
    pub fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/status"), &read("/proc/self/stat"), &read("/proc/meminfo"))
    }

    fn parse(status: &str, stat: &str, machine: &str) -> Self {
        let bytes = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kilobytes.unwrap_or_default() * 1_024
        };
        // Behind the name, which may hold anything: state is field 3, times are 14 and 15, in hundredths.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let time = |field: usize| {
            let ticks = fields.split_whitespace().nth(field - 3).and_then(|ticks| ticks.parse::<u64>().ok());
            Duration::from_millis(ticks.unwrap_or_default() * 10)
        };
        Self {
            memory_bytes: bytes(status, "VmRSS"),
            user_time: time(14),
            system_time: time(15),
            machine_memory_bytes: bytes(machine, "MemTotal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_the_system_says_and_are_zero_where_it_says_nothing() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 30 0 0 20 0";
        let process = Process::parse("VmHWM:\t  20 kB\nVmRSS:\t  10 kB\n", stat, "MemTotal:  100 kB\n");
        assert_eq!(process.memory_bytes, 10_240);
        assert_eq!(process.user_time, Duration::from_millis(2_500));
        assert_eq!(process.system_time, Duration::from_millis(300));
        assert_eq!(process.machine_memory_bytes, 102_400);
        let nothing = Process::parse("", "", "");
        assert_eq!((nothing.memory_bytes, nothing.user_time), (0, Duration::ZERO));
    }
}
