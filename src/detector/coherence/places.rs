//! Where in the frame something repeats, over minutes: the regions' sums of all frames, and what the head says of windows
//! of them.
//!
//! A frame has up to 225 windows, and the head takes about a tenth of a millisecond for each, so a few have their turn with
//! each frame.

use super::regions::{Regions, place};
use super::{BlockSums, Luma};
use crate::detector::ModelError;
use crate::frame::Rect;

/// The accumulated sums of one source, in the memory of one frame's.
#[derive(Debug, Clone, Default)]
pub struct Places {
    size: (u32, u32),
    sums: Option<Box<Regions>>,
    windows: Vec<Window>,
    /// The window whose turn is next.
    next: usize,
}

/// What is known of a window.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// How coherent it is in single frames, sum and number of those in which it had its turn.
    single: (f32, f32),
    /// The head's answer, the last time it had its turn.
    logit: Option<f32>,
}

impl Places {
    /// Fades what was accumulated to `keep` (0..1) of its weight, adds a frame of this size in pixels, and asks `head` for
    /// the logits of the next `turns` windows. Frames of another size start it anew.
    ///
    /// # Errors
    /// Those of `head`.
    pub fn follow(
        &mut self,
        next: Box<Regions>,
        size: (u32, u32),
        keep: f32,
        turns: usize,
        head: impl Fn(&[BlockSums]) -> Result<Vec<f32>, ModelError>,
    ) -> Result<(), ModelError> {
        let (across, down) = next.windows();
        let anew = self.size != size || self.sums.as_ref().is_none_or(|sums| !sums.fits(&next));
        if anew {
            *self = Self { size, windows: vec![Window::default(); across * down], ..Self::default() };
        }
        // How coherent single frames are is measured in all windows at once only at the beginning.
        let measured = if anew { self.windows.len() } else { turns };
        for window in self.turns(measured) {
            if let Some(sums) = next.window(window) {
                let single = &mut self.windows[window].single;
                *single = (single.0 * keep + sums.typical(), single.1 * keep + 1.0);
            }
        }
        match &mut self.sums {
            Some(sums) => sums.follow(&next, keep),
            none => *none = Some(next),
        }
        self.judge(turns, head)
    }

