//! A layer allocates nothing once its scratch is warm.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use spotd_kernels::*;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_once_the_scratch_is_warm() {
    for isa in common::isas() {
        let scratch = &mut Scratch::new();
        let quant = Quant::s8(0.1, 3);
        let layers =
            [(8, 8, 1, 1), (3, 16, 3, 1), (32, 32, 3, 32), (8, 24, 5, 4)].map(|(cin, cout, k, groups)| {
                let conv = Conv {
                    groups,
                    padding: Padding::same(k / 2),
                    ..Conv::new(cin, cout, [k, k], quant, vec![0.1], Output::Bytes(quant))
                };
                PackedConv::for_isa(isa, conv, &vec![1; cout * cin / groups * k * k], &vec![0; cout]).unwrap()
            });
        let pool = PackedPool::for_isa(isa, Pool::global_average(8, quant, quant)).unwrap();
        let dims = Dims::new(2, 9, 11);
        let input = vec![7; dims.len(32).unwrap()];
        let mut output = input.clone();
        let mut counts = [0; 2];
        for count in &mut counts {
            let before = COUNT.get();
            for layer in &layers {
                let (i, o) = (layer.conv().in_channels, layer.conv().out_channels);
                let pixels = dims.pixels().unwrap();
                layer.run(&input[..i * pixels], dims, &mut output[..o * pixels], None, scratch).unwrap();
            }
            pool.run(&input[..8 * 2 * 99], dims, &mut output[..16], scratch).unwrap();
            *count = COUNT.get() - before;
        }
        assert!(counts[0] > 0, "{isa}: the first call warms the scratch");
        assert_eq!(counts[1], 0, "{isa}");
        assert!(scratch.bytes() > 0);
    }
}
