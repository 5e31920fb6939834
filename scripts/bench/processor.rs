//! The processor time and the memory of processes, as the kernel counts them.

use std::fs;
use std::io;
use std::time::Duration;

/// The processor time that these processes have used, all threads that live, to the nanosecond.
pub fn time_of(processes: &[u32]) -> io::Result<Duration> {
    let mut nanos = 0;
    for process in processes {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let stat = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanos += stat.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// The memory that these processes occupy.
pub fn resident_bytes(processes: &[u32]) -> io::Result<u64> {
    let mut bytes = 0;
    for process in processes {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        bytes += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024;
    }
    Ok(bytes)
}
