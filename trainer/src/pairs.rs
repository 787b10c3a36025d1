//! Pairs of a photograph and its resynthesis, made while training runs, and the batches cut from them.

use crate::{bank::Trained, enlarge, fit::recipe::Video, photos, photos::Photos, spectrum::Rings, traces};
use anyhow::Result;
use image::{RgbImage, imageops};
use spotd::{
    forensics::{augment::Policy, rng::Rng},
    source::recode::VideoCodec,
};
use tch::{Device, Tensor};

/// Side that is redrawn, and what is cut off all around, where padding shows.
const DRAWN: u32 = 208;
const MARGIN: u32 = 16;
/// Side of a pair as it is kept.
pub const KEPT: u32 = DRAWN - 2 * MARGIN;
/// Pairs that one call of a bank member makes.
const AT_ONCE: usize = 6;
/// Pairs kept: each is cut and degraded anew whenever it is drawn.
const CAPACITY: usize = 2400;
/// Half of the pairs are filtered to one spectrum.
const EQUALISED: f32 = 0.5;
/// Share of pairs that come from random upsamplers instead of the bank.
const RANDOM_UPSAMPLERS: f32 = 0.35;
/// Share of pairs whose photograph was enlarged by a plain filter: what super-resolution and upsampling leave is
/// then seen beside what any photo editor leaves, which is no sign of a generator.
const ENLARGED: f32 = 0.35;
/// Share of those whose generated half is a super-resolution network's: the two are nearest to each other.
const SUPER_RESOLVED: f32 = 0.5;

/// One photograph's crop and what a bank member made of it.
pub type Pair = (RgbImage, RgbImage);

/// Generated pictures that have no photograph of their own, one collection.
#[derive(Default)]
pub struct Strangers {
    /// Photographs of the same kind, size and codec, if there are any: these then stand against them, so that
    /// content and file say nothing. Else photographs of the pairs do.
    pub real: Vec<RgbImage>,
    /// What was generated; not empty.
    pub fake: Vec<RgbImage>,
}

/// Half real, half synthetic.
pub struct Batch {
    /// `[2n, 3, side, side]` in 0..1: n real ones, then n synthetic ones, in the order of their pairs.
    pub x: Tensor,
    /// How many of the n are pairs of one content; the others hold an unrelated generated picture.
    pub paired: i64,
}

/// Makes pairs and batches.
pub struct Pairs<'a> {
    photos: &'a Photos,
    bank: Vec<Trained>,
    strangers: &'a [Strangers],
    policy: Policy,
    video: Option<Video>,
    rings: Rings,
    device: Device,
    rng: Rng,
    pool: Vec<Pair>,
    batches: u64,
}

impl<'a> Pairs<'a> {
    /// An empty pool.
    pub fn new(
        photos: &'a Photos,
        bank: Vec<Trained>,
        strangers: &'a [Strangers],
        policy: Policy,
        device: Device,
        rng: Rng,
    ) -> Self {
        let rings = Rings::new(DRAWN.into(), device);
        Pairs {
            photos,
            bank,
            strangers,
            policy,
            video: None,
            rings,
            device,
            rng,
            pool: Vec::new(),
            batches: 0,
        }
    }

    /// Sends pairs through a video codec too, last of all.
    pub fn through(mut self, video: Option<Video>) -> Self {
        self.video = video;
        self
    }

    /// Gives the bank back.
    pub fn into_bank(self) -> Vec<Trained> {
        self.bank
    }

    /// Makes a few fresh pairs by one member; they join the pool or take old ones' places.
    pub fn refill(&mut self) -> Result<()> {
        for pair in self.fresh(AT_ONCE)? {
            if self.pool.len() < CAPACITY {
                self.pool.push(pair);
            } else {
                let at = self.rng.below(CAPACITY);
                self.pool[at] = pair;
            }
        }
        Ok(())
    }

