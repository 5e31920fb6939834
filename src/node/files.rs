//! How many files and sockets the process may have open.

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;

/// Files that are kept for other uses than client connections: peer links (two for each other node),
/// sockets that listen, the runtime's own.
const OTHERS: usize = 128;

/// Raises the limit of open files as far as the system lets this process.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it is refused, fewer connections are allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many client connections there is room for.
pub fn connections_max() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    room_for(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// What is left of a limit when others have theirs; at least a quarter, where it is very low.
fn room_for(limit: usize) -> usize {
    limit.saturating_sub(OTHERS).max(limit / 4).max(1)
}

/// Whether a connection was not accepted for want of a file.
pub fn is_exhausted(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error().is_some_and(|raw| matches!(Errno::from_raw(raw), Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_kept_for_other_uses_than_clients() {
        assert_eq!([1_024, 100, 2, usize::MAX].map(room_for), [896, 25, 1, usize::MAX - OTHERS]);
        assert!(connections_max() >= 1);
    }

    #[test]
    fn want_of_a_file_is_told_from_other_errors() {
        assert!(is_exhausted(&std::io::Error::from_raw_os_error(24)));
        assert!(!is_exhausted(&std::io::ErrorKind::ConnectionAborted.into()));
    }
}
