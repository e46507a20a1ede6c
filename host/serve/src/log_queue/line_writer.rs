//! Writes whole lines as far as possible.

use std::io::{self, Write};
use std::mem;
use std::thread;
use std::time::Duration;

/// The pause before a retry if a non-blocking file (`O_NONBLOCK`) has no room.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Writes lines to `out`. After a partly written line, it starts a new one.
#[derive(Debug)]
pub(super) struct LineWriter<W> {
    out: W,
    torn: bool,
}

impl<W: Write> LineWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, torn: false }
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if mem::take(&mut self.torn) {
            self.write_all(b"\n")?;
            self.torn = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match self.out.write(text) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    text = text.get(count..).unwrap_or_default();
                    self.torn = !text.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
