//! What the process itself uses, under the names that Prometheus's client libraries give, and the machine's
//! temperatures, as Linux reports them.

use std::fs;
use std::path::Path;

/// What the process uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Resident memory in bytes.
    pub resident_bytes: Option<f64>,
    /// Seconds of CPU since the start, in user and kernel mode, of all threads.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_files: Option<f64>,
}

/// Asks the operating system; what it does not say is left out.
pub fn process() -> Process {
    let resident = fs::read_to_string("/proc/self/status").ok().and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()
    });
    let stat = fs::read_to_string("/proc/self/stat").ok();
    Process {
        resident_bytes: resident.map(|kib| kib * 1024.0),
        cpu_seconds: stat.as_deref().and_then(cpu_seconds),
        open_files: fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64),
    }
}

/// A thread of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadTime {
    /// Its name, or the first 15 bytes of it.
    pub name: String,
    /// Whether it is the one that the process began with.
    pub is_main: bool,
    /// Seconds of CPU since its start, in user and kernel mode.
    pub cpu_seconds: f64,
}

/// The threads that run now, as far as the operating system tells.
pub fn threads() -> Vec<ThreadTime> {
    let main = std::process::id().to_string();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let time = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let name = stat.split_once('(')?.1.rsplit_once(')')?.0.to_owned();
        let cpu_seconds = cpu_seconds(&stat)?;
        Some(ThreadTime { name, is_main: task.file_name().to_str() == Some(&main), cpu_seconds })
    };
    // A thread may end while it is looked at.
    tasks.filter_map(time).collect()
}

/// User and system time of `/proc/self/stat`, whose fields 14 and 15 they are.
fn cpu_seconds(stat: &str) -> Option<f64> {
    /// Linux counts in hundredths here, whatever its own tick is (`USER_HZ`).
    const TICKS: f64 = 100.0;
    // The second field is the program's name, which may hold blanks and brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// Temperatures of the machine's zones in degrees Celsius, each with the zone's number and name, such as `0` and
/// `cpu-thermal`.
pub(crate) fn temperatures() -> Vec<(String, String, f64)> {
    zones(Path::new("/sys/class/thermal"))
}

fn zones(folder: &Path) -> Vec<(String, String, f64)> {
    let mut zones: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("thermal_zone")?.to_owned();
            let text = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
            // A zone that is switched off is there but cannot be read.
            let millidegrees: f64 = text("temp")?.trim().parse().ok()?;
            Some((number, text("type")?.trim().to_owned(), millidegrees / 1000.0))
        })
        .collect();
    zones.sort_by(|a, b| a.0.cmp(&b.0));
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let process = process();
        assert!(process.resident_bytes.is_some_and(|b| b > 1e6), "{process:?}");
        assert!(process.cpu_seconds.is_some(), "{process:?}");
        assert!(process.open_files.is_some_and(|n| n >= 3.0), "{process:?}");
    }

    #[test]
    fn threads_have_names_and_one_is_the_first() {
        let named = std::thread::Builder::new().name("a) name (b".into());
        let all = named.spawn(threads).expect("a thread").join().expect("no panic");
        assert_eq!(all.iter().filter(|thread| thread.is_main).count(), 1, "{all:?}");
        assert!(all.iter().any(|thread| thread.name == "a) name (b" && !thread.is_main), "{all:?}");
    }

    #[test]
    fn the_name_of_the_program_does_not_shift_the_fields() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (spotd"), None);
    }

    #[test]
    fn zones_are_read_as_linux_lays_them_out() {
        let dir = tempfile::tempdir().expect("a folder");
        for (zone, kind, temp) in
            [("thermal_zone1", "gpu", "38500\n"), ("thermal_zone0", "cpu-thermal", "51000")]
        {
            fs::create_dir(dir.path().join(zone)).expect("a folder");
            fs::write(dir.path().join(zone).join("type"), kind).expect("written");
            fs::write(dir.path().join(zone).join("temp"), temp).expect("written");
        }
        // One without a temperature, and something else.
        fs::create_dir(dir.path().join("thermal_zone2")).expect("a folder");
        fs::create_dir(dir.path().join("cooling_device0")).expect("a folder");
        let expected = vec![("0".into(), "cpu-thermal".into(), 51.0), ("1".into(), "gpu".into(), 38.5)];
        assert_eq!(zones(dir.path()), expected);
        assert!(zones(&dir.path().join("nothing")).is_empty());
    }
}
