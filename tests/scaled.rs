//! A picture that was scaled after it was generated is read on the grid that it had before.

use std::sync::Arc;

use image::RgbImage;
use image::imageops::FilterType;
use spotd::detector::Model;
use spotd::detector::scoring::{Accumulated, Detector, FrameScore};
use spotd::forensics::augment::{JpegCodec, jpeg, resize};
use spotd::forensics::scenes::SceneRenderer;
use spotd::frame::Frame;
use spotd::identity::Wanted;
use spotd::source::demo::{HEIGHT, Resynthesis, WIDTH};
use spotd::verdict::Verdict;

const TILES: usize = 9;
/// A seed that is neither in the training scenes nor in the demonstration.
const FIRST_SCENE: u64 = 510_000;

fn frame(picture: RgbImage) -> Frame {
    Frame::still(Arc::from("set"), picture)
}

/// As a site that shows 640 pixels on 960 would store it.
fn enlarged(picture: &RgbImage) -> RgbImage {
    jpeg(&resize(picture, 1.5, FilterType::CatmullRom), JpegCodec::Quartered, 92)
}

#[test]
fn a_redrawn_scene_that_was_enlarged_is_found_on_the_grid_of_its_factor() {
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    assert!(model.scales().contains(&1.5), "{:?}", model.scales());
    let detector = Detector::of(&model, TILES);
    let network = Resynthesis::new().expect("the demonstration's network");
    for scene in 0..3 {
        let real = SceneRenderer::new(FIRST_SCENE + scene, WIDTH, HEIGHT).frame(5);
        let fake = network.apply(&real).expect("redrawn");
        let said =
            |picture: &RgbImage| -> FrameScore { detector.score(frame(enlarged(picture))).expect("judged") };
        let (real, fake) = (said(&real), said(&fake));
        assert_eq!(fake.parts.scale, Some(1.5), "scene {scene}: {:?}", fake.parts);
        let own = &fake.readings.as_ref().expect("readings").own;
        let own = model.coherent(own, &[]).expect("runs").expect("a coherent part");
        let (found, own) = (fake.parts.coherence.expect("a logit"), own.logit);
        assert!(found > own + 1.0, "scene {scene}: {found} on its grid, {own} on the frame's");
        assert_ne!(real.verdict(detector.limits()), Verdict::Synthetic, "scene {scene}: {:?}", real.parts);
    }
}

#[test]
fn frames_of_a_feed_are_read_on_one_grid_more_each_and_add_up() {
    let model = Model::open(None, Wanted::Auto).expect("the built-in detector");
    let network = Resynthesis::new().expect("the demonstration's network");
    let mut scene = SceneRenderer::new(FIRST_SCENE, WIDTH, HEIGHT);
    let detector = Detector::of(&model, TILES);
    let mut accumulated = Accumulated::new(9);
    let mut scales = vec![];
    for at in 0..2 * model.scales().len() as u64 {
        let fake = network.apply(&scene.frame(at)).expect("redrawn");
        let score = accumulated.score(&detector, frame(enlarged(&fake))).expect("judged");
        let read = score.readings.expect("readings").scaled.iter().filter(|s| s.is_some()).count();
        assert_eq!(read, 1, "frame {at}");
        scales.push(score.parts.scale);
    }
    // Once its turn has come, the right grid has the strongest reading.
    let turn = model.scales().iter().position(|&scale| scale == 1.5).expect("among them");
    assert!(scales[turn..].iter().all(|scale| *scale == Some(1.5)), "{scales:?}");
}
