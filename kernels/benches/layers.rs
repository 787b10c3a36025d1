//! Layers of real networks on each instruction set of this processor.

#[path = "layers/list.rs"]
#[allow(dead_code, reason = "another uses the rest")]
mod list;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use list::Weights;
use spotd_kernels::{Isa, Scratch};

fn bench(c: &mut Criterion) {
    let scratch = &mut Scratch::new();
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
        for weights in [Weights::Any, Weights::Half] {
            if isa != Isa::Avx2 && weights == Weights::Half {
                continue;
            }
            let mut group = c.benchmark_group(format!("{isa} {weights:?}"));
            group.sample_size(20).measurement_time(std::time::Duration::from_secs(1));
            for mut layer in list::layers(isa, weights) {
                group.throughput(Throughput::Elements(layer.macs));
                group.bench_function(layer.name.clone(), |b| b.iter(|| layer.run(scratch)));
            }
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
