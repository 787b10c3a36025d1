//! Pairs of a photograph and its resynthesis, made while training runs, and batches cut from them.

use crate::{
    bank::Trained, decoder::Decoder, enlarge, fit::recipe::Video, photos, photos::Photos, spectrum::Rings,
    traces,
};
use anyhow::{Result, ensure};
use image::{RgbImage, imageops};
use spotd::{
    forensics::{augment::Policy, rng::Rng},
    source::recode::VideoCodec,
};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Side of what is resynthesised, and the margin that is cut off, where padding shows.
pub const DRAWN: u32 = 208;
const MARGIN: u32 = 16;
/// Side of a pair as it is kept.
pub const KEPT: u32 = DRAWN - 2 * MARGIN;
/// Pairs that one call of a bank member makes.
const AT_ONCE: usize = 6;
/// Pairs kept: each is cropped and degraded again whenever it is drawn.
const CAPACITY: usize = 2400;
/// Share of the pairs that are equalised to one spectrum.
const EQUALISED: f32 = 0.5;
/// Share of pairs that come from random upsamplers instead of the bank.
const RANDOM_UPSAMPLERS: f32 = 0.35;
/// Share of the bank's pairs that are made by decoders of real generators, if there are any: they
/// are few, but theirs are the traces to be found.
const DECODED: f32 = 0.5;
/// Share of pairs whose photograph was enlarged by a plain filter: the traces of super-resolution
/// and upsampling are then contrasted with those of any photo editor, which are not a sign of a
/// generator.
const ENLARGED: f32 = 0.35;
/// Share of those whose generated half is a super-resolution network's: the two are most similar.
const SUPER_RESOLVED: f32 = 0.5;
/// Margin that is degraded around the crop, which may then be anywhere on a codec's grid, and
/// seldom at an edge.
const ROOM: u32 = 24;

/// One photograph's crop and its resynthesis.
pub type Pair = (RgbImage, RgbImage);

/// A collection of generated pictures from one folder, and photographs to contrast them with.
#[derive(Default)]
pub struct Strangers {
    /// Photographs of the same kind, size and codec, if there are any: contrasted with these,
    /// content and file carry no information. Otherwise the photographs of the pairs are used.
    pub real: Vec<RgbImage>,
    /// The generated pictures; not empty.
    pub fake: Vec<RgbImage>,
    /// Indices of the two pictures of each matched pair, of the same size: if there are any, only
    /// these are drawn, cropped in the same place.
    pub pairs: Vec<(usize, usize)>,
}

/// Half real, half synthetic.
pub struct Batch {
    /// `[2n, side, side, 3]`, bytes: n real ones, then n synthetic ones, in the order of their
    /// pairs.
    bytes: Tensor,
    /// How many of the n are pairs with the same content; the others have an unrelated generated
    /// picture.
    pub paired: i64,
}

impl Batch {
    /// `[2n, 3, side, side]` in 0..1 on `device`; bytes are transferred, a quarter of the floats.
    pub fn pixels(&self, device: Device) -> Tensor {
        self.bytes.to_device(device).permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0
    }
}

/// Degradations of pairs before they are cropped: the steps of a curriculum, which never drops the
/// mild ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Degrade {
    /// At most one good JPEG: first the traces must be learned.
    Mild,
    /// A third mild, a third lightly degraded, a third as in the field.
    Mixed,
    /// What pictures meet in the field.
    #[default]
    Field,
}

impl Degrade {
    /// One of these is drawn for each pair.
    pub fn policies(self) -> &'static [Policy] {
        match self {
            Degrade::Mild => &[Policy::MILD],
            Degrade::Mixed => &[Policy::MILD, Policy::LIGHT, Policy::FIELD],
            Degrade::Field => &[Policy::FIELD],
        }
    }
}

/// Makes pairs.
pub struct Source<'a> {
    photos: &'a Photos,
    bank: Vec<Trained>,
    decoders: &'a [Decoder],
    rings: Rings,
    device: Device,
    rng: Rng,
}

