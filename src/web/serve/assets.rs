//! What a browser loads, embedded: the page works without a network and without a build step.

/// A file of the page.
pub(super) struct Asset {
    /// Path in the address.
    pub path: &'static str,
    /// Type of its content.
    pub mime: &'static str,
    /// Its content.
    pub text: &'static str,
}

const fn asset(path: &'static str, mime: &'static str, text: &'static str) -> Asset {
    Asset { path, mime, text }
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// The page itself.
pub(super) const PAGE: &str = include_str!("assets/index.html");
/// What asks for the token.
pub(super) const LOGIN: &str = include_str!("assets/login.html");

/// All files that the page loads.
pub(super) const ASSETS: [Asset; 12] = [
    asset("/assets/app.js", JS, include_str!("assets/app.js")),
    asset("/assets/base.js", JS, include_str!("assets/base.js")),
    asset("/assets/sources.js", JS, include_str!("assets/sources.js")),
    asset("/assets/events.js", JS, include_str!("assets/events.js")),
    asset("/assets/review.js", JS, include_str!("assets/review.js")),
    asset("/assets/spectrum.js", JS, include_str!("assets/spectrum.js")),
    asset("/assets/map.js", JS, include_str!("assets/map.js")),
    asset("/assets/app.css", CSS, include_str!("assets/app.css")),
    asset("/assets/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    // uPlot 1.6.32, MIT: 50 kB, no dependencies, draws years of points on a canvas.
    asset("/assets/uplot.js", JS, include_str!("assets/uplot.js")),
    asset("/assets/uplot.css", CSS, include_str!("assets/uplot.css")),
    asset("/assets/uplot.LICENSE", "text/plain; charset=utf-8", include_str!("assets/uplot.LICENSE")),
];
