//! What the machine reports about itself: processor, memory, temperature, throttling.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where Linux exposes them.
const SYSTEM: &str = "/sys";
const PROCESSES: &str = "/proc";

/// What a machine exposes; what it does not is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MachineState {
    /// Highest temperature of all active zones, in degrees Celsius.
    pub celsius: Option<f64>,
    /// The zone's name.
    pub zone: Option<String>,
    /// Current frequency of the first core, in MHz.
    pub mhz: Option<f64>,
    /// Maximum frequency of the first core, in MHz.
    pub mhz_most: Option<f64>,
    /// How often cores have been thermally throttled since boot.
    pub throttled: Option<u64>,
    /// A Raspberry Pi's flags: under-voltage, capped, throttled, now (bits 0..3) and since boot
    /// (16..19).
    pub raspberry: Option<String>,
}

impl MachineState {
    /// Reads it now.
    pub fn read() -> Self {
        Self::below(Path::new(SYSTEM))
    }

    fn below(system: &Path) -> Self {
        let zones = entries(&system.join("class/thermal"), "thermal_zone");
        let hottest = zones
            .iter()
            .filter_map(|zone| Some((number(&zone.join("temp"))? / 1000.0, zone)))
            // Absent sensors report nonsense such as -273 or 0.
            .filter(|(celsius, _)| (1.0..150.0).contains(celsius))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let cores = system.join("devices/system/cpu");
        let frequency = |file: &str| Some(number(&cores.join("cpu0/cpufreq").join(file))? / 1000.0);
        let throttles: Vec<u64> = entries(&cores, "cpu")
            .iter()
            .filter_map(|core| Some(number(&core.join("thermal_throttle/core_throttle_count"))? as u64))
            .collect();
        Self {
            celsius: hottest.map(|(celsius, _)| celsius),
            zone: hottest.and_then(|(_, zone)| text(&zone.join("type"))),
            mhz: frequency("scaling_cur_freq"),
            mhz_most: frequency("cpuinfo_max_freq"),
            throttled: (!throttles.is_empty()).then(|| throttles.iter().sum()),
            raspberry: text(&system.join("devices/platform/soc/soc:firmware/get_throttled")),
        }
    }

    /// Why this machine was throttled between two readings, if it says so.
    pub fn slowed_since(&self, before: &MachineState) -> Option<String> {
        if let (Some(now), Some(then)) = (self.throttled, before.throttled)
            && now > then
        {
            return Some(format!("cores were thermally throttled {} times", now - then));
        }
        let bits = u32::from_str_radix(self.raspberry.as_ref()?.trim_start_matches("0x"), 16).ok()?;
        let said =
            [(0, "under-voltage"), (1, "frequency capped"), (2, "throttled"), (3, "soft temperature limit")];
        let now: Vec<&str> =
            said.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, what)| *what).collect();
        (!now.is_empty()).then(|| format!("the board says: {}", now.join(", ")))
    }
}

/// The processor's name, where Linux gives one.
pub(super) fn processor() -> Option<String> {
    let info = std::fs::read_to_string(Path::new(PROCESSES).join("cpuinfo")).ok()?;
    let named = |key: &str| {
        info.lines()
            .find_map(|l| l.strip_prefix(key)?.trim_start().strip_prefix(':').map(|v| v.trim().to_owned()))
    };
    let board = || text(&Path::new(SYSTEM).join("firmware/devicetree/base/model"));
    named("model name").or_else(board).or_else(|| named("Model"))
}

/// Resident memory of this process in MiB: now, and peak so far.
pub(super) fn memory() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(Path::new(PROCESSES).join("self/status")).ok()?;
    let kib = |key: &str| -> Option<f64> {
        status.lines().find_map(|l| l.strip_prefix(key))?.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kib("VmRSS:")? / 1024.0, kib("VmHWM:")? / 1024.0))
}

fn text(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()).filter(|t| !t.is_empty())
}

fn number(path: &Path) -> Option<f64> {
    text(path)?.parse().ok()
}

/// Folders `<name><number>` in a folder.
fn entries(folder: &Path, name: &str) -> Vec<PathBuf> {
    let numbered = |path: &PathBuf| {
        let file = path.file_name().and_then(|f| f.to_str()).and_then(|f| f.strip_prefix(name));
        file.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let list = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut list: Vec<PathBuf> = list.filter(numbered).collect();
    list.sort();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        dir
    }

    #[test]
    fn the_hottest_zone_counts_and_nonsense_does_not() {
        let dir = machine(&[
            ("class/thermal/thermal_zone0/temp", "48312\n"),
            ("class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("class/thermal/thermal_zone1/temp", "-273200"),
            ("class/thermal/thermal_zone2/temp", "busy"),
            ("class/thermal/cooling_device0/temp", "99000"),
            ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000"),
            ("devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2400000"),
        ]);
        let state = MachineState::below(dir.path());
        assert_eq!((state.celsius, state.zone.as_deref()), (Some(48.312), Some("cpu-thermal")));
        assert_eq!((state.mhz, state.mhz_most, state.throttled), (Some(1500.0), Some(2400.0), None));
        assert_eq!(state.slowed_since(&state), None);
    }

    #[test]
    fn throttling_is_told_by_counters_and_by_a_raspberry() {
        let counted = |n: &str| {
            let dir = machine(&[
                ("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", n),
                ("devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "1"),
            ]);
            MachineState::below(dir.path())
        };
        let slowed = counted("7").slowed_since(&counted("4")).expect("slowed");
        assert!(slowed.contains("3 times"), "{slowed}");
        let dir = machine(&[("devices/platform/soc/soc:firmware/get_throttled", "50005\n")]);
        let state = MachineState::below(dir.path());
        let slowed = state.slowed_since(&state).expect("slowed");
        assert!(slowed.contains("under-voltage") && slowed.contains("throttled"), "{slowed}");
        let empty = machine(&[]);
        assert_eq!(MachineState::below(empty.path()).slowed_since(&state), None);
    }
}
