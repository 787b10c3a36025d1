//! Gradients on CUDA and on the CPU are the same. Where there is no GPU this is said, and the CPU
//! alone is held against itself with the batch in another order, which rounds differently.

use spotd_train::{
    device,
    module::Module,
    net::{self, Net},
    resnet::{Depth, imagenet, resnet},
};
use tch::{Device, Kind, Reduction, Tensor, nn::VarStore};

/// Gradients of the loss over one batch whose pictures come in this order, by name, as float64 on
/// the CPU.
fn gradients(net: &Net, device: Device, order: [i64; 4]) -> Vec<(String, Tensor)> {
    tch::manual_seed(3);
    let order = Tensor::from_slice(&order);
    let x = Tensor::rand([4, 3, 96, 96], (Kind::Float, Device::Cpu)).index_select(0, &order);
    let labels = Tensor::from_slice(&[0f32, 1.0, 0.0, 1.0]).index_select(0, &order);
    let mut store = VarStore::new(Device::Cpu);
    let module = Module::new(&store.root(), net);
    // Drawn on the CPU whatever the device: each has random numbers of its own.
    let start: Vec<(String, Tensor)> =
        store.variables().into_iter().map(|(n, v)| (n, v.detach().copy())).collect();
    let module = if device == Device::Cpu {
        module
    } else {
        store = VarStore::new(device);
        let module = Module::new(&store.root(), net);
        let variables = store.variables();
        for (name, value) in &start {
            tch::no_grad(|| variables[name].shallow_clone().copy_(value));
        }
        module
    };
    let (x, labels) = (x.to_device(device), labels.to_device(device));
    let logits = module.forward(&x, true).squeeze_dim(1);
    logits
        .binary_cross_entropy_with_logits(&labels, None::<&Tensor>, None::<&Tensor>, Reduction::Mean)
        .backward();
    let mut gradients: Vec<(String, Tensor)> = store
        .variables()
        .into_iter()
        .filter(|(_, v)| v.requires_grad())
        .map(|(name, v)| (name, v.grad().to_device(Device::Cpu).to_kind(Kind::Double).view(-1)))
        .collect();
    gradients.sort_by(|a, b| a.0.cmp(&b.0));
    gradients
}

/// The length of the difference of all gradients as a share of their length.
fn apart(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> f64 {
    let names = |list: &[(String, Tensor)]| list.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    let whole = |list: &[(String, Tensor)]| Tensor::cat(&list.iter().map(|(_, g)| g).collect::<Vec<_>>(), 0);
    let (a, b) = (whole(a), whole(b));
    let length = b.norm().double_value(&[]);
    assert!(length > 1e-3, "gradients of nothing prove nothing: {length}");
    (a - b).norm().double_value(&[]) / length
}

#[test]
fn cuda_and_the_cpu_give_the_same_gradients() {
    let device = device::choose();
    tch::set_num_threads(1);
    for net in [net::edge(), resnet(Depth::Resnet18, 1, imagenet()).net] {
        let cpu = gradients(&net, Device::Cpu, [0, 1, 2, 3]);
        let again = apart(&gradients(&net, Device::Cpu, [2, 0, 3, 1]), &cpu);
        println!("{}: on the CPU, in another order, {again:.1e} apart", net.name);
        assert!(again < 1e-3, "{}: {again}", net.name);
        if device.is_cuda() {
            // Convolutions of cuDNN may round their factors to TF32's 10 bits.
            let cuda = apart(&gradients(&net, device, [0, 1, 2, 3]), &cpu);
            println!("{}: CUDA and CPU {cuda:.1e} apart", net.name);
            assert!(cuda < 2e-2, "{}: {cuda}", net.name);
        }
    }
    if !device.is_cuda() {
        eprintln!(
            "\n*** SKIPPED: no CUDA on this machine, so its gradients were not compared with the CPU's ***\n"
        );
    }
}