impl Source<'_> {
    /// A few new pairs of [`KEPT`] pixels a side for the pool.
    ///
    /// # Errors
    /// As [`Source::fresh`].
    pub fn some(&mut self) -> Result<Vec<Pair>> {
        self.fresh(AT_ONCE)
    }

    /// `n` new pairs of [`KEPT`] pixels a side, all by one member, raw or equalised.
    ///
    /// # Errors
    /// A decoder fails.
    pub fn fresh(&mut self, n: usize) -> Result<Vec<Pair>> {
        let real = self.photos.batch(n, DRAWN, &mut self.rng);
        let enlarged = self.rng.chance(ENLARGED);
        let fake = self.redraw(&real, enlarged)?;
        let real = real.to_device(self.device);
        let (real, fake) = if enlarged {
            // Not equalised: with the spectrum of a plain enlargement, little of a synthetic one is
            // left.
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

    /// Resynthesises by a member, a decoder or random upsamplers; often by super-resolution if
    /// contrasted with plain enlargements.
    fn redraw(&mut self, real: &Tensor, enlarged: bool) -> Result<Tensor> {
        let rng = &mut self.rng;
        let enlarges =
            self.bank.iter().any(|one| one.member.halve) || self.decoders.iter().any(|one| one.factor > 1);
        let super_resolved = enlarged && enlarges && rng.chance(SUPER_RESOLVED);
        let randomly = rng.chance(RANDOM_UPSAMPLERS);
        let by_decoder = self.bank.is_empty() || rng.chance(DECODED);
        let fits = |enlarges: bool| enlarges || !super_resolved;
        let decoders: Vec<&Decoder> = self.decoders.iter().filter(|one| fits(one.factor > 1)).collect();
        let members: Vec<&Trained> = self.bank.iter().filter(|one| fits(one.member.halve)).collect();
        // Without a bank, only decoders are used.
        if randomly && !super_resolved && !self.bank.is_empty() {
            return Ok(traces::redraw(&real.to_device(self.device), rng));
        }
        if !decoders.is_empty() && (by_decoder || members.is_empty()) {
            return Ok(rng.pick(&decoders).redraw(real)?.to_device(self.device));
        }
        Ok(rng.pick(&members).redraw(&real.to_device(self.device)))
    }
}

/// Degrades and crops batches; shared by all threads that do so.
#[derive(Clone)]
pub struct Cutter<'a> {
    strangers: &'a [Strangers],
    policies: &'a [Policy],
    video: Option<Video>,
}

impl<'a> Cutter<'a> {
    /// One that only uses matched pairs, mildly degraded, to measure how well traces are detected.
    pub fn mild(strangers: &'a [Strangers]) -> Self {
        Self { strangers, policies: Degrade::Mild.policies(), video: None }
    }

    /// `n` of the matched pairs, of which there must be some, cropped to `side` pixels.
    ///
    /// # Errors
    /// As [`Cutter::batch`].
    pub fn pairs_alone(&self, n: usize, side: u32, rng: &mut Rng) -> Result<Batch> {
        let picks = (0..n).map(|_| {
            let of = rng.pick(self.strangers);
            let (real, fake) = *rng.pick(&of.pairs);
            Arc::new((of.real[real].clone(), of.fake[fake].clone()))
        });
        let picks: Vec<_> = picks.collect();
        Cutter { strangers: &[], ..self.clone() }.batch(&picks, side, rng)
    }

