//! Buffers that connections lend each other: one that waits for its client holds none.
//!
//! A connection takes a buffer when there is something to read, and mostly gives it back before the next
//! connection's turn on the same thread. So thousands of connections work in a few kilobytes, which stay
//! in the processor's cache.

use std::cell::RefCell;

use bytes::BytesMut;

/// Room of a buffer for input.
pub const INPUT_BYTES: usize = 64 * 1024;
/// Room of the largest buffer for output that is kept.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Buffers of each kind that a thread keeps: those of connections that had to wait come back in a bunch.
const KEPT_MAX: usize = 16;

#[derive(Default)]
struct Spare {
    inputs: Vec<BytesMut>,
    outputs: Vec<Vec<u8>>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// A buffer with room for a read.
pub fn take_input() -> BytesMut {
    SPARE.with_borrow_mut(|spare| spare.inputs.pop()).unwrap_or_else(|| BytesMut::with_capacity(INPUT_BYTES))
}

/// A buffer for replies.
pub fn take_output() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.outputs.pop()).unwrap_or_default()
}

/// Gives back a buffer that is empty, or nothing.
pub fn give_input(buffer: BytesMut) {
    SPARE.with_borrow_mut(|spare| {
        if spare.inputs.len() < KEPT_MAX && buffer.capacity() > 0 {
            spare.inputs.push(buffer);
        }
    });
}

/// Gives back a buffer that is empty, or nothing.
pub fn give_output(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.outputs.len() < KEPT_MAX && (1..=OUTPUT_BYTES_MAX).contains(&buffer.capacity()) {
            spare.outputs.push(buffer);
        }
    });
}
