//! How clients speak: one codec per protocol, each between bytes and [`crate::command`].