    /// One batch of `side` pixels: `picks`, a share of which strangers replace, degraded and
    /// cropped, both of a pair alike.
    ///
    /// # Errors
    /// The video codec fails.
    pub fn batch(&self, picks: &[Arc<Pair>], side: u32, rng: &mut Rng) -> Result<Batch> {
        let n = picks.len();
        // A quarter for a single collection, half when there are more.
        let strangers = n * self.strangers.len().min(2) / 4;
        let mut made: Vec<(RgbImage, RgbImage, bool)> = Vec::with_capacity(n);
        for (at, pick) in picks.iter().enumerate() {
            let mut plan = rng.pick(self.policies).draw(rng);
            let stranger = (at >= n - strangers).then(|| rng.pick(self.strangers));
            let (real, fake, paired) = match stranger {
                None => (&pick.0, &pick.1, true),
                Some(of) if !of.pairs.is_empty() => {
                    let (real, fake) = *rng.pick(&of.pairs);
                    (&of.real[real], &of.fake[fake], true)
                }
                Some(of) => {
                    let real = if of.real.is_empty() { &pick.0 } else { rng.pick(&of.real) };
                    (real, rng.pick(&of.fake), false)
                }
            };
            let shortest = |picture: &RgbImage| picture.width().min(picture.height()).min(KEPT);
            let shortest = shortest(real).min(shortest(fake));
            if let Some((factor, _)) = &mut plan.resize {
                // What is left must contain the crop.
                *factor = factor.max(side as f32 / shortest as f32);
            }
            let factor = plan.resize.map_or(1.0, |(factor, _)| factor);
            let span = (((side + ROOM) as f32 / factor).ceil() as u32).min(shortest);
            let place = (rng.unit(), rng.unit());
            let a = cut(real, span, place);
            let b = cut(fake, span, if paired { place } else { (rng.unit(), rng.unit()) });
            let (mut a, mut b) = (plan.apply(&a), plan.apply(&b));
            // A codec drops an odd last row; the crop must still fit.
            let whole = a.width().min(a.height()).min(b.width()).min(b.height()) > side;
            if let Some((codec, crf)) = self.video.and_then(|video| video.draw(rng)).filter(|_| whole) {
                (a, b) = (recode(&a, codec, crf)?, recode(&b, codec, crf)?);
            }
            let room = a.width().min(a.height()).min(b.width().min(b.height())).saturating_sub(side) as usize;
            let (x, y) = (rng.below(room + 1) as u32, rng.below(room + 1) as u32);
            let crop = |picture: &RgbImage| imageops::crop_imm(picture, x, y, side, side).to_image();
            made.push((crop(&a), crop(&b), paired));
        }
        // Pairs first, in their order.
        made.sort_by_key(|(_, _, paired)| !paired);
        let paired = made.iter().filter(|(_, _, paired)| *paired).count() as i64;
        let (real, fake): (Vec<RgbImage>, Vec<RgbImage>) = made.into_iter().map(|(a, b, _)| (a, b)).unzip();
        let bytes: Vec<u8> = real.iter().chain(&fake).flat_map(|p| p.as_raw().iter().copied()).collect();
        let side = i64::from(side);
        Ok(Batch { bytes: Tensor::from_slice(&bytes).reshape([2 * n as i64, side, side, 3]), paired })
    }
}

/// `span` x `span` of a picture at its own scale; `place` 0..1 says where.
fn cut(picture: &RgbImage, span: u32, place: (f32, f32)) -> RgbImage {
    let at = |all: u32, place: f32| (((all - span + 1) as f32 * place) as u32).min(all - span);
    let (x, y) = (at(picture.width(), place.0), at(picture.height(), place.1));
    imageops::crop_imm(picture, x, y, span, span).to_image()
}

fn recode(picture: &RgbImage, codec: VideoCodec, crf: u8) -> Result<RgbImage> {
    Ok(codec.recode(picture, crf)?)
}

/// Makes pairs and batches, one after the other; [`crate::feed`] does the same on several threads.
pub struct Pairs<'a> {
    /// Makes pairs.
    pub source: Source<'a>,
    /// Cuts batches of them.
    pub cutter: Cutter<'a>,
    /// Pairs so far.
    pub pool: Pool,
    rng: Rng,
    batches: u64,
}

impl<'a> Pairs<'a> {
    /// An empty pool.
    pub fn new(
        photos: &'a Photos,
        bank: Vec<Trained>,
        strangers: &'a [Strangers],
        policies: &'a [Policy],
        device: Device,
        rng: Rng,
    ) -> Self {
        let rings = Rings::new(DRAWN.into(), device);
        Pairs {
            source: Source { photos, bank, decoders: &[], rings, device, rng: rng.fork(1) },
            cutter: Cutter { strangers, policies, video: None },
            pool: Pool::default(),
            rng: rng.fork(2),
            batches: 0,
        }
    }

    /// From its parts.
    pub fn again(source: Source<'a>, cutter: Cutter<'a>, pool: Pool, rng: Rng) -> Self {
        Pairs { source, cutter, pool, rng, batches: 0 }
    }

    /// Passes pairs through a video codec too, last of all.
    pub fn through(mut self, video: Option<Video>) -> Self {
        self.cutter.video = video;
        self
    }