    /// `n` new pairs of [`KEPT`] pixels a side, all by one member, raw or equalised.
    pub fn fresh(&mut self, n: usize) -> Result<Vec<Pair>> {
        let real = self.photos.batch(n, DRAWN, &mut self.rng).to_device(self.device);
        let enlarged = self.rng.chance(ENLARGED);
        let super_resolution: Vec<&Trained> = self.bank.iter().filter(|one| one.member.halve).collect();
        let fake = if enlarged && !super_resolution.is_empty() && self.rng.chance(SUPER_RESOLVED) {
            self.rng.pick(&super_resolution).redraw(&real)
        } else if self.rng.chance(RANDOM_UPSAMPLERS) {
            traces::redraw(&real, &mut self.rng)
        } else {
            self.rng.pick(&self.bank).redraw(&real)
        };
        let (real, fake) = if enlarged {
            // Not equalised: with the spectrum of a plain enlargement, a synthetic one has little left of its own.
            (enlarge::plainly(&real, &mut self.rng)?.to_device(self.device), fake)
        } else if self.rng.chance(EQUALISED) {
            self.rings.equalise(&real, &fake, &mut self.rng)
        } else {
            (real, fake)
        };
        let inner = |x: &Tensor| {
            photos::to_pictures(&x.narrow(2, MARGIN.into(), KEPT.into()).narrow(
                3,
                MARGIN.into(),
                KEPT.into(),
            ))
        };
        Ok(inner(&real)?.into_iter().zip(inner(&fake)?).collect())
    }

    /// `n` pairs as one batch of `side` pixels, degraded and cut; both of a pair alike.
    pub fn batch(&mut self, n: usize, side: u32) -> Result<Batch> {
        while self.pool.len() < 3 * n {
            self.refill()?;
        }
        // A refill every other batch: with 16 pairs a batch, a pair is seen about five times in its life.
        self.batches += 1;
        if self.batches.is_multiple_of(2) {
            self.refill()?;
        }
        // A quarter for a single collection, half when there are more.
        let strangers = n * self.strangers.len().min(2) / 4;
        let (mut real, mut fake) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for at in 0..n {
            let pick = self.rng.below(self.pool.len());
            let (mut a, mut b) = (self.pool[pick].0.clone(), self.pool[pick].1.clone());
            if at >= n - strangers {
                let of = self.rng.pick(self.strangers);
                b = self.cut(&of.fake);
                if !of.real.is_empty() {
                    a = self.cut(&of.real);
                }
            }
            let mut plan = self.policy.draw(&mut self.rng);
            if let Some((factor, _)) = &mut plan.resize {
                // What is left must hold the crop.
                let shortest = a.width().min(a.height()).min(b.width()).min(b.height());
                *factor = factor.max(side as f32 / shortest as f32);
            }
            let (mut a, mut b) = (plan.apply(&a), plan.apply(&b));
            // A codec cuts an odd last row off; the crop must still fit.
            let whole = a.width().min(a.height()).min(b.width()).min(b.height()) > side;
            if let Some((codec, crf)) =
                self.video.and_then(|video| video.draw(&mut self.rng)).filter(|_| whole)
            {
                (a, b) = (recode(&a, codec, crf)?, recode(&b, codec, crf)?);
            }
            let room = a.width().min(a.height()).min(b.width().min(b.height())).saturating_sub(side) as usize;
            let (x, y) = (self.rng.below(room + 1) as u32, self.rng.below(room + 1) as u32);
            real.push(imageops::crop_imm(&a, x, y, side, side).to_image());
            fake.push(imageops::crop_imm(&b, x, y, side, side).to_image());
        }
        real.extend(fake);
        Ok(Batch { x: photos::to_tensor(&real), paired: (n - strangers) as i64 })
    }

    /// A crop of one of `pictures` at its own scale.
    fn cut(&mut self, pictures: &[RgbImage]) -> RgbImage {
        let picture = self.rng.pick(pictures);
        let (w, h) = (KEPT.min(picture.width()), KEPT.min(picture.height()));
        let x = self.rng.below((picture.width() - w + 1) as usize) as u32;
        let y = self.rng.below((picture.height() - h + 1) as usize) as u32;
        imageops::crop_imm(picture, x, y, w, h).to_image()
    }
}

fn recode(picture: &RgbImage, codec: VideoCodec, crf: u8) -> Result<RgbImage> {
    codec.recode(picture, crf).map_err(anyhow::Error::msg)
}
