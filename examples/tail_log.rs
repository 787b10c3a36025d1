//! Prints the events of a flag log, then follows it and prints each new one.
//!
//! ```sh
//! make run                                  # in another terminal: writes its log to flags/
//! cargo run --example tail_log -- flags
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spotd::clock::{Clock, SystemClock};
use spotd::flaglog::OsFs;
use spotd::flaglog::{Entry, Reader};

/// Writes the events that have been added since the last call, and says how many there were.
///
/// Each record is checked on the way: its hash, and that it follows the one before.
pub fn print_new(reader: &mut Reader, out: &mut impl Write) -> Result<usize, Box<dyn Error>> {
    let mut events = 0;
    loop {
        match reader.next() {
            // At the end, or in the middle of a line that is still being written.
            Ok(None) => return Ok(events),
            Ok(Some(item)) => {
                // A log also holds notes about itself, such as what retention removed.
                let Entry::Event(record) = item.entry else { continue };
                let (kind, verdict) = (record.kind.as_str(), record.verdict);
                writeln!(out, "{:.3} {} {kind}: {verdict}", record.captured, record.source)?;
                for file in record.evidence.iter().flat_map(|e| e.files()) {
                    writeln!(out, "  {}", file.file)?;
                }
                events += 1;
            }
            // Behind a damaged record reading goes on.
            Err(error) if error.is_passed() => writeln!(out, "{error}")?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: tail_log FOLDER")?;
    let mut reader = Reader::from_start(Arc::new(OsFs), Path::new(&dir));
    let clock = SystemClock::new();
    loop {
        print_new(&mut reader, &mut io::stdout().lock())?;
        clock.after(Duration::from_millis(300)).recv()?;
    }
}
