//! The shell: actors, tasks, sockets, the clock and the log.