    /// Uses decoders too; without a bank, only these.
    ///
    /// # Errors
    /// Neither has a member.
    pub fn with_decoders(mut self, decoders: &'a [Decoder]) -> Result<Self> {
        ensure!(!decoders.is_empty() || !self.source.bank.is_empty(), "nothing is there that redraws");
        self.source.decoders = decoders;
        Ok(self)
    }

    /// Gives the bank back.
    pub fn into_bank(self) -> Vec<Trained> {
        self.source.bank
    }

    /// `n` new pairs of [`KEPT`] pixels a side.
    ///
    /// # Errors
    /// As [`Source::fresh`].
    pub fn fresh(&mut self, n: usize) -> Result<Vec<Pair>> {
        self.source.fresh(n)
    }

    /// `n` pairs as one batch of `side` pixels, degraded and cropped, both of a pair alike.
    ///
    /// # Errors
    /// As [`Source::fresh`] and [`Cutter::batch`].
    pub fn batch(&mut self, n: usize, side: u32) -> Result<Batch> {
        while !self.pool.is_filled(n) {
            self.pool.add(self.source.some()?, &mut self.rng);
        }
        self.batches += 1;
        if self.batches.is_multiple_of(BATCHES_A_REFILL) {
            self.pool.add(self.source.some()?, &mut self.rng);
        }
        let picks = self.pool.draw(n, &mut self.rng);
        self.cutter.batch(&picks, side, &mut self.rng)
    }
}

/// Fresh pairs come every other batch: with 16 pairs per batch, a pair is used about five times.
pub const BATCHES_A_REFILL: u64 = 2;

/// Pairs to draw from.
#[derive(Default)]
pub struct Pool(Vec<Arc<Pair>>);

impl Pool {
    /// Whether there is enough for a first batch of `n`; more come while training runs.
    pub fn is_filled(&self, n: usize) -> bool {
        self.0.len() >= n
    }

    /// Adds new pairs, or replaces old ones.
    pub fn add(&mut self, pairs: Vec<Pair>, rng: &mut Rng) {
        for pair in pairs.into_iter().map(Arc::new) {
            if self.0.len() < CAPACITY {
                self.0.push(pair);
            } else {
                self.0[rng.below(CAPACITY)] = pair;
            }
        }
    }

    /// `n` of them, at random.
    pub fn draw(&self, n: usize, rng: &mut Rng) -> Vec<Arc<Pair>> {
        (0..n).map(|_| rng.pick(&self.0).clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn matched_pairs_are_cut_in_one_place_and_come_first() {
        // Of a matched pair the generated picture is the real one, brighter; of the others it is
        // dark.
        let ramp = |offset: u8| {
            RgbImage::from_fn(150, 130, |x, y| {
                Rgb([1 + (x / 2) as u8 + offset, 1 + (y / 2) as u8 + offset, 90 + offset])
            })
        };
        let matched = Strangers { real: vec![ramp(0)], fake: vec![ramp(40)], pairs: vec![(0, 0)] };
        let loose = Strangers { real: vec![ramp(0)], fake: vec![RgbImage::new(140, 140)], pairs: vec![] };
        let strangers = [matched, loose];
        let cutter = Cutter { strangers: &strangers, policies: &[Policy::NONE], video: None };
        let pick = Arc::new((ramp(0), ramp(20)));
        let mut rng = Rng::new(4);
        let mut seen = [0; 2];
        for _ in 0..20 {
            let batch = cutter.batch(&vec![pick.clone(); 4], 64, &mut rng).unwrap();
            let x = batch.pixels(Device::Cpu) * 255.0;
            assert_eq!(x.size(), [8, 3, 64, 64]);
            // Two of the pool, and of two strangers those that are matched.
            assert!((2..=4).contains(&batch.paired));
            for at in 0..4 {
                let lift = x.get(at + 4) - x.get(at);
                let (low, high) =
                    (lift.min().double_value(&[]).round(), lift.max().double_value(&[]).round());
                if at < batch.paired {
                    assert!(low == high && (low == 20.0 || low == 40.0), "{low} to {high}");
                    seen[usize::from(low == 40.0)] += 1;
                } else {
                    assert!(high < 0.0, "{high}");
                }
            }
        }
        assert!(seen[0] == 40 && seen[1] > 5, "{seen:?}");
    }
}
