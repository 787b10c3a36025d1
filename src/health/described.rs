//! How what other members write as JSON is described to whoever reads the API: those members are kept free of a library
//! for descriptions. The test holds both together.

use serde::Deserialize;
use utoipa::ToSchema;

/// A judged piece of a frame, in pixels.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct Tile {
    /// Left edge.
    x: u32,
    /// Top edge.
    y: u32,
    /// Width.
    width: u32,
    /// Height.
    height: u32,
    /// Its score, 0 to 1.
    score: f64,
}

/// What each part of the detector said of a frame, as logits: positive speaks for synthetic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct Logits {
    /// The network's.
    network: f32,
    /// The coherent part's; not there where there is none.
    #[serde(default)]
    #[schema(nullable = false)]
    coherence: Option<f32>,
    /// The factor by which the picture was scaled, where the coherent part assumes one.
    #[serde(default)]
    #[schema(nullable = false)]
    scale: Option<f64>,
}

/// How synthetic each place has looked, row by row.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code)]
pub(crate) struct Map {
    /// Width of the frame in pixels.
    width: u32,
    /// Height of the frame in pixels, of the field where one is judged.
    height: u32,
    /// Cells from left to right.
    columns: u32,
    /// Cells from top to bottom.
    rows: u32,
    /// Side of a cell in pixels.
    side: u32,
    /// A score for each cell, 0 to 1; null where nothing was judged.
    values: Vec<Option<f32>>,
    /// How many judged tiles have covered each cell.
    judged: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judgement::{self, HeatMap, ScoredTile};
    use crate::raster::Rect;

    #[test]
    fn the_description_is_that_of_what_is_written() {
        let rect = Rect { x: 1, y: 2, width: 3, height: 4 };
        let tile = serde_json::to_value(ScoredTile { rect, score: 0.5 }).expect("JSON");
        assert_eq!(tile.as_object().expect("an object").len(), 5);
        serde_json::from_value::<Tile>(tile).expect("a tile");
        let logits = judgement::Logits { network: 1.0, coherence: Some(2.0), scale: Some(1.5) };
        serde_json::from_value::<Logits>(serde_json::to_value(logits).expect("JSON")).expect("logits");
        let zero = std::time::SystemTime::UNIX_EPOCH;
        let (values, judged) = (vec![None, Some(0.5)], vec![0, 1]);
        let map = HeatMap {
            since: zero,
            at: zero,
            width: 64,
            height: 32,
            columns: 2,
            rows: 1,
            side: 32,
            values,
            judged,
        };
        let map = serde_json::to_value(map).expect("JSON");
        assert_eq!(map.as_object().expect("an object").len(), 7);
        serde_json::from_value::<Map>(map).expect("a map");
    }
}