    /// The windows whose turn it is, at most all of them once.
    fn turns(&self, most: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, all) = (self.next, self.windows.len());
        (0..most.min(all)).map(move |turn| (first + turn) % all)
    }

    /// Asks `head` for the logits of the next `turns` windows, or of all.
    ///
    /// # Errors
    /// Those of `head`.
    pub fn judge(
        &mut self,
        turns: usize,
        head: impl Fn(&[BlockSums]) -> Result<Vec<f32>, ModelError>,
    ) -> Result<(), ModelError> {
        let Some(regions) = &self.sums else { return Ok(()) };
        let (mut windows, mut sums) = (Vec::new(), Vec::new());
        for window in self.turns(turns) {
            let this = &mut self.windows[window];
            this.logit = None;
            if let Some(mut of_window) = regions.window(window).filter(|_| this.single.1 > 0.0) {
                of_window.set_single(this.single.0 / this.single.1);
                windows.push(window);
                sums.push(of_window);
            }
        }
        for (window, logit) in windows.into_iter().zip(head(&sums)?) {
            self.windows[window].logit = Some(logit);
        }
        self.next = (self.next + turns.min(self.windows.len())) % self.windows.len().max(1);
        Ok(())
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// The logits of all windows that have one.
    pub fn logits(&self) -> impl Iterator<Item = f32> + '_ {
        self.windows.iter().filter_map(|window| window.logit)
    }

    /// Each region with its place in the frame and the mean logit of the windows that cover it; those without any are left
    /// out.
    pub fn regions(&self) -> Vec<(Rect, f32)> {
        let Some(regions) = &self.sums else { return Vec::new() };
        let shape = regions.shape();
        let mut said = vec![(0.0f32, 0.0f32); shape.0 * shape.1];
        for (window, logit) in self.windows.iter().enumerate().filter_map(|(at, w)| Some((at, w.logit?))) {
            for region in regions.of_window(window) {
                said[region].0 += logit;
                said[region].1 += 1.0;
            }
        }
        let examined = Luma::examined(self.size);
        let known = said.into_iter().enumerate().filter(|(_, (_, windows))| *windows > 0.0);
        known.map(|(at, (sum, windows))| (place(examined, shape, at), sum / windows)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::luma::SIDE;
    use super::*;

    /// Noise that differs from frame to frame, with a lattice of period 4 in a square of 128 pixels.
    fn frame(seed: u32, lattice: bool) -> Luma {
        let (width, height) = (512, 384);
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as f32 / 8.0
        };
        let levels = (0..width * height)
            .map(|at| {
                let (x, y) = (at % width, at / width);
                let inside = lattice && (256..384).contains(&x) && (128..256).contains(&y);
                100.0 + noise() + if inside && (x % 4 == 1) != (y % 4 == 2) { 6.0 } else { 0.0 }
            })
            .collect();
        Luma { width, height, levels }
    }

    /// Coherence at the lattice's frequency, which stands for a head.
    fn at_four(places: &[BlockSums]) -> Result<Vec<f32>, ModelError> {
        Ok(places.iter().map(|sums| sums.coherence(0, 4 * SIDE + 4).ln()).collect())
    }

    #[test]
    fn regions_add_up_to_the_whole() {
        let luma = frame(1, true);
        let (whole, regions) = BlockSums::with_regions(&luma);
        assert_eq!(regions.shape(), (8, 6));
        let plain = BlockSums::of(&luma);
        assert_eq!((whole.blocks, whole.measured), (plain.blocks, plain.measured));
        for at in 1..SIDE * SIDE {
            let (a, b) = (whole.coherence(1, at), plain.coherence(1, at));
            assert!((a - b).abs() <= 1e-3 * b.max(1.0), "{at}: {a} by regions, {b} at once");
        }
    }

    #[test]
    fn what_repeats_in_one_place_is_found_there_and_only_over_time() {
        let mut places = Places::default();
        let hottest = |places: &Places| {
            let all = places.regions();
            *all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("regions")
        };
        let mut first = None;
        for seed in 1..=40 {
            let (_, regions) = BlockSums::with_regions(&frame(seed, true));
            places.follow(Box::new(regions), (512, 384), 0.99, usize::MAX, at_four).expect("judged");
            first.get_or_insert_with(|| hottest(&places).1);
        }
        let (place, logit) = hottest(&places);
        let inside = |r: &Rect| (256..384).contains(&r.x) && (128..256).contains(&r.y);
        assert!(inside(&place), "{place:?}");
        assert!(logit > first.expect("a first frame") + 1.0, "it adds up: {first:?}, then {logit}");
        let far = |r: &Rect| r.x + 64 <= 192 || r.x >= 448 || r.y >= 320;
        let outside = places.regions().into_iter().filter(|(r, _)| far(r)).map(|(_, l)| l);
        assert!(outside.fold(f32::MIN, f32::max) < logit - 2.0);
    }

    #[test]
    fn each_window_has_its_turn_and_another_size_starts_anew() {
        let mut places = Places::default();
        let (_, regions) = BlockSums::with_regions(&frame(1, false));
        let regions = Box::new(regions);
        for frame in 1..=9 {
            places.follow(regions.clone(), (512, 384), 1.0, 4, at_four).expect("judged");
            assert_eq!(places.logits().count(), (4 * frame).min(35));
        }
        // As many blocks, but it need not be the same picture.
        places.follow(regions, (513, 384), 1.0, 4, at_four).expect("judged");
        assert_eq!(places.logits().count(), 4);
    }

    #[test]
    fn where_nothing_is_to_be_read_nothing_is_said() {
        let mut luma = frame(1, false);
        for (at, level) in luma.levels.iter_mut().enumerate() {
            if at % 512 >= 192 {
                *level = 255.0;
            }
        }
        let (_, regions) = BlockSums::with_regions(&luma);
        let mut places = Places::default();
        places.follow(Box::new(regions), (512, 384), 1.0, usize::MAX, at_four).expect("judged");
        let known = places.regions();
        assert!(known.iter().any(|(r, _)| r.x < 128), "{known:?}");
        assert!(known.iter().all(|(r, _)| r.x < 320), "a burnt-out sky is unknown: {known:?}");
    }
}
